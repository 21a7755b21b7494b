"""Soft losses: what a student learns from its teacher's logits. `SOFT_LOSSES` holds the published ones."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from distill.errors import InputError
from distill.losses import formulas
from distill.losses.formulas import Tensor
from distill.refusals import alternatives
from distill.source_code import source_sha256

_LOGITS = ("student_logits", "teacher_logits")


@dataclass(frozen=True)
class SoftLoss:
    """A loss between the logits of student and teacher, how it is printed, and the settings it is usually given."""

    function: Callable[..., Tensor]
    """Takes `student_logits` and `teacher_logits` [B, C] by keyword, `temperature` where the row has one,
    `label_probs` where it needs labels, and its options; returns one value per example, [B]."""
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
    warmup_epochs: float = 0.0
    """Epochs over which the weight of the soft part usually rises from 0."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Of an external loss: "function", where it stands, and "source_sha256", of the code there."""

    @classmethod
    def of(cls, function: Callable[..., Tensor]) -> "SoftLoss":
        """Return the row of a function of one's own, read off its signature. It is used alone (lambda 1) by default.

        Args:
            function: of `student_logits` and `teacher_logits`, [B, C]; if it likes, of `label_probs` [B, C] and
                `temperature`; every further parameter is an option, a number. Temperature and options have defaults.

        Raises:
            InputError: it lacks one of the logits, or a default.
        """
        written = function.func if isinstance(function, partial) else function
        own_name = getattr(written, "__qualname__", type(written).__name__)  # an object has none
        name = f"{written.__module__}:{own_name}"
        parameters = inspect.signature(function).parameters
        missing = [each for each in _LOGITS if each not in parameters]
        if missing:
            raise InputError(
                f"the loss {name} takes {', '.join(parameters) or 'nothing'}: it needs {' and '.join(missing)}, "
                "and may take label_probs, temperature and options"
            )
        own = {each: given.default for each, given in parameters.items() if each not in (*_LOGITS, "label_probs")}
        for each, default in own.items():
            if isinstance(default, bool) or not isinstance(default, (int, float)):
                raise InputError(f"{each} of the loss {name} needs a number as its default, such as {each}=1.0")
        temperature = own.pop("temperature", None)
        shown = ", ".join(["s", "t", *(["T"] if temperature is not None else []), *(f"{o}={{{o}:g}}" for o in own)])
        return cls(
            function,
            formula=f"{getattr(written, '__name__', own_name)}({shown})",
            temperature=temperature,
            lambda_=1.0,
            options=own,
            needs_labels="label_probs" in parameters,
            source={"function": name, "source_sha256": source_sha256(function)},
        )


# Usual settings are those of the papers, but for Hinton's, which most papers compare with at T = 4 and lambda = 0.9.
# TTM and WTTM were tuned for each pair of networks: T from 2.5 to 10, and weights from 7 to 101 and from 0.6 to 16;
# here those of VGG13 and VGG8. Kim et al. train on mean squared logits alone, without labels. DIST's weights are
# those of all three of its authors' classification settings; its T is 1 on ImageNet and 4 on CIFAR-100. DKD's
# warm-up is that of its authors' settings for CIFAR-100.
SOFT_LOSSES = {
    "microexpnet": SoftLoss(formulas.soft_cross_entropy, "CE(softmax(t/T), s/T)", temperature=8.0, lambda_=0.5),
    "hinton": SoftLoss(
        formulas.soft_kl_divergence, "T²·KL(softmax(t/T) ‖ softmax(s/T))", temperature=4.0, lambda_=0.9
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
        warmup_epochs=20.0,
    ),
    "dist": SoftLoss(
        formulas.correlation_distance,
        "T²·({beta:g}·(1 - r over classes) + {gamma:g}·(1 - r over the batch))",
        where="r=correlation of softmax(t/T) and softmax(s/T)",
        temperature=1.0,
        weights=(1.0, 2.0),
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


def loss_named(name: str) -> SoftLoss:
    """Return the row of `SOFT_LOSSES` called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in SOFT_LOSSES:
        raise InputError(
            f'unknown loss "{name}" (one of your own is MODULE:FUNCTION): {alternatives(name, SOFT_LOSSES)}'
        )
    return SOFT_LOSSES[name]
