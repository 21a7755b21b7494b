"""The fingerprint of a user's function or class, which distinguishes it from its later versions and from others."""

import hashlib
import inspect
import json
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
    does not count. Of a `functools.partial` the arguments count, too, and of a function that another one made, such
    as a decorator, the values that it was made with: plain ones, arrays, and which functions and classes they are.

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
    return hashlib.sha256(source + _made_with(what).encode()).hexdigest()


def _made_with(what: Any, known: Collection[Any] = ()) -> str:
    """Return what tells a function apart from others that the same lines make; "" of one that stands by itself."""
    code = getattr(what, "__code__", None)
    if code is None or ("<" not in what.__qualname__ and what.__closure__ is None):
        return ""
    values = [*zip(code.co_freevars, what.__closure__ or (), strict=True)]
    defaults = [*(what.__defaults__ or ()), *(what.__kwdefaults__ or {}).items()]
    facts = [(name, _fact(_held_in(cell), (*known, what))) for name, cell in values]
    return json.dumps([code.co_firstlineno, facts, _fact(defaults, (*known, what))])


def _held_in(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def _fact(value: Any, known: Collection[Any]) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.name, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, (list, tuple)):
        return [_fact(each, known) for each in value]
    if isinstance(value, dict):
        return [[str(key), _fact(each, known)] for key, each in value.items()]
    if isinstance(value, partial):
        return [_fact(each, known) for each in (value.func, value.args, value.keywords)]
    value = python_numbers(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    made_with = "" if any(value is each for each in known) else _made_with(value, known)
    return [f"{named.__module__}:{named.__qualname__}", made_with]
