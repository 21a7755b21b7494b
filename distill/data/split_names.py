"""What datasets call their splits: folders, the values of a CSV column, and the beginnings of file names."""

import re
from collections.abc import Sequence

from distill.errors import InputError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "development", "public test"),
    "test": ("test", "testing", "private test"),
}
"""What every split is called. Case, spaces, digits and the words of `_AROUND` do not matter: "FER2013Valid"."""

_AROUND = (
    "fer",
    "plus",
    "ck",
    "raf",
    "db",
    "data",
    "dataset",
    "images?",
    "imgs?",
    "faces?",
    "sets?",
    "split",
    "folder",
)
_UNDECIDED = ("eval", "evaluation", "holdout", "heldout")  # whether validation or test is meant is not known

_SPLIT_OF = {name.replace(" ", ""): split for split, names in SPLIT_NAMES.items() for name in names}
_SPELLING = re.compile(f"(?:{'|'.join(_AROUND)})*({'|'.join(_SPLIT_OF)})(?:{'|'.join(_AROUND)})*")
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_LONGEST_FIRST = sorted((name for names in SPLIT_NAMES.values() for name in names), key=len, reverse=True)
_WITHIN = re.compile(rf"\b(?:{'|'.join(_LONGEST_FIRST)})\b")
_BEGINNING = re.compile(r"([A-Za-z]+)[ _.-]*\d")


def split_named(name: str) -> str | None:
    """Return the split that `name` stands for, "train", "validation" or "test"; None where it stands for none."""
    match = _SPELLING.fullmatch(re.sub("[^a-z]", "", name.lower()))
    return match and _SPLIT_OF[match[1]]


def refuse_doubtful(name: str, where: str) -> None:
    """Refuse a name that speaks of a split, but not clearly, such as "test_old" or "eval".

    Raises:
        InputError: it is one. Taken for a class, or for nothing, a test split would be learned from.
    """
    words = {word.lower() for word in _WORD.findall(name)}
    if split_named(name) is None and words & {*_SPLIT_OF, *_UNDECIDED}:
        raise InputError(f'{where}: "{name}" may be a split: {what_works()}')


def what_works() -> str:
    """Return how to call a split, for messages."""
    return f"call it {', '.join(SPLIT_NAMES)}, or Training, PublicTest, PrivateTest"


def split_of_path(path: str, where: str) -> str:
    """Return the split that the folders of a relative path name, "" where they name none.

    Raises:
        InputError: they name two, or one in doubt.
    """
    folders = path.split("/")[:-1]
    splits = {folder: split for folder in folders if (split := split_named(folder))}
    if len(set(splits.values())) > 1:
        raise InputError(
            f"{where}: {path} lies in folders of several splits, {', '.join(splits)}: rename one of them"
        )
    for folder in folders:
        refuse_doubtful(folder, where)
    return next(iter(splits.values()), "")


def split_of_shard(name: str, where: str) -> str:
    """Return the split whose images a file of many is called by: "train-00000", "mnist-test", "PublicTest_2"; or "".

    Raises:
        InputError: the name speaks of two splits, or of one in doubt.
    """
    words = " ".join(word.lower() for word in _WORD.findall(name))
    found = {_SPLIT_OF[match.replace(" ", "")] for match in _WITHIN.findall(words)}
    if len(found) > 1 or (not found and {*words.split()} & {*_UNDECIDED}):
        raise InputError(f'{where}: "{name}" may be a split: {what_works()}')
    return next(iter(found), "")


def splits_in_file_names(names: Sequence[str], where: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the splits that file names begin with, as in "PrivateTest_10131363.jpg", and a note where they do.

    They are "" where no names, or all, begin with the same split.

    Raises:
        InputError: some names begin with different splits, others with none.
    """
    matches = [_BEGINNING.match(name) for name in names]
    splits = [match and split_named(match[1]) for match in matches]
    if len(set(splits) - {None}) < 2:
        return [""] * len(names), ()
    named_splits = [split for split in splits if split is not None]
    if len(named_splits) < len(splits):
        named = next(name for name, split in zip(names, splits, strict=True) if split)
        raise InputError(
            f"{where}: file names say which split an image belongs to ({named}), but not all "
            f"({names[splits.index(None)]}): put the images into folders of splits, or all into one called train"
        )
    return named_splits, ("the file names say which split an image belongs to",)
