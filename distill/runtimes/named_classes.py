"""The classes that a network's own file names, if it does."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from distill.data.class_order import ASSUMED

_MAX_CHARACTERS = 1 << 20
_OURS, _ULTRALYTICS = "distill_faces", "names"


def classes_in_properties(properties: Mapping[str, str], *, count: int) -> tuple[str, ...]:
    """Return the `count` classes that the properties of an ONNX file name, in order; none where they name none.

    Known are the description that this project exports, and the property "names" of Ultralytics, a dictionary of
    number -> name.
    """
    described = classes_in_description(properties.get(_OURS, ""), count=count)
    if described:
        return described
    numbered = _parsed(ast.literal_eval, properties.get(_ULTRALYTICS, ""))
    if isinstance(numbered, Mapping) and set(numbered) == set(range(count)):
        return _names([numbered[number] for number in range(count)], count)
    return ()


def classes_in_description(text: str, *, count: int) -> tuple[str, ...]:
    """Return the `count` classes that the description of an export names, in order.

    None where it names none, or says itself that their order was assumed.
    """
    described = _parsed(json.loads, text)
    if not isinstance(described, Mapping) or described.get("class_order") == ASSUMED:
        return ()
    return _names(described.get("class_names"), count)


def _parsed(parse: Any, text: str) -> Any:
    try:
        return parse(text) if len(text) <= _MAX_CHARACTERS else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return names that can be those of `count` classes; none otherwise, and where they only number them."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    if not len(names) == len(set(names)) == count or not all(name.strip() and not name.isdigit() for name in names):
        return ()
    return tuple(names)
