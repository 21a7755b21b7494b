"""Facial expressions: one spelling for each, and the orders in which datasets number them."""

import re
from collections.abc import Iterable, Sequence

from distill.errors import InputError
from distill.refusals import alternatives

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
    "affectnet": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    "affectnet7": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"),
    "rafdb": ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
    "ckextended": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"),
}
"""In what order datasets number the expressions; "ckextended" is CK+ as a CSV file like fer2013.csv."""

FIRST_NUMBERS = {"rafdb": 1}
"""What the first class is numbered as published, where that is not 0."""

ALPHABETICAL = "alphabetical"
"""The names of the data, sorted: the order in which folder readers such as those of Keras number classes."""

_CANONICAL = {spelling: name for name, others in SPELLINGS.items() for spelling in (name, *others)}


def canonical_name(name: str) -> str:
    """Return the project's spelling of an expression; a name that is not an expression is returned as it is."""
    return _CANONICAL.get(name.strip().lower(), name.strip())


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Order class names that came without an order, such as the folders of a dataset.

    A set of names that a known dataset uses takes that dataset's order, so that folders and files of
    the same images agree on the labels. FER+ and MicroExpNet share one set; the MicroExpNet order wins.
    Any other set is sorted alphabetically, as `keras.utils.image_dataset_from_directory` does.
    """
    canonical = {canonical_name(name) for name in names}
    for known in ("fer2013", "ckplus", "microexpnet"):
        if canonical == set(CLASS_ORDERS[known]):
            return CLASS_ORDERS[known]
    return tuple(sorted(canonical))


def known_order(text: str) -> str | None:
    """Return the row of `CLASS_ORDERS` that `text` names, however it is spelt, such as "RAF-DB"."""
    order = re.sub("[^a-z0-9]", "", text.lower().replace("+", "plus"))
    return order if order in CLASS_ORDERS else None


def parse_class_names(text: str, data_classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names that `text` means: a row of `CLASS_ORDERS`, or names in order, with commas between.

    Args:
        data_classes: the names that "alphabetical" sorts.

    Raises:
        InputError: neither, a name that stands twice, or "alphabetical" without names to sort.
    """
    if text == ALPHABETICAL:
        if not data_classes:
            raise InputError(f'classes "{ALPHABETICAL}" sorts the names of the data, and there are none: list them')
        return tuple(sorted(data_classes))
    if text in CLASS_ORDERS:
        return CLASS_ORDERS[text]
    names = text.split(",")
    if len(names) < 2:
        hint = alternatives(text, (*CLASS_ORDERS, ALPHABETICAL))
        raise InputError(f'unknown class order "{text}": {hint}, or give the names with commas between')
    return checked_names(names)


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names in the project's spelling; unlike those in one text, they may have commas.

    Raises:
        InputError: one is empty, or two are the same.
    """
    spelt = tuple(map(canonical_name, names))
    if "" in spelt or len(set(spelt)) < len(spelt):
        raise InputError(f'class names "{",".join(names)}" must all be there, and each once')
    return spelt


def class_columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return where each class of `wanted` stands in `names`; the spelling of an expression does not matter.

    Raises:
        InputError: a class that `names` lacks.
    """
    positions = {canonical_name(name): position for position, name in enumerate(names)}
    absent = [name for name in wanted if canonical_name(name) not in positions]
    if absent:
        raise InputError(f"no {', '.join(absent)} among the classes {', '.join(names)}: every class must be there")
    return [positions[canonical_name(name)] for name in wanted]
