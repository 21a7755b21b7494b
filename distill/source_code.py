"""The fingerprint of a user's function or class, which distinguishes it from its later versions."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.errors import InputError


def source_sha256(what: Callable[..., Any]) -> str:
    """Return the sha256 of the file in which a function or class is written; its attribute `fingerprint` goes first.

    The whole file, because what it calls there counts, too; in a notebook its own source. What it reads or imports
    does not count.

    Raises:
        InputError: neither its source nor a `fingerprint` is to be had.
    """
    fingerprint = getattr(what, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint)
    try:
        file = Path(inspect.getsourcefile(what) or "")
        source = file.read_bytes() if file.is_file() else inspect.getsource(what).encode()
    except (TypeError, OSError):
        name = getattr(what, "__qualname__", repr(what))
        raise InputError(
            f"{name} has no source code to identify it: give it an attribute fingerprint, a text that changes with it"
        ) from None
    return hashlib.sha256(source).hexdigest()
