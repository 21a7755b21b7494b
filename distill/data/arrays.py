"""Images and labels as arrays, whoever they come from: what they must be, and as what they are kept."""

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np

from distill.data.expressions import canonical_name, class_order
from distill.errors import InputError
from distill.files.numpy_files import RowsOnDisk

MAX_CLASSES = 1000
"""Of a dataset: numbers above are taken for something else than labels."""
_ROWS = 1024  # converted at a time
_NO_NAMES = ("", "nan")  # the latter as NumPy writes what a table lacks


class Labels(NamedTuple):
    """What is known of N images."""

    numbers: np.ndarray
    """int64 [N]: positions among the classes."""
    probs: np.ndarray | None
    """float32 [N, C]: soft labels, where they are more than numbers."""
    count: int  # type: ignore[assignment]  # hides the method of tuples, which nobody needs here
    """Of classes, at least 2: as many as the labels need."""


@overload
def checked_images(
    array: np.ndarray, *, source: str, pixel_range: tuple[float, float] | None = None
) -> np.ndarray: ...


@overload
def checked_images(
    array: np.ndarray | RowsOnDisk, *, source: str, pixel_range: tuple[float, float] | None = None
) -> np.ndarray | RowsOnDisk: ...


def checked_images(
    array: np.ndarray | RowsOnDisk, *, source: str, pixel_range: tuple[float, float] | None = None
) -> np.ndarray | RowsOnDisk:
    """Return images as uint8 [N, height, width, 1 or 3]; what is uint8 stays where it is, such as on disk.

    Args:
        array: [N, height, width] or [N, height, width, 1 or 3].
        source: what messages call it.
        pixel_range: what black and white are in `array`; None: it must be uint8, of 0..255.

    Raises:
        InputError: another shape, no image, or another type or other values than was said.
    """
    if array.ndim == 3:
        array = array.reshape(*array.shape, 1)
    if pixel_range is None and array.dtype != np.uint8:
        raise InputError(
            f"{source} holds {array.dtype}, expected uint8 pixels of 0..255: "
            "convert with images.astype('uint8'), after (images * 255).round() if they are 0..1, or give "
            "their pixel_range to Dataset.from_arrays"
        )
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or not array.size:
        hint = ", channels last: images.transpose(0, 2, 3, 1)" if array.ndim == 4 and array.shape[1] in (1, 3) else ""
        raise InputError(f"{source} has shape {array.shape}, expected [N, height, width, 1 or 3]{hint}")
    if pixel_range is None or (array.dtype == np.uint8 and tuple(pixel_range) == (0, 255)):
        return array
    in_memory = array[np.arange(len(array))] if isinstance(array, RowsOnDisk) else array
    return _in_eight_bits(in_memory, source, pixel_range)


def _in_eight_bits(array: np.ndarray, source: str, pixel_range: tuple[float, float]) -> np.ndarray:
    black, white = map(float, pixel_range)
    if not black < white:
        raise InputError(f"pixel_range must be black below white, such as (0, 1), received {pixel_range}")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise InputError(f"{source} holds {array.dtype}, expected numbers")
    pixels, tolerance = np.empty(array.shape, np.uint8), (white - black) * 1e-4
    for start in range(0, len(array), _ROWS):
        rows = np.asarray(array[start : start + _ROWS], np.float64)
        low, high = rows.min(), rows.max()
        if not (black - tolerance <= low and high <= white + tolerance):  # true of no NaN
            raise InputError(f"{source} holds values of {low:g}..{high:g}, pixel_range says {black:g}..{white:g}")
        pixels[start : start + _ROWS] = ((rows - black) * (255 / (white - black))).round().clip(0, 255)
    return pixels


