"""Paths that TensorFlow cannot read from, although the files are there."""

from fnmatch import fnmatchcase
from pathlib import Path

from distill.errors import InputError


def check_no_pattern(path: Path) -> None:
    """Refuse a path of weights that TensorFlow, which takes it for a pattern of names, would not find.

    Raises:
        InputError: as a pattern it does not match itself, as `[a]` is that of the name `a`.
    """
    if not fnmatchcase(str(path), str(path)):
        raise InputError(
            f"{path} has brackets, which TensorFlow takes for a pattern of names: rename what they stand in, "
            "or name a copy elsewhere"
        )
