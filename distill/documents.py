"""Documents from outside, such as JSON files, parsed once into types that say what is in them."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from distill.busy_files import reading
from distill.errors import InputError

Document = TypeVar("Document")


def read_json(path: Path, *, what: str) -> Any:
    """Return the content of a JSON file as plain values.

    Args:
        what: the document should be, for the message.

    Raises:
        InputError: it is no JSON, or cannot be read now.
    """
    try:
        with reading(path):
            return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path} is no {what}: {error}") from error


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
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(f"{source} is no {what}: {error}") from error
