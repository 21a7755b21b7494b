"""`FEATURE_LOSSES`: how a student learns from a teacher's features, each a row with its usual settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from distill.losses import feature_formulas as formulas
from distill.losses.formulas import Tensor
from distill.refusals import check_known

SAME_SHAPE, SAME_POSITIONS, ANY_SHAPE, EMBEDDED = "same shape", "same positions", "any shape", "embedded"


@dataclass(frozen=True)
class FeatureLoss:
    """A loss on features: a pure formula, what it needs of their shapes, and its usual settings."""

    function: Callable[..., Tensor]
    """Of `student_features` and `teacher_features`, each [B, ...], and its options -> float32 [B]."""
    formula: str
    """With its options, as `str.format` fills them in."""
    compares: str
    """Features of the `SAME_SHAPE`, so that a projector gives the student's that of the teacher's; maps of the
    `SAME_POSITIONS`, of which the larger one is averaged to the size of the other; of `ANY_SHAPE`; or `EMBEDDED`,
    as vectors that a projector of each makes."""
    weight: float
    """What it is usually multiplied by, next to the loss on logits."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Its own parameters, 0 or more."""
    above_zero: tuple[str, ...] = ()
    """Those of them that may not be 0."""


# Weights are those of the papers' authors, or of Tian et al. 2020 (https://arxiv.org/abs/1910.10699), who compare
# them: attention 1000 / 2, similarity-preserving 3000, distance 25 and angle 50, contrastive 0.8. Theirs of hint is
# 100, of features behind batch norms; here it is 1, for features of any size.
FEATURE_LOSSES = {
    "hint": FeatureLoss(formulas.hint, "mean of (r(s) - t)²", SAME_SHAPE, weight=1.0),
    "attention": FeatureLoss(formulas.attention_transfer, "mean of (a(s) - a(t))²", SAME_POSITIONS, weight=500.0),
    "relational": FeatureLoss(
        formulas.relational,
        "({distance:g}·distances + {angle:g}·angles)",
        ANY_SHAPE,
        weight=25.0,
        options={"distance": 1.0, "angle": 2.0},
    ),
    "similarity": FeatureLoss(formulas.similarity_preserving, "mean of (g(s) - g(t))²", ANY_SHAPE, weight=3000.0),
    "contrastive": FeatureLoss(
        formulas.contrastive,
        "-log h(s, t) - log h(t, s) in the batch, T={temperature:g}",
        EMBEDDED,
        weight=0.8,
        options={"temperature": 0.07},
        above_zero=("temperature",),
    ),
}


def feature_loss_named(name: str) -> FeatureLoss:
    """Return the row of `FEATURE_LOSSES` called `name`.

    Raises:
        InputError: there is none.
    """
    check_known(name, FEATURE_LOSSES, what="loss on features")
    return FEATURE_LOSSES[name]
