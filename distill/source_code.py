"""The fingerprint of a user's function or class, which distinguishes it from its later versions and from others."""

import hashlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CellType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from distill.errors import InputError
from distill.python_numbers import python_numbers

_ASKED_FOR: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""What functions and classes were when they were first asked for: what they were made with can change later."""


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
    as a decorator, what it was made with: plain values, arrays and tensors, functions with their own files (but for
    those of installed packages), and of all else its `fingerprint` or its class.

    Raises:
        InputError: neither its source nor a `fingerprint` is to be had.
    """
    fingerprint = getattr(what, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint)
    with suppress(KeyError, TypeError):  # not yet, or it cannot be a key
        return _ASKED_FOR[what]
    found = _of_partial(what) if isinstance(what, partial) else _of_source(what)
    with suppress(TypeError):
        _ASKED_FOR[what] = found
    return found


def _of_source(what: Callable[..., Any]) -> str:
    try:
        source = _source(what)
    except (TypeError, OSError):
        name = getattr(what, "__qualname__", repr(what))
        raise InputError(
            f"{name} has no source code to identify it: give it an attribute fingerprint, a text that changes with it"
        ) from None
    return hashlib.sha256(source + _made_with(what, known=()).encode()).hexdigest()


def _source(what: Any) -> bytes:
    file = Path(inspect.getsourcefile(what) or "")
    return file.read_bytes().replace(b"\r\n", b"\n") if file.is_file() else inspect.getsource(what).encode()


def _made_with(what: Any, *, known: Collection[int]) -> str:
    """Return what tells a function apart from others that the same lines make; "" of one that stands by itself.

    Args:
        known: identities of what is being described, which can hold itself.
    """
    if inspect.ismethod(what):
        return json.dumps([_made_with(what.__func__, known=known), _fact(what.__self__, known)])
    if not inspect.isfunction(what) or ("<" not in what.__qualname__ and what.__closure__ is None):
        return ""
    values = zip(what.__code__.co_freevars, map(_held_in, what.__closure__ or ()), strict=True)
    defaults = [*(what.__defaults__ or ()), *(what.__kwdefaults__ or {}).items()]
    return json.dumps([what.__code__.co_firstlineno, _fact([*values, defaults], (*known, id(what)))])


def _held_in(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def _fact(value: Any, known: Collection[int]) -> Any:
    """Return plain values that describe one, the same in every process."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, complex, range)):
        return repr(value)
    if id(value) in known:
        return type(value).__qualname__
    within = (*known, id(value))
    if isinstance(value, (list, tuple)):
        return [_fact(each, within) for each in value]
    if isinstance(value, Mapping):
        return [[_fact(key, within), _fact(each, within)] for key, each in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_fact(each, within)) for each in value)
    if isinstance(value, partial):
        return [_fact(each, within) for each in (value.func, value.args, value.keywords)]
    if isinstance(fingerprint := getattr(value, "fingerprint", None), str):
        return ["fingerprint", fingerprint]
    array = None if isinstance(value, type) else _array(value)
    if array is not None and array.dtype.hasobject:
        return _fact(array.tolist(), within)
    if array is not None:
        return [array.dtype.name, array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    own_name = getattr(value, "__qualname__", getattr(value, "__name__", None))
    named = value if isinstance(own_name, str) else type(value)
    name = f"{named.__module__}:{own_name if named is value else named.__qualname__}"
    if inspect.isfunction(value) and "site-packages" not in value.__code__.co_filename:
        with suppress(TypeError, OSError):  # none is to be had
            name += f" {hashlib.sha256(_source(value)).hexdigest()}"
    inner = getattr(value, "__wrapped__", None)
    return [name, _made_with(value, known=known), None if inner is None else _fact(inner, within)]


def _array(value: Any) -> np.ndarray | None:
    """Return the numbers of an array, a tensor or a variable; None where it has none."""
    try:
        return np.asarray(value) if hasattr(value, "__array__") else None
    except Exception:  # such as those of a tensor in a graph
        return None