def label_rows(array: np.ndarray, *, count: int, source: str) -> np.ndarray:
    """Return labels as integers [N], or as rows of numbers [N, C].

    Args:
        array: integers [N] or [N, 1], or numbers [N, C].
        count: N.
        source: what messages call them.

    Raises:
        InputError: another shape or type.
    """
    expected = f"expected integers of shape ({count},) or one-hot rows of shape ({count}, classes)"
    if array.ndim not in (1, 2) or len(array) != count:
        raise InputError(f"{source} has shape {array.shape} for {count} images, {expected}")
    integral, numeric = (np.issubdtype(array.dtype, kind) for kind in (np.integer, np.number))
    if array.shape[1:] == (1,):
        array = array[:, 0]
    if not (integral if array.ndim == 1 else numeric):
        raise InputError(f"{source} holds {array.dtype}, {expected}")
    return array


def from_rows(rows: np.ndarray, *, source: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the class of each row, int64 [N], its largest entry, and the rows themselves, unless all are one-hot.

    Raises:
        InputError: a row that does not sum to 1. The message names it.
    """
    probs = np.array(rows, np.float32)
    wrong = no_probabilities(probs)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{source} row {row}: {probs[row].tolist()}, expected values of 0..1 that sum to 1")
    one_hot = (probs.max(axis=1) == 1).all()
    return probs.argmax(axis=1).astype(np.int64), None if one_hot else probs


def no_probabilities(rows: np.ndarray) -> np.ndarray:
    """Return which rows, float [N, C], are not values of 0..1 that sum to 1: bool [N]."""
    return ~((rows >= 0).all(axis=1) & np.isclose(rows.sum(axis=1), 1, atol=1e-3))  # true of NaN, too


def checked_labels(array: np.ndarray, *, count: int, source: str) -> Labels:
    """Return the labels that numbers or rows of probabilities say; -1 is none.

    Raises:
        InputError: whatever `label_rows` and `from_rows` refuse, or a number that no class has.
    """
    rows = label_rows(array, count=count, source=source)
    if rows.ndim == 2:
        return Labels(*from_rows(rows, source=source), rows.shape[1])
    outside = (rows < -1) | (rows >= MAX_CLASSES)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(f"{source} row {row}: label {rows[row]}, expected -1..{MAX_CLASSES - 1}")
    return Labels(rows.astype(np.int64), None, max(int(rows.max()) + 1, 2))


def checked_class_names(names: Sequence[str] | None, labels: Labels, *, source: str) -> tuple[str, ...]:
    """Return the names of the classes in the project's spelling; without any, "0", "1", ...

    Raises:
        InputError: a name that is not text or stands twice, or another number of them than the labels need.
    """
    if names is None:
        return tuple(map(str, range(labels.count)))
    if isinstance(names, str) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f"class_names must be a sequence of names, received {names!r}")
    spelt = tuple(map(canonical_name, names))
    if len(spelt) < 2 or len(set(spelt)) < len(spelt):
        raise InputError(f"class_names must be two or more, each once, received {', '.join(spelt)}")
    highest, needed = int(labels.numbers.max(initial=-1)), labels.probs is not None and labels.count
    if highest >= len(spelt) or needed not in (False, len(spelt)):
        raise InputError(f"{source} is of {max(highest + 1, needed)} classes, class_names has {len(spelt)}")
    return spelt


def named_labels(
    array: np.ndarray, names: Sequence[str] | None, *, source: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels that are names, texts or bytes [N], as int64 [N], and the class names: `names`, or those found.

    Raises:
        InputError: a label that is none of `names`, or no name, as None and NaN are.
    """
    texts = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in array]
    missing = [name is None or text.strip().lower() in _NO_NAMES for name, text in zip(array, texts, strict=True)]
    strange = [not isinstance(name, str | bytes) for name in array]
    for found in (missing, strange):
        if any(found):
            row = found.index(True)
            raise InputError(
                f"{source} row {row}: label {array[row]!r}, expected a name: omit images without a label, or "
                "give labels as numbers, where -1 is none"
            )
    spelt = np.array([canonical_name(text) for text in texts])
    class_names = class_order(spelt) if names is None else tuple(map(canonical_name, names))
    unknown = np.flatnonzero(~np.isin(spelt, class_names))
    if len(unknown):
        row = int(unknown[0])
        raise InputError(f'{source} row {row}: label "{texts[row]}", expected one of {", ".join(class_names)}')
    return np.array([class_names.index(name) for name in spelt], np.int64), class_names
