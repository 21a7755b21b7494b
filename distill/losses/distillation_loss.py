"""What a student is trained on: cross entropy and one soft loss, combined by lambda or by explicit weights."""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from keras import ops

from distill.errors import InputError
from distill.losses import formulas
from distill.losses.formulas import Tensor


@dataclass(frozen=True)
class SoftLoss:
    """A row of `SOFT_LOSSES`: a loss, how it is printed, and the settings that it is usually given."""

    function: Callable[..., Tensor]
    formula: str
    """In s and t, the logits of student and teacher, T, and {names} of options; a product or in brackets."""
    where: str = ""
    """What other letters of the formula stand for."""
    temperature: float | None = None
    """None: it has none."""
    lambda_: float | None = None
    """Either this or `weights`: how it is usually combined with cross entropy."""
    weights: tuple[float, float] | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    """Its own parameters."""
    needs_labels: bool = False


# Usual settings are those of the papers, but for Hinton's, which most papers compare with at T = 4 and lambda = 0.9.
# TTM and WTTM were tuned for each pair of networks: T from 2.5 to 10, and weights from 7 to 101 and from 0.6 to 16;
# here those of VGG13 and VGG8. Beside mean squared logits, Kim et al. leave the labels out.
SOFT_LOSSES = {
    "microexpnet": SoftLoss(formulas.soft_cross_entropy, "CE(softmax(t/T), s/T)", temperature=8.0, lambda_=0.5),
    "hinton": SoftLoss(
        formulas.soft_kl_divergence, "T²·KL(softmax(t/T) ‖ softmax(s/T))", temperature=8.0, lambda_=0.5
    ),
    "standardised": SoftLoss(
        formulas.standardised_kl_divergence,
        "T²·KL(softmax(z_t/T) ‖ softmax(z_s/T))",
        where="z=(logits - mean)/deviation over the classes",
        temperature=2.0,
        weights=(0.1, 9.0),
    ),
    "dkd": SoftLoss(
        formulas.decoupled_kl_divergence,
        "T²·({alpha:g}·KL(b_t ‖ b_s) + {beta:g}·KL(n_t ‖ n_s))",
        where="b=(p_y, 1 - p_y), n=p without y, p=softmax(logits/T)",
        temperature=4.0,
        weights=(1.0, 1.0),
        options={"alpha": 1.0, "beta": 8.0},
        needs_labels=True,
    ),
    "dist": SoftLoss(
        formulas.correlation_distance,
        "T²·({beta:g}·(1 - r over classes) + {gamma:g}·(1 - r over the batch))",
        where="r=correlation of softmax(t/T) and softmax(s/T)",
        temperature=1.0,
        weights=(1.0, 1.0),
        options={"beta": 1.0, "gamma": 1.0},
    ),
    "nkd": SoftLoss(
        formulas.normalised_distillation,
        "({gamma:g}·T²·CE(n_t, n_s) - p_t,y·log p_s,y)",
        where="p=softmax(logits), n=softmax(logits/T) without y",
        temperature=1.0,
        weights=(1.0, 1.0),
        options={"gamma": 1.5},
        needs_labels=True,
    ),
    "ttm": SoftLoss(
        formulas.transformed_teacher_matching,
        "KL(softmax(t/T) ‖ softmax(s))",
        temperature=10.0,
        weights=(1.0, 45.0),
    ),
    "wttm": SoftLoss(
        partial(formulas.transformed_teacher_matching, weighted=True),
        "u·KL(softmax(t/T) ‖ softmax(s))",
        where="u=sum of softmax(t)^(1/T)",
        temperature=10.0,
        weights=(1.0, 2.25),
    ),
    "mse": SoftLoss(formulas.mean_squared_logits, "mean of (s - t)²", lambda_=1.0),
}


