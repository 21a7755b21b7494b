"""How long one call takes: the median, the slow end, and how many fit into a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_WARM_UP = 20


@dataclass(frozen=True)
class Latency:
    """Of one call for one image, on one thread."""

    p50_ms: float
    """Median, milliseconds."""
    p99_ms: float
    """What 99 of 100 calls stay below, milliseconds."""
    frames_per_second: float
    """1000 / `p50_ms`: of a busy machine's pauses the median knows nothing, p99 does."""


def face_latency(
    run: Callable[[np.ndarray], object], input_shape: tuple[int, int, int], *, seconds: float = 1.0
) -> Latency:
    """Return the `latency` of a network for one image.

    Args:
        run: float32 pixels 0..255 [1, h, w, c] -> whatever it gives.
        input_shape: height, width, channels.
    """
    grey = np.full((1, *input_shape), 127.5, np.float32)
    return latency(lambda: run(grey), seconds=seconds)


def latency(call: Callable[[], object], *, seconds: float = 1.0) -> Latency:
    """Repeat `call` for `seconds`, at least a hundred times, after a few calls that count for nothing."""
    for _ in range(_WARM_UP):
        call()
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 100 or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    p50, p99 = np.quantile(durations, [0.5, 0.99]) * 1000
    return Latency(float(p50), float(p99), float(1000 / p50))
