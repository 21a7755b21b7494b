"""`PythonLiteral`: a flag's value that is a number, a tuple, True, None or, whatever is none of these, text."""

import ast
import json
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from distill.errors import InputError


def parse_literal(text: str) -> Any:
    """Return the value that `text` means, such as 0.8, (3, 5), True or None; a word is text, with or without quotes.

    Raises:
        InputError: it is a literal that a run's record cannot hold, such as bytes or a set.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{text} cannot stand in a record: give a finite number, True, False, None, text, or a tuple of these"
        ) from error
    return value


PythonLiteral = Annotated[
    Any,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="VALUE",
        instance_from_str=lambda args: parse_literal(args[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [repr(value)],
    ),
]
