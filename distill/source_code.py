"""The fingerprint of a user's function or class, which distinguishes it from its later versions."""

import hashlib
import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.python_numbers import python_numbers


def _of_partial(what: partial) -> str:
    try:
        arguments = json.dumps([python_numbers(list(what.args)), python_numbers(what.keywords)], sort_keys=True)
    except TypeError as error:
        raise InputError(
            f"the arguments of {what} are not plain values ({error}): give it an attribute fingerprint, a text that "
            "changes with them"
        ) from error
    return hashlib.sha256(f"{source_sha256(what.func)} {arguments}".encode()).hexdigest()


def source_sha256(what: Callable[..., Any]) -> str:
    """Return the sha256 of the file in which a function or class is written; its attribute `fingerprint` goes first.

    The whole file, because what it calls there counts, too; in a notebook its own source. What it reads or imports
    does not count. Of a `functools.partial` the arguments count, too.

    Raises:
        InputError: neither its source nor a `fingerprint` is to be had.
    """
    fingerprint = getattr(what, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint)
    if isinstance(what, partial):
        return _of_partial(what)
    try:
        file = Path(inspect.getsourcefile(what) or "")
        source = file.read_bytes().replace(b"\r\n", b"\n") if file.is_file() else inspect.getsource(what).encode()
    except (TypeError, OSError):
        name = getattr(what, "__qualname__", repr(what))
        raise InputError(
            f"{name} has no source code to identify it: give it an attribute fingerprint, a text that changes with it"
        ) from None
    return hashlib.sha256(source).hexdigest()
