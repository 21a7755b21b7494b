"""`average_map`: means over areas of a map, of any two sizes, in NumPy and in Keras."""

import math
from types import ModuleType
from typing import Any

import numpy as np


def average_map(values: Any, shape: tuple[int, int], ops: ModuleType | Any = np) -> Any:
    """Return [B, h, w, C], the means of [B, H, W, C] over h x w areas that cover it.

    Area i of n reaches from floor(i H / n) to ceil((i + 1) H / n), as in PyTorch's adaptive_avg_pool2d.

    Args:
        shape: h and w.
        ops: NumPy, or keras.ops.
    """
    if tuple(values.shape[1:3]) == tuple(shape):
        return values
    rows, columns = (_shares(length, areas) for length, areas in zip(values.shape[1:3], shape, strict=True))
    return ops.einsum("ih,bhwc,jw->bijc", rows, values, columns)


def _shares(length: int, areas: int) -> np.ndarray:
    """Return float32 [areas, length]: how much each position counts in the mean of each area."""
    shares = np.zeros((areas, length), np.float32)
    for area in range(areas):
        start, stop = area * length // areas, math.ceil((area + 1) * length / areas)
        shares[area, start:stop] = 1 / (stop - start)
    return shares
