"""`LossSchedule`: how the temperature of a loss, and the weight of its soft part, move in the course of a run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.schedules import Ramp, WarmedRamp


@dataclass(frozen=True, kw_only=True)
class LossSchedule:
    """How the numbers of a loss move; by default nothing does.

    The weight of the soft part is lambda, with labels that weigh 1 - lambda; of a loss with explicit weights it is
    the second of them, and the first stays.

    Raises:
        InputError: a schedule of what the loss does not have, or one that leaves its range or the run.
    """

    loss: DistillationLoss
    epochs: int
    """Of the whole run."""
    temperature: Ramp = Ramp()
    soft_weight: WarmedRamp = WarmedRamp()

    def __post_init__(self):
        if not self._moving:
            return
        if not self.loss.uses_teacher:
            raise InputError(
                f"the loss {self.loss.formula} has no soft part that a schedule could move: leave "
                "--temperature-schedule and --lambda-schedule out, or give --logits and a --lambda above 0"
            )
        if self.temperature.moves:
            self._check_temperature()
        self._check_soft_weight()

    def _check_temperature(self) -> None:
        if self.loss.temperature is None:
            raise InputError(f'the loss "{self.loss.name}" has no temperature: leave --temperature-schedule out')
        if not self.temperature.end > 0:
            raise InputError(f"temperature must stay above 0, received the end {self.temperature.end:g}: try 1")

    def _check_soft_weight(self) -> None:
        highest = math.inf if self.loss.lambda_ is None else 1
        if self.soft_weight.end is not None and not 0 <= self.soft_weight.end <= highest:
            raise InputError(f"lambda must stay in 0..{highest}, received the end {self.soft_weight.end:g}")
        if self.soft_weight.warmup_epochs > self.epochs:
            raise InputError(
                f"lambda warms up over {self.soft_weight.warmup_epochs:g} epochs, the run has {self.epochs}: "
                "give fewer --lambda-schedule.warmup-epochs"
            )

    @property
    def uses_labels(self) -> bool:
        """Whether a label ever changes the value."""
        return self.loss.uses_labels or (self.soft_weight.moves and self.loss.lambda_ is not None)

    @property
    def formula(self) -> str:
        """The formula at the start, and what moves in it."""
        moving = [f"{name} {ramp.describe(start)}" for name, (start, ramp) in self._moving.items()]
        return "; ".join([self.loss.formula, *moving]).replace("soft_weight", "weight of the soft part")

    def describe(self) -> dict:
        """Return JSON-able facts for a run's record; schedules stand there only where something moves."""
        schedules = {name: asdict(ramp) for name, (_, ramp) in self._moving.items()}
        return {**asdict(self.loss), "formula": self.formula} | ({"schedules": schedules} if schedules else {})

    def numbers(self, epoch: float) -> dict[str, float]:
        """Return "temperature" and "soft_weight" after `epoch` epochs, a fraction within one; only what moves."""
        return {name: ramp.at(start, epoch, epochs=self.epochs) for name, (start, ramp) in self._moving.items()}

    def arguments(self, numbers: Mapping[str, float]) -> dict[str, float | tuple[float, float]]:
        """Return `numbers` as arguments of the loss, in place of its constants."""
        arguments = dict(numbers)
        if "soft_weight" in arguments:
            soft_weight = arguments.pop("soft_weight")
            by_lambda = self.loss.lambda_ is not None
            arguments |= {"lambda_": soft_weight} if by_lambda else {"weights": (self.loss.weights[0], soft_weight)}
        return arguments

    @property
    def _moving(self) -> dict[str, tuple[float, Ramp]]:
        """What moves: where it starts, and how."""
        ramps = {
            "temperature": (self.loss.temperature, self.temperature),
            "soft_weight": (self.loss.term_weights[1], self.soft_weight),
        }
        return {name: (start, ramp) for name, (start, ramp) in ramps.items() if ramp.moves}
