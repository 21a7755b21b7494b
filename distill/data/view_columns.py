"""What the columns of an array of parameters are: one for each parameter of each operation of a view."""

from collections.abc import Sequence

import numpy as np

from distill.data.operations import BUILT_IN, OPERATIONS


def parameter_columns(name: str) -> tuple[str, ...]:
    """Return the columns of an operation in an array of parameters; those of one from outside begin with its name."""
    row = OPERATIONS[name]
    return tuple(row.parameters) if name in BUILT_IN else tuple(f"{name}.{parameter}" for parameter in row.parameters)


PARAMETERS = tuple(
    column for name in sorted(BUILT_IN, key=BUILT_IN.__getitem__) for column in parameter_columns(name)
)
"""The columns that every array of parameters begins with: those of the built-in operations."""


def columns_with(extra: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the parameters of a view with the operations `extra` from outside."""
    return PARAMETERS + tuple(column for name in extra for column in parameter_columns(name))


def operations_in(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return name -> columns of the operations that an array of these columns has, in the order in which they act."""
    outside = sorted({column.rpartition(".")[0] for column in columns} - {""})
    return {name: parameter_columns(name) for name in (*BUILT_IN, *outside)}


def neutral_parameters(columns: Sequence[str]) -> np.ndarray:
    """Return the parameters that leave an image alone: float32 [len(columns)]."""
    neutral = {
        column: value
        for name, own in operations_in(columns).items()
        for column, value in zip(own, OPERATIONS[name].parameters.values(), strict=True)
    }
    return np.array([neutral[column] for column in columns], np.float32)


def in_columns(parameters: np.ndarray, columns: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Return float32 [..., len(wanted)]: parameters of `columns`, with what these lack at neutral values."""
    if tuple(columns) == tuple(wanted):
        return parameters
    widened = np.tile(neutral_parameters(wanted), (*parameters.shape[:-1], 1))
    widened[..., [list(wanted).index(column) for column in columns]] = parameters
    return widened
