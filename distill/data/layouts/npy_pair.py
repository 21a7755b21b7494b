"""`X-images.npy` and `X-labels.npy`: two arrays side by side, the images memory-mapped."""

from pathlib import Path

import numpy as np

from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import MAX_CLASSES, numbered_classes
from distill.errors import InputError

_IMAGES, _LABELS = "-images.npy", "-labels.npy"


def recognise(path: Path) -> bool:
    """Whether `path` is named as one file of a pair."""
    return path.is_file() and path.name.endswith((_IMAGES, _LABELS))


def first_of_pair(path: Path) -> Path:
    """Return the images' file for the labels' file of a pair; any other path is returned as it is."""
    return path.with_name(path.name.removesuffix(_LABELS) + _IMAGES) if path.name.endswith(_LABELS) else path


def read(path: Path) -> Dataset:
    """Read a pair of arrays; `path` is either of the two.

    Images are uint8 [N, H, W] or [N, H, W, 1 or 3] and stay on disk. Labels are integers [N], or float
    rows [N, C] that sum to 1: one-hot rows give plain labels, any other rows give `label_probs` with
    their largest entry as the label. Ids are "row/00000"; there are no splits.

    Raises:
        InputError: a file of the pair is missing, pickled or damaged, or its shape, type, length or
            values are not as above.
    """
    images_path = first_of_pair(path)
    labels_path = images_path.with_name(images_path.name.removesuffix(_IMAGES) + _LABELS)
    images = _images(_load(images_path), images_path)
    rows = _label_rows(_load(labels_path), labels_path, count=len(images))
    labels, probs, classes = (_from_numbers if rows.ndim == 1 else _from_rows)(rows, labels_path)
    class_names = numbered_classes(classes)
    return Dataset(
        name=str(images_path),
        ids=np.array([f"row/{row:05d}" for row in range(len(images))]),
        labels=labels,
        class_names=class_names,
        images=ArrayImages(images),
        splits=np.full(len(images), "", "U10"),
        label_probs=probs,
        notes=(f"the labels are taken to mean {', '.join(class_names)}, in this order",),
    )


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} is missing: the pair is X{_IMAGES} and X{_LABELS} in one folder")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is no plain NumPy array ({reason}): write it with numpy.save, without objects"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays: write one array with numpy.save, not numpy.savez")
    return array


def _images(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype != np.uint8:
        raise InputError(
            f"{path} holds {array.dtype}, expected uint8 pixels of 0..255: "
            "convert with images.astype('uint8'), after (images * 255).round() if they are 0..1"
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or not array.size:
        raise InputError(f"{path} has shape {array.shape}, expected [N, height, width, 1 or 3]")
    return array


def _label_rows(array: np.ndarray, path: Path, *, count: int) -> np.ndarray:
    """Return the labels as an array of numbers, [count] or [count, C]."""
    expected = f"expected integers of shape ({count},) or one-hot rows of shape ({count}, classes)"
    if array.ndim not in (1, 2) or len(array) != count:
        raise InputError(f"{path} has shape {array.shape} for {count} images, {expected}")
    integral, numeric = (np.issubdtype(array.dtype, kind) for kind in (np.integer, np.number))
    if array.shape[1:] == (1,):
        array = array[:, 0]
    if not (integral if array.ndim == 1 else numeric):
        raise InputError(f"{path} holds {array.dtype}, {expected}")
    return array


def _from_numbers(labels: np.ndarray, path: Path) -> tuple[np.ndarray, None, int]:
    """Return labels, no soft labels, and the number of classes."""
    outside = (labels < 0) | (labels >= MAX_CLASSES)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(f"{path} row {row}: label {labels[row]}, expected 0..{MAX_CLASSES - 1}")
    labels = labels.astype(np.int64)
    return labels, None, max(int(labels.max()) + 1, 2)


def _from_rows(rows: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return labels, soft labels unless every row is one-hot, and the number of classes."""
    probs = np.array(rows, np.float32)
    wrong = (probs < 0).any(axis=1) | ~np.isclose(probs.sum(axis=1), 1, atol=1e-3)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{path} row {row}: {probs[row].tolist()}, expected values of 0..1 that sum to 1")
    one_hot = (probs.max(axis=1) == 1).all()
    return probs.argmax(axis=1).astype(np.int64), None if one_hot else probs, probs.shape[1]
