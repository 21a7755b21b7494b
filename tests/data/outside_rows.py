"""Operations from outside: the example of the documentation, as a user's file, and what else a row can be."""

from contextlib import contextmanager

import numpy as np

from distill.data.operations import OPERATIONS, Operation, number

EXAMPLE = '''
from keras import ops

from distill.data.operations import Operation, number


def soften(pixels, parameters):
    """Mix every image [H, W, C] with its mean over 3x3 pixels."""
    softened = ops.average_pool(pixels, 3, strides=1, padding="same", data_format="channels_last")
    return pixels + parameters["share"][:, None, None, None] * (softened - pixels)


blur = Operation(
    settings={"strength": number(0, 1)},  # lowest and highest; 0 leaves every image alone
    parameters={"share": 0.0},  # what is drawn for a view, and the value that leaves it alone
    draws=1,
    draw=lambda settings, uniform: {"share": settings["strength"] * uniform[:, 0]},
    apply=soften,
)
'''


def row(apply, *, stage="rendered", **how) -> Operation:
    """Return a row whose one parameter is its setting."""
    how = {"settings": {"amount": number(-10, 10)}, "parameters": {"amount": 0.0}, "draws": 1} | how
    how |= {"draw": how.get("draw", lambda settings, uniform: {"amount": np.full(len(uniform), settings["amount"])})}
    return Operation(apply=apply, stage=stage, **how)


@contextmanager
def registered(**rows: Operation):
    """Put rows into `OPERATIONS` for a while."""
    OPERATIONS.update(rows)
    try:
        yield
    finally:
        for name in rows:
            OPERATIONS.pop(name, None)
