"""Documents from outside, such as JSON files, parsed once into types that say what is in them."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from distill.errors import InputError
from distill.files.regular_files import read_regular

Document = TypeVar("Document")

MAX_BYTES = 1 << 26
"""Of a document."""
_DEEPEST = 100  # how many objects and lists may lie in each other
_BITS = 64  # of a whole number

ClassNames = Annotated[tuple[str, ...], Meta(max_length=10_000)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, lt=2**31)]
"""Of an image, pixels."""


@dataclass
class ViewDescription:
    """What `ViewSpec.to_dict` gives, as far as it is nested; `ViewSpec.from_dict` checks all of it."""

    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra_sources: dict[str, str] = field(default_factory=dict)


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def read_json(path: Path, *, what: str) -> Any:
    """Return the content of a JSON file as plain values, see `parse_json`.

    Raises:
        InputError: it is not a regular file, too large, no JSON, or cannot be read now.
    """
    return parse_json(read_regular(path, at_most=MAX_BYTES), source=path, what=what)


def parse_json(text: bytes | str, *, source: str | Path, what: str) -> Any:
    """Return what a JSON text holds as plain values: none nested deeper than 100, no whole number beyond 64 bits.

    Args:
        source: where it stands, for the message.
        what: it should be.

    Raises:
        InputError: it is something else.
    """
    try:
        document = json.loads(text)
        _check_plain(document)
    except RecursionError as error:
        raise InputError(f"{source} is not {_a(what)}: it is nested too deep") from error
    except ValueError as error:
        raise InputError(f"{source} is not {_a(what)}: {error}") from error
    return document


def parsed(document: Any, kind: type[Document], *, source: str | Path, what: str) -> Document:
    """Return plain values as `kind`, a dataclass of checked fields; fields it does not know are left out.

    Args:
        source: where `document` stands, for the message.
        what: it should be.

    Raises:
        InputError: a field is missing, or of another type: with its path, what was found and what is expected.
    """
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, RecursionError, InputError) as error:
        raise InputError(f"{source} is not {_a(what)}: {error}") from error


def read_document(path: Path, kind: type[Document], *, what: str) -> Document:
    """Return the content of a JSON file as `kind`.

    Raises:
        InputError: as `read_json` and `parsed`.
    """
    return parsed(read_json(path, what=what), kind, source=path, what=what)


def _check_plain(document: Any) -> None:
    """Check what JSON allows, and whoever works with the document does not expect."""
    waiting = [(document, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        if isinstance(each, dict):
            waiting += [(value, depth + 1) for pair in each.items() for value in pair]
        elif isinstance(each, list):
            waiting += [(value, depth + 1) for value in each]
        elif isinstance(each, str):
            each.encode()  # half of a character in an escape: no file and no terminal takes it
        elif isinstance(each, int) and each.bit_length() > _BITS:
            raise ValueError("it holds a whole number beyond 64 bits")
        elif isinstance(each, float) and math.isinf(each):
            raise ValueError("it holds an infinite number")


def tuples_for_lists(value: Any) -> Any:
    """Return a value of JSON with tuples for lists, which are what tuples become in a document."""
    return tuple(map(tuples_for_lists, value)) if isinstance(value, list) else value
