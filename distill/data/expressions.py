"""Facial expressions: one spelling for each, and the orders in which data sets number them."""

from collections.abc import Iterable, Sequence

SPELLINGS = {
    "angry": ("anger",),
    "contempt": ("contemptuous",),
    "disgust": ("disgusted",),
    "fear": ("fearful", "afraid", "scared"),
    "happy": ("happiness", "joy"),
    "neutral": ("neutrality",),
    "sad": ("sadness",),
    "surprise": ("surprised",),
}

CLASS_ORDERS = {
    "fer2013": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    "ferplus": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"),
    "microexpnet": ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise"),
    "ckplus": ("angry", "contempt", "disgust", "fear", "happy", "sad", "surprise"),
}

MAX_CLASSES = 1000
"""A file that numbers more classes than this is taken for something else than labels."""

_CANONICAL = {spelling: name for name, others in SPELLINGS.items() for spelling in (name, *others)}


def canonical_name(name: str) -> str:
    """Return the project's spelling of an expression; a name that is no expression is returned as it is."""
    return _CANONICAL.get(name.strip().lower(), name.strip())


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Order class names that came without an order, such as the folders of a data set.

    A set of names that a known data set uses takes that data set's order, so that folders and files of
    the same images agree on the labels. FER+ and MicroExpNet share one set; the MicroExpNet order wins.
    Any other set is sorted alphabetically, as `keras.utils.image_dataset_from_directory` does.
    """
    canonical = {canonical_name(name) for name in names}
    for known in ("fer2013", "ckplus", "microexpnet"):
        if canonical == set(CLASS_ORDERS[known]):
            return CLASS_ORDERS[known]
    return tuple(sorted(canonical))


def numbered_classes(count: int, known: Sequence[str] = ("fer2013", "microexpnet")) -> tuple[str, ...]:
    """Name the classes of a file that only numbers them.

    The first of the `known` orders with `count` classes is taken; with none, the names are "0", "1", ...
    """
    for order in known:
        if len(CLASS_ORDERS[order]) == count:
            return CLASS_ORDERS[order]
    return tuple(str(number) for number in range(count))
