"""Read a pickle from a stranger: plain values come out, nothing in it is ever called.

A pickle is a program, and some of its opcodes import and call what they name. Two locks keep those out: every
opcode is looked at before the first one runs, and the unpickler that then runs them imports nothing.
"""

import io
import os
import pickle
import pickletools
from typing import Any

from distill.errors import InputError
from distill.files.busy_files import cannot_read_now
from distill.refusals import reason

MAX_BYTES = 30_000_000

_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_SCALARS = {"NONE", "NEWTRUE", "NEWFALSE", *_NUMBERS, *_TEXTS, *_BYTES}
_DICTS_AND_LISTS = {"EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "MARK"}
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TUPLES = {"TUPLE", *_SHORT_TUPLES}
_STORES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_OTHERS = {"GET", "BINGET", "LONG_BINGET", "PROTO", "FRAME", "STOP"}
_ALLOWED = _SCALARS | _DICTS_AND_LISTS | _TUPLES | _STORES | _OTHERS

_EXPECTED = "expected a pickle of plain values (dict, list, tuple, str, bytes, int, float, bool, None)"
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
)


def read_plain_pickle(path: str | os.PathLike) -> Any:
    """Return what the pickle at `path` holds: dict, list, tuple, str, bytes, int, float, bool, None, nested.

    Pickles of every protocol, 0 to 5, are read. Strings of Python 2 are taken for UTF-8, and for Latin-1
    where they are not. A tuple may hold no other container, and no text that stood in the file before.

    Raises:
        InputError: the file cannot be read, is larger than 30 MB, is no pickle or only a part of one, or
            holds anything but plain values, such as a NumPy array.
    """
    return plain_value(_read(path), name=str(path))


def plain_value(content: bytes, *, name: str) -> Any:
    """Return what the pickle `content` holds; `name` is what errors, those of `read_plain_pickle`, call it."""
    try:
        _check_opcodes(content, name)
        try:
            return _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except _DAMAGE as error:
        raise InputError(f"{name} is not a pickle, or only a part of one ({reason(error)}): {_EXPECTED}") from error


class _PlainUnpickler(pickle.Unpickler):
    """The second lock: it would hold if an opcode that imports were ever allowed by mistake."""

    def find_class(self, module_name, global_name):
        raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}")

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to an object from outside the file")


def _read(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        wrong = InputError(f"{path} cannot be read ({error.strerror}): {_EXPECTED}")
        raise cannot_read_now(error, path) or wrong from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES // 10**6} MB: {_EXPECTED}, in smaller files")
    return content


def _check_opcodes(content: bytes, name: str) -> None:
    """Go through the opcodes without running one; a length that exceeds `content` is a `ValueError` here."""
    scalars, before_scalars = 0, None  # how many opcodes just before this one push a scalar, and what precedes those
    for number, (opcode, argument, position) in enumerate(pickletools.genops(content)):
        if opcode.name not in _ALLOWED:
            refused = f"{opcode.name} at byte {position}, which is refused"
            raise InputError(f"{name} holds {refused}: {_EXPECTED}; of an array, its tolist()")
        if opcode.name in _STORES and (argument or 0) > number:
            # The unpickler's memo is as long as its highest index: five bytes could request 64 GB.
            raise ValueError(f"memo index {argument} at byte {position} is beyond what was stored")
        if opcode.name in _SCALARS:
            scalars += 1
        elif opcode.name not in _STORES:
            _check_tuple(opcode.name, scalars, before_scalars, position)
            scalars, before_scalars = 0, opcode.name


def _check_tuple(opcode: str, scalars: int, before_scalars: str | None, position: int | None) -> None:
    """Refuse a tuple that holds another container: to hash one of 100,000 levels overflows Python's C stack."""
    flat = before_scalars == "MARK" if opcode == "TUPLE" else scalars >= _SHORT_TUPLES.get(opcode, 0)
    if not flat:
        raise ValueError(f"the tuple at byte {position} holds more than plain numbers and texts")
