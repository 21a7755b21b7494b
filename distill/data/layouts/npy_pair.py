"""`X-images.npy` and `X-labels.npy`: two arrays side by side, of which the images stay on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from distill.data.arrays import checked_images, from_rows, label_rows
from distill.data.class_labels import ClassList, read_labels
from distill.data.dataset import ArrayImages, Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.files.numpy_files import load_array, open_rows

Array = TypeVar("Array")
_IMAGES, _LABELS = "-images.npy", "-labels.npy"
_KNOWN = {"fer2013": "nothing says what the numbers mean"}


def recognise(path: Path) -> bool:
    """Whether `path` is named as one file of a pair."""
    return path.is_file() and path.name.endswith((_IMAGES, _LABELS))


def first_of_pair(path: Path) -> Path:
    """Return the images' file for the labels' file of a pair; any other path is returned as it is."""
    return path.with_name(path.name.removesuffix(_LABELS) + _IMAGES) if path.name.endswith(_LABELS) else path


def read(path: Path, classes: ClassList | None = None) -> Dataset:
    """Read a pair of arrays; `path` is either of the two.

    Images are uint8 [N, H, W] or [N, H, W, 1 or 3] and stay on disk. Labels are integers [N], or float
    rows [N, C] that sum to 1: one-hot rows give plain labels, any other rows give `label_probs` with
    their largest entry as the label. They mean the classes of `classes`; where nobody named any, seven are those
    of FER2013. Ids are "row/00000"; there are no splits.

    Raises:
        InputError: a file of the pair is missing, pickled or damaged, its shape, type, length or values are not as
            above, or nobody has named its classes.
    """
    images_path = first_of_pair(path)
    labels_path = images_path.with_name(images_path.name.removesuffix(_IMAGES) + _LABELS)
    images = checked_images(_opened(open_rows, images_path), source=str(images_path))
    rows = label_rows(_opened(load_array, labels_path), count=len(images), source=str(labels_path))
    numbers, probs = (rows, None) if rows.ndim == 1 else from_rows(rows, source=str(labels_path))
    class_names, labels, notes = _meaning(numbers, labels_path, classes, columns=rows.shape[1:])
    return Dataset(
        name=str(images_path),
        ids=np.array([f"row/{row:05d}" for row in range(len(images))]),
        labels=labels,
        class_names=class_names,
        images=ArrayImages(images),
        splits=np.full(len(images), "", "U10"),
        label_probs=probs,
        notes=notes,
    )


def _meaning(
    numbers: np.ndarray, path: Path, classes: ClassList | None, *, columns: tuple[int, ...]
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """Return the class names, the labels, int64 [N], and notes; `columns` is the number of them in one-hot rows."""
    different, row = np.unique(numbers, return_index=True)
    count = columns[0] if columns else int(different[-1]) + 1
    if columns and classes is not None:
        if len(classes.names) != count:
            raise InputError(
                f"{path} has {count} columns, {classes.source} names {len(classes.names)} classes, "
                f"{', '.join(classes.names)}: name one for each column"
            )
        return classes.names, numbers, ()
    first_row = {str(number): position for number, position in zip(different, row, strict=True)}
    meaning = read_labels(
        map(str, range(count)) if columns else first_row,
        classes,
        source=path,
        where=lambda label: f"{path} row {first_row[label]}",
        known=_KNOWN if count == len(CLASS_ORDERS["fer2013"]) else None,
    )
    positions = np.array([meaning.positions[str(number)] for number in different], np.int64)
    return meaning.class_names, positions[np.searchsorted(different, numbers)], meaning.notes


def _opened(read: Callable[[Path], Array], path: Path) -> Array:
    if not path.is_file():
        raise InputError(f"{path} is missing: the pair is X{_IMAGES} and X{_LABELS} in one folder")
    try:
        return read(path)
    except ValueError as error:
        raise InputError(
            f"{path} is not a plain NumPy array ({error}): write it with numpy.save, without objects"
        ) from error
