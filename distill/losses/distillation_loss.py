"""What a student is trained on: cross entropy and one soft loss, combined by lambda or by explicit weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras import ops

from distill.errors import InputError
from distill.losses import formulas
from distill.losses.formulas import Tensor
from distill.losses.loss_options import check_options
from distill.losses.soft_losses import SoftLoss, loss_named
from distill.python_numbers import with_python_numbers


@dataclass(frozen=True)
class DistillationLoss:
    """(1 - lambda)·CE(y, s) + lambda·soft loss(t, s), or both terms with explicit weights.

    The default is Hinton's at T = 4 and lambda = 0.9 (docs/training.md says why). What is left out is what the loss'
    row of `SOFT_LOSSES` calls usual. After construction every field holds the value in use, and of `lambda_` and
    `weights` the other one is None. A lambda of 0 is training from labels alone and needs no teacher; such a loss is
    written `DistillationLoss(lambda_=0)`.

    An unlabelled example has no cross entropy, and counts with its soft part alone.

    Raises:
        InputError: an unknown loss or option, a setting that the loss would not use, or one out of range.
    """

    name: str = "hinton"
    """One of `SOFT_LOSSES`; of a loss of one's own, where its function stands."""
    temperature: float | None = None
    """T > 0."""
    lambda_: float | None = None
    """0..1."""
    weights: tuple[float, float] | None = None
    """Of cross entropy and of the soft loss, 0 or more, instead of lambda."""
    options: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The soft loss' own parameters, 0 or more."""
    soft: SoftLoss = field(default=None, hash=False)  # type: ignore[assignment]  # by `name`, after construction
    """A loss of one's own, see `SoftLoss.of`; by default the row of `SOFT_LOSSES` called `name`."""

    def __post_init__(self):
        with_python_numbers(self)
        if self.soft is None:
            self._set(soft=loss_named(self.name))
        elif self.soft.source:
            self._set(name=self.soft.source["function"])
        usual = self.soft
        if self.temperature is None:
            self._set(temperature=usual.temperature)
        elif usual.temperature is None:
            raise InputError(f'the loss "{self.name}" has no temperature, received {self.temperature}: omit it')
        elif not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be above 0, received {self.temperature}: try {usual.temperature:g}")
        if self.lambda_ is None and self.weights is None:
            self._set(lambda_=usual.lambda_, weights=usual.weights)
        _combined_by(self.lambda_, self.weights)
        if self.weights is not None:
            self._set(weights=tuple(float(weight) for weight in self.weights))
        check_options(self.name, usual.options, self.options)
        given = {name: _as(usual.options[name], value) for name, value in self.options.items()}
        self._set(options={**usual.options, **given})

    def _set(self, **values) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def term_weights(self) -> tuple[float, float]:
        """What cross entropy and the soft loss are multiplied by."""
        return _combined_by(self.lambda_, self.weights)

    @property
    def uses_teacher(self) -> bool:
        """Whether it needs a teacher's logits."""
        return self.term_weights[1] > 0

    @property
    def uses_labels(self) -> bool:
        """Whether a label changes the value."""
        return self.term_weights[0] > 0 or (self.uses_teacher and self.soft.needs_labels)

    @property
    def formula(self) -> str:
        """The formula in use, with its numbers."""
        hard, soft = self.term_weights
        hard_term = "CE(y, s)" if hard == 1 and not soft else f"{hard:g}·CE(y, s)"
        if not soft:
            return hard_term
        row = self.soft
        soft_term = f"{soft:g}·{row.formula.format(**self.options)}"
        text = f"{hard_term} + {soft_term}" if hard else soft_term
        text += "" if self.temperature is None else f", T={self.temperature:g}"
        return text + (f"; {row.where}" if row.where else "")

    def describe(self) -> dict[str, Any]:
        """Return JSON-able facts for a run's record."""
        names = ("name", "temperature", "lambda_", "weights", "options")
        return {name: getattr(self, name) for name in names} | dict(self.soft.source)

    def __call__(
        self,
        *,
        student_logits: Tensor,
        labels: Tensor,
        teacher_logits: Tensor | None,
        temperature: Tensor | None = None,
        lambda_: Tensor | None = None,
        weights: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return "loss" and its parts "cross_entropy" and, with a teacher, "distillation", each float32 [B].

        Args:
            student_logits: [B, C].
            labels: class numbers [B], -1 for none, or probabilities [B, C], a row of zeros for none.
            teacher_logits: [B, C]; without a teacher anything.
            temperature: scalar in place of the constant, for a schedule: no new trace when its value changes.
            lambda_: likewise; only of a loss that is combined by lambda.
            weights: likewise two scalars; only of a loss that is combined by weights.
        """
        if labels is None:
            raise ValueError("a loss needs labels, -1 or rows of zeros where there are none. Received: labels=None")
        if self.uses_teacher and teacher_logits is None:
            raise ValueError(f'the loss "{self.name}" needs teacher_logits. Received: teacher_logits=None')
        label_probs = formulas.as_label_probs(labels, classes=student_logits.shape[-1])
        hard_weight, soft_weight = self._weights_in_use(lambda_, weights)
        hard = formulas.cross_entropy(student_logits=student_logits, labels=label_probs)
        if lambda_ is None and weights is None and not self.uses_teacher:
            return {"loss": hard_weight * hard, "cross_entropy": hard}
        own = self._own_arguments(label_probs, temperature)
        soft = self.soft.function(student_logits=student_logits, teacher_logits=teacher_logits, **own)
        return {"loss": hard_weight * hard + soft_weight * soft, "cross_entropy": hard, "distillation": soft}

    def _weights_in_use(
        self, lambda_: Tensor | None, weights: tuple[Tensor, Tensor] | None
    ) -> tuple[float | Tensor, float | Tensor]:
        if (lambda_ is not None and self.lambda_ is None) or (weights is not None and self.weights is None):
            combined = "weights" if self.lambda_ is None else "lambda_"
            raise ValueError(f"this loss is combined by {combined}. Received: lambda_={lambda_}, weights={weights}")
        if weights is not None:
            hard_weight, soft_weight = weights
        elif lambda_ is not None:
            hard_weight, soft_weight = 1 - lambda_, lambda_
        else:
            return self.term_weights
        return ops.cast(hard_weight, "float32"), ops.cast(soft_weight, "float32")

    def _own_arguments(self, label_probs: Tensor, temperature: Tensor | None) -> dict[str, float | Tensor]:
        """What this soft loss takes in addition to logits."""
        row = self.soft
        if row.temperature is None and temperature is not None:
            raise ValueError(f'the loss "{self.name}" has no temperature. Received: temperature={temperature}')
        arguments: dict[str, Any] = dict(self.options)
        if row.temperature is not None:
            arguments["temperature"] = self.temperature if temperature is None else temperature
        if row.needs_labels:
            arguments["label_probs"] = label_probs
        return arguments


def _as(usual: float, value: float) -> float:
    """Return a whole number as an integer where the usual one is: such a number may count something."""
    return int(value) if isinstance(usual, int) and value == int(value) else value


def _combined_by(lambda_: float | None, weights: tuple[float, float] | None) -> tuple[float, float]:
    """Return what cross entropy and the soft loss are multiplied by."""
    if lambda_ is not None and weights is not None:
        raise InputError(f"lambda {lambda_:g} and weights {tuple(weights)} are two ways to combine: omit one")
    if weights is None:
        if lambda_ is None:
            raise InputError("nothing says how the soft loss is combined with cross entropy: give lambda or weights")
        if not 0 <= lambda_ <= 1:
            raise InputError(f"lambda must lie in 0..1, received {lambda_}: 0 is labels alone, 1 the teacher alone")
        return 1 - lambda_, lambda_
    if not (len(weights) == 2 and min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise InputError(
            f"weights are two numbers, of cross entropy and of the soft loss, 0 or more and one of them above 0, "
            f"received {tuple(weights)}: try 1 1"
        )
    return weights
