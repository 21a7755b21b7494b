"""Settings in Python's own numbers, which JSON and records know: sweeps give those of NumPy."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def with_python_numbers(settings: "DataclassInstance") -> None:
    """Replace the numbers of NumPy among the fields of a dataclass, which may be frozen, by Python's."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        plain = python_numbers(value)
        if plain is not value:
            object.__setattr__(settings, each.name, plain)


def python_numbers(value: Any) -> Any:
    """Return a value with the numbers of NumPy in it, or in tuples, lists and dictionaries of it, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        plain = [python_numbers(each) for each in value]
        return type(value)(plain) if any(new is not old for new, old in zip(plain, value, strict=True)) else value
    if type(value) is dict:
        changed = {key: python_numbers(each) for key, each in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    return value
