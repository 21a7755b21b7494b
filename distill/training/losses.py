"""Losses: pure functions of logits and labels, one value per example.

Every function takes keyword-only arguments and returns float32 [B]; the trainer alone reduces them.
Temperature is applied here and nowhere else. `labels` are class numbers [B] or probabilities [B, C].
z are logits, s the student, t the teacher, y the label, and p^T = softmax(z / T).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from keras import KerasTensor, ops

from distill.errors import InputError

Tensor = KerasTensor


def cross_entropy(*, student_logits: Tensor, labels: Tensor) -> Tensor:
    """CE(y, s) = -sum_i y_i log p_s,i at temperature 1.

    Args:
        student_logits: [B, C].
        labels: class numbers [B], or probabilities [B, C]. An unlabelled example (class number -1, or a row of
            zeros) has loss 0.

    Returns:
        float32 [B].
    """
    label_probs = labels if len(labels.shape) == 2 else ops.one_hot(labels, student_logits.shape[-1])
    student_log_probs = ops.log_softmax(_float32(student_logits), axis=-1)
    return -ops.sum(_float32(label_probs) * student_log_probs, axis=-1)


def soft_cross_entropy(
    *, student_logits: Tensor, teacher_logits: Tensor, temperature: float, t_squared: bool = False
) -> Tensor:
    """CE(p_t^T, p_s^T) = -sum_i p_t^T,i log p_s^T,i, the soft part of MicroExpNet's loss (Çuğu et al. 2017).

    Its gradient by z_s is (p_s^T - p_t^T) / T. Its smallest value is the teacher's entropy, not 0.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C]; no gradient flows into them.
        temperature: T > 0, for both sides.
        t_squared: multiply by T², so that the gradient keeps its size at every T (Hinton et al. 2015, section 2).

    Returns:
        float32 [B].
    """
    teacher_probs = ops.softmax(_teacher(teacher_logits) / temperature, axis=-1)
    student_log_probs = ops.log_softmax(_float32(student_logits) / temperature, axis=-1)
    scale = temperature**2 if t_squared else 1.0
    return -scale * ops.sum(teacher_probs * student_log_probs, axis=-1)


def soft_kl_divergence(
    *, student_logits: Tensor, teacher_logits: Tensor, temperature: float, t_squared: bool = True
) -> Tensor:
    """T²·KL(p_t^T ‖ p_s^T), the soft part of knowledge distillation (Hinton et al. 2015).

    It has the gradient of `soft_cross_entropy` and is 0 where both softened distributions agree.

    Args and returns as for `soft_cross_entropy`.
    """
    teacher_log_probs = ops.log_softmax(_teacher(teacher_logits) / temperature, axis=-1)
    student_log_probs = ops.log_softmax(_float32(student_logits) / temperature, axis=-1)
    scale = temperature**2 if t_squared else 1.0
    return scale * ops.sum(ops.exp(teacher_log_probs) * (teacher_log_probs - student_log_probs), axis=-1)


@dataclass(frozen=True)
class SoftLoss:
    """A row of `SOFT_LOSSES`: the function and the formula that is printed for it."""

    function: Callable[..., Tensor]
    formula: str


SOFT_LOSSES = {
    "microexpnet": SoftLoss(soft_cross_entropy, "CE(softmax(t/T), s/T)"),
    "hinton": SoftLoss(partial(soft_kl_divergence, t_squared=True), "T²·KL(softmax(t/T) ‖ softmax(s/T))"),
}


@dataclass(frozen=True)
class DistillationLoss:
    """(1 - lambda)·CE(y, s) + lambda·soft loss(t, s, T): what a student is trained on.

    The defaults are MicroExpNet's. A lambda of 0 is training from labels alone and needs no teacher; such a
    loss is written `DistillationLoss(lambda_=0)`.

    Raises:
        InputError: unknown name, a temperature that is not above 0, or a lambda outside 0..1.
    """

    name: str = "microexpnet"
    temperature: float = 8.0
    lambda_: float = 0.5

    def __post_init__(self):
        if self.name not in SOFT_LOSSES:
            raise InputError(f'unknown loss "{self.name}": choose one of {", ".join(SOFT_LOSSES)}')
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature must be above 0, received {self.temperature}: try 8")
        if not 0 <= self.lambda_ <= 1:
            raise InputError(
                f"lambda must lie in 0..1, received {self.lambda_}: 0 is labels alone, 1 the teacher alone"
            )

    @property
    def formula(self) -> str:
        """The formula in use, with its numbers."""
        if self.lambda_ == 0:
            return "CE(y, s)"
        soft = f"{self.lambda_:g}·{SOFT_LOSSES[self.name].formula}, T={self.temperature:g}"
        return soft if self.lambda_ == 1 else f"{1 - self.lambda_:g}·CE(y, s) + {soft}"

    def __call__(self, *, student_logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> dict[str, Tensor]:
        """Return "loss" and its parts, each float32 [B]."""
        parts = {"cross_entropy": cross_entropy(student_logits=student_logits, labels=labels)}
        if self.lambda_ == 0:
            return {"loss": parts["cross_entropy"], **parts}
        parts["distillation"] = SOFT_LOSSES[self.name].function(
            student_logits=student_logits, teacher_logits=teacher_logits, temperature=self.temperature
        )
        total = (1 - self.lambda_) * parts["cross_entropy"] + self.lambda_ * parts["distillation"]
        return {"loss": total, **parts}


def _float32(logits: Tensor) -> Tensor:
    # Half precision has too few digits for a log-softmax over a wide range of logits.
    return ops.cast(logits, "float32")


def _teacher(logits: Tensor) -> Tensor:
    return ops.stop_gradient(_float32(logits))