@dataclass(frozen=True)
class DistillationLoss:
    """(1 - lambda)·CE(y, s) + lambda·soft loss(t, s), or both terms with explicit weights.

    The defaults are MicroExpNet's; of another loss, what is left out is what its row of `SOFT_LOSSES` calls usual.
    After construction every field holds the value in use, and of `lambda_` and `weights` the other one is None. A
    lambda of 0 is training from labels alone and needs no teacher; such a loss is written
    `DistillationLoss(lambda_=0)`.

    An unlabelled example has no cross entropy, and counts with its soft part alone.

    Raises:
        InputError: an unknown loss or option, a setting that the loss would not use, or one out of range.
    """

    name: str = "microexpnet"
    """One of `SOFT_LOSSES`."""
    temperature: float | None = None
    """T > 0."""
    lambda_: float | None = None
    """0..1."""
    weights: tuple[float, float] | None = None
    """Of cross entropy and of the soft loss, 0 or more, instead of lambda."""
    options: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The soft loss' own parameters, 0 or more."""

    def __post_init__(self):
        if self.name not in SOFT_LOSSES:
            raise InputError(f'unknown loss "{self.name}": choose one of {", ".join(SOFT_LOSSES)}')
        usual = SOFT_LOSSES[self.name]
        if self.temperature is None:
            self._set(temperature=usual.temperature)
        elif usual.temperature is None:
            raise InputError(f'the loss "{self.name}" has no temperature, received {self.temperature}: leave it out')
        elif not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be above 0, received {self.temperature}: try {usual.temperature:g}")
        if self.lambda_ is None and self.weights is None:
            self._set(lambda_=usual.lambda_, weights=usual.weights)
        _check_combination(self.lambda_, self.weights)
        if self.weights is not None:
            self._set(weights=tuple(float(weight) for weight in self.weights))
        _check_options(self.name, self.options)
        self._set(options={**usual.options, **self.options})

    def _set(self, **values) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def term_weights(self) -> tuple[float, float]:
        """What cross entropy and the soft loss are multiplied by."""
        return self.weights or (1 - self.lambda_, self.lambda_)

    @property
    def uses_teacher(self) -> bool:
        """Whether it needs a teacher's logits."""
        return self.term_weights[1] > 0

    @property
    def uses_labels(self) -> bool:
        """Whether a label changes the value."""
        return self.term_weights[0] > 0 or (self.uses_teacher and SOFT_LOSSES[self.name].needs_labels)

    @property
    def formula(self) -> str:
        """The formula in use, with its numbers."""
        hard, soft = self.term_weights
        hard_term = "CE(y, s)" if hard == 1 and not soft else f"{hard:g}·CE(y, s)"
        if not soft:
            return hard_term
        row = SOFT_LOSSES[self.name]
        soft_term = f"{soft:g}·{row.formula.format(**self.options)}"
        text = f"{hard_term} + {soft_term}" if hard else soft_term
        text += "" if self.temperature is None else f", T={self.temperature:g}"
        return text + (f"; {row.where}" if row.where else "")

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
        label_probs = formulas.as_label_probs(labels, classes=student_logits.shape[-1])
        hard_weight, soft_weight = self._weights_in_use(lambda_, weights)
        hard = formulas.cross_entropy(student_logits=student_logits, labels=label_probs)
        if lambda_ is None and weights is None and not self.uses_teacher:
            return {"loss": hard_weight * hard, "cross_entropy": hard}
        own = self._own_arguments(label_probs, temperature)
        soft = SOFT_LOSSES[self.name].function(student_logits=student_logits, teacher_logits=teacher_logits, **own)
        return {"loss": hard_weight * hard + soft_weight * soft, "cross_entropy": hard, "distillation": soft}

    def _weights_in_use(
        self, lambda_: Tensor | None, weights: tuple[Tensor, Tensor] | None
    ) -> tuple[float | Tensor, float | Tensor]:
        if lambda_ is None and weights is None:
            return self.term_weights
        if (lambda_ is None) != (self.lambda_ is None) or (weights is None) != (self.weights is None):
            combined = "weights" if self.lambda_ is None else "lambda_"
            raise ValueError(f"this loss is combined by {combined}. Received: lambda_={lambda_}, weights={weights}")
        hard_weight, soft_weight = weights if lambda_ is None else (1 - lambda_, lambda_)
        return ops.cast(hard_weight, "float32"), ops.cast(soft_weight, "float32")

    def _own_arguments(self, label_probs: Tensor, temperature: Tensor | None) -> dict[str, float | Tensor]:
        """What this soft loss takes beside logits."""
        row = SOFT_LOSSES[self.name]
        if row.temperature is None and temperature is not None:
            raise ValueError(f'the loss "{self.name}" has no temperature. Received: temperature={temperature}')
        arguments = dict(self.options)
        if row.temperature is not None:
            arguments["temperature"] = self.temperature if temperature is None else temperature
        if row.needs_labels:
            arguments["label_probs"] = label_probs
        return arguments


def _check_combination(lambda_: float | None, weights: tuple[float, float] | None) -> None:
    if lambda_ is not None and weights is not None:
        raise InputError(f"lambda {lambda_:g} and weights {tuple(weights)} are two ways to combine: leave one out")
    if lambda_ is not None and not 0 <= lambda_ <= 1:
        raise InputError(f"lambda must lie in 0..1, received {lambda_}: 0 is labels alone, 1 the teacher alone")
    if weights is not None and not (len(weights) == 2 and min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise InputError(
            f"weights are two numbers, of cross entropy and of the soft loss, 0 or more and one of them above 0, "
            f"received {tuple(weights)}: try 1 1"
        )


def _check_options(name: str, options: Mapping[str, float]) -> None:
    known = SOFT_LOSSES[name].options
    for option, value in options.items():
        if not known:
            raise InputError(f'the loss "{name}" has no options, received "{option}": leave it out')
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise InputError(f'the loss "{name}" has no option "{option}": {hint}')
        if not 0 <= value < math.inf:
            raise InputError(
                f'option {option} of "{name}" must be 0 or more, received {value}: try {known[option]:g}'
            )
