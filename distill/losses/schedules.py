"""How numbers of the loss move in the course of a run: pure functions of how far the run is.

The learning rate has its own (`distill.training.optimizer`), because it also depends on what was measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.errors import InputError

if TYPE_CHECKING:
    from keras import KerasTensor

# From a share of the way in time to a share of the way in value, both 0..1.
_SHAPES: "dict[str, Callable[[float | KerasTensor], float | KerasTensor]]" = {
    "linear": lambda share: share,
    "cosine": lambda share: (1 - _cos(math.pi * share)) / 2,
}
SHAPES = tuple(_SHAPES)


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A value on its way from where it begins to `end`, which it reaches at the end of the run.

    Raises:
        InputError: an unknown shape, a shape without an end, or an end that is not finite.
    """

    end: float | None = None
    """What it comes to in the end; by default it stays where it begins."""
    shape: str = "linear"
    """How it gets there: "linear", or "cosine", which begins and ends slowly."""

    def __post_init__(self):
        if self.shape not in _SHAPES:
            raise InputError(f'unknown shape "{self.shape}" of a schedule: choose one of {", ".join(SHAPES)}')
        if self.end is None and self.shape != Ramp.shape:
            raise InputError(f'a schedule of shape "{self.shape}" goes nowhere without an end: give its .end, too')
        if self.end is not None and not math.isfinite(self.end):
            raise InputError(f"the end of a schedule must be a number, received {self.end}")

    @property
    def moves(self) -> bool:
        """Whether it ever leaves where it begins."""
        return self.end is not None

    def at(
        self, start: float, progress: "float | KerasTensor", *, epochs: int | None = None
    ) -> "float | KerasTensor":
        """Return the value when a share `progress` of the run is done: start + (end - start)·shape(progress).

        Args:
            progress: 0..1, a number or a scalar tensor.
            epochs: of the whole run, which only a warm-up counts in.
        """
        if self.end is None:
            return start
        return start + (self.end - start) * _SHAPES[self.shape](progress)

    def describe(self, start: float) -> str:
        """Return the way as text, such as "8 to 2 (cosine)"."""
        return f"{start:g}" if self.end is None else f"{start:g} to {self.end:g} ({self.shape})"


@dataclass(frozen=True, kw_only=True)
class WarmedRamp(Ramp):
    """A `Ramp` that is multiplied by a share that rises from 0 to 1 over the first epochs."""

    warmup_epochs: float = 0.0
    """Epochs over which it rises from 0, step by step: 20 for DKD."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.warmup_epochs < math.inf:
            raise InputError(f"the warmup-epochs of a schedule must be 0 or more, received {self.warmup_epochs}")

    @property
    def moves(self) -> bool:
        """Whether it ever leaves where it begins."""
        return super().moves or self.warmup_epochs > 0

    def at(
        self, start: float, progress: "float | KerasTensor", *, epochs: int | None = None
    ) -> "float | KerasTensor":
        """Return the value when a share `progress` of the run is done: min(1, epochs done / warmup)·ramp."""
        value = super().at(start, progress)
        if not self.warmup_epochs:
            return value
        if epochs is None:
            raise ValueError("a warm-up over epochs is a share of the run: give its epochs")
        return _at_most_1(progress * (epochs / self.warmup_epochs)) * value

    def describe(self, start: float) -> str:
        """Return the way as text, such as "0.5, from 0 over 20 epochs"."""
        warmup = f", from 0 over {self.warmup_epochs:g} epochs" if self.warmup_epochs else ""
        return super().describe(start) + warmup


def _cos(angle: "float | KerasTensor") -> "float | KerasTensor":
    if isinstance(angle, float):
        return math.cos(angle)
    from keras import ops  # the flags of commands are made of these classes, and Keras takes seconds to load

    return ops.cos(angle)


def _at_most_1(share: "float | KerasTensor") -> "float | KerasTensor":
    if isinstance(share, float):
        return min(1.0, share)
    from keras import ops

    return ops.minimum(share, 1.0)
