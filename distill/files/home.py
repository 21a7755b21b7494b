"""Paths as users write them."""

import os
from pathlib import Path

from distill.errors import InputError


def expanded(path: str | os.PathLike) -> Path:
    """Return `path` with the home folder that "~" and "~USER" mean.

    Raises:
        InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path} is in the home folder of nobody here: write the path in full") from None
