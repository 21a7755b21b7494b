"""`FeatureObjective`: a loss on features of a student and its teacher, added to any other objective."""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import KerasTensor, layers, ops

from distill.averages import average_map
from distill.errors import InputError
from distill.losses.feature_losses import EMBEDDED, SAME_POSITIONS, SAME_SHAPE, feature_loss_named
from distill.losses.formulas import Tensor
from distill.losses.loss_options import check_options
from distill.losses.objective import FEATURES, Batch, Objective, build, own_layers

_SEED = 0  # of projectors, so that they begin alike whatever was drawn before
_EMBEDDING = 128  # numbers in a vector, as Tian et al. 2020 have them


class FeatureObjective(Objective):
    """loss of `logits` + weight · the sum, over pairs of layers, of a loss on their features.

    Where a loss compares features number by number, a projector gives the student's the shape of the teacher's: a
    1x1 convolution of maps, a dense layer of vectors. It is trained with the student, kept in the checkpoints of the
    run, and no part of the student's file. Of two maps the larger one is averaged to the size of the smaller one, and
    a map that meets a vector to one. Where a loss compares embeddings, each side has a projector, a dense layer from
    vectors, which maps are averaged to, to 128 numbers.

    Args:
        logits: the objective that it is added to.
        loss: one of `FEATURE_LOSSES`.
        pairs: names of the student's layers, each with the teacher's feature that it is compared with, as it is
            called in the store: "conv5", or "conv5@7".
        weight: above 0, what the loss on features is multiplied by; None: the usual one of the loss.
        options: of the loss.

    Raises:
        InputError: an unknown loss or option, one out of range, or no pair.
    """

    def __init__(
        self,
        logits: Objective,
        loss: str,
        *,
        pairs: Mapping[str, str],
        weight: float | None = None,
        options: Mapping[str, float] | None = None,
    ):
        row = feature_loss_named(loss)
        if not pairs:
            raise InputError(
                f"the loss {loss} compares layers, and none is named: give STUDENT_LAYER=TEACHER_FEATURE"
            )
        check_options(loss, row.options, options or {}, above_zero=row.above_zero)
        self.logits, self.loss, self.row, self.pairs = logits, loss, row, dict(pairs)
        self.weight = row.weight if weight is None else float(weight)
        if not 0 < self.weight < math.inf:
            raise InputError(f"the weight of {loss} must be above 0, received {weight}: try {row.weight:g}")
        self.options = {**row.options, **(options or {})}
        self.projectors: list[keras.layers.Layer] = []

    @property
    def teacher_outputs(self) -> tuple[str, ...]:  # type: ignore[override]  # cannot be set
        """Those of the other objective, and the features."""
        named = [FEATURES + name for name in self.pairs.values()]
        return tuple(dict.fromkeys([*self.logits.teacher_outputs, *named]))

    @property
    def student_layers(self) -> tuple[str, ...]:  # type: ignore[override]  # likewise
        """Those of the other objective, and of the pairs."""
        return tuple(dict.fromkeys([*self.logits.student_layers, *self.pairs]))

    @property
    def uses_labels(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the other objective does."""
        return self.logits.uses_labels

    @property
    def teacher_temperature(self) -> float | None:  # type: ignore[override]  # likewise
        """That of the other objective."""
        return self.logits.teacher_temperature

    @property
    def layers(self) -> list[keras.layers.Layer]:  # type: ignore[override]  # likewise
        """Those of the other objective, and the projectors, in the order of the pairs."""
        return [*own_layers(self.logits), *self.projectors]

    @property
    def tested(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the other objective is."""
        return self.logits.tested

    def build(self, student_outputs: Mapping[str, KerasTensor], teacher_outputs: Mapping[str, KerasTensor]) -> None:
        """Make the projectors, where the loss needs them.

        Raises:
            InputError: features of which it cannot be computed.
        """
        build(self.logits, student_outputs, teacher_outputs)
        self.projectors = []
        for number, (layer, feature) in enumerate(self.pairs.items()):
            student, teacher = student_outputs[layer].shape[1:], teacher_outputs[FEATURES + feature].shape[1:]
            self._check(f"{layer} {list(student)}", tuple(student), f"{feature} {list(teacher)}", tuple(teacher))
            if self.row.compares == SAME_SHAPE:
                shape = _compared_shape(tuple(student), tuple(teacher))
                self.projectors.append(_projector(number, (*shape, student[-1]), teacher[-1]))
            if self.row.compares == EMBEDDED:
                self.projectors.append(_projector(2 * number, student[-1:], _EMBEDDING))
                self.projectors.append(_projector(2 * number + 1, teacher[-1:], _EMBEDDING))

    def __call__(self, student_outputs: Mapping[str, Tensor], batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """Return the parts of the other objective, "loss" with the loss on features, and that by its name."""
        parts = self.logits(student_outputs, batch, progress)
        of_pairs = [
            self._of_pair(number, student_outputs[layer], batch.teacher[FEATURES + feature])
            for number, (layer, feature) in enumerate(self.pairs.items())
        ]
        total = sum(of_pairs[1:], of_pairs[0])
        if self.loss in parts:
            raise InputError(
                f'the objective {self.logits.formula} has a part named "{self.loss}", as the loss on features '
                "is: give it another name"
            )
        return {**parts, "loss": parts["loss"] + self.weight * total, self.loss: total}

    @property
    def formula(self) -> str:
        """That of the other objective, and what is added to it."""
        named = ", ".join(f"s={layer} t={feature}" for layer, feature in self.pairs.items())
        own = self.row.formula.format(**self.options)
        return f"{self.logits.formula} + {self.weight:g}·{self.loss}: {own}, {named}"

    def numbers(self, progress: float) -> dict[str, float]:
        """Return what moves in the other objective."""
        return self.logits.numbers(progress)

    def describe(self) -> dict[str, Any]:
        """Return JSON-able facts for a run's record: those of the other objective, and the loss on features."""
        own: dict[str, Any] = {
            "loss": self.loss,
            "weight": self.weight,
            "options": dict(self.options),
            "pairs": dict(self.pairs),
        }
        described = self.logits.describe()
        if "features" in described:
            own["added_to"] = described["features"]
        return {**described, "formula": self.formula, "features": own}

    def _of_pair(self, number: int, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = ops.cast(student, "float32"), ops.cast(teacher, "float32")
        if self.row.compares in (SAME_SHAPE, SAME_POSITIONS):
            shape = _compared_shape(tuple(student.shape[1:]), tuple(teacher.shape[1:]))
            student, teacher = (_averaged(each, shape) for each in (student, teacher))
        if self.row.compares == SAME_SHAPE:
            student = self.projectors[number](student)
        if self.row.compares == EMBEDDED:
            student, teacher = (
                projector(_averaged(each, ()))
                for projector, each in zip(self.projectors[2 * number :], (student, teacher), strict=False)
            )
        return self.row.function(student_features=student, teacher_features=teacher, **self.options)

    def _check(self, named: str, student: tuple[int, ...], other: str, teacher: tuple[int, ...]) -> None:
        if None in (*student, *teacher):
            raise InputError(f"the loss {self.loss} needs features of a fixed size, received {named} and {other}")
        if self.row.compares == SAME_POSITIONS and not len(student) == len(teacher) == 3:
            raise InputError(
                f"the loss {self.loss} compares maps, received {named} of the student and {other} of the teacher: "
                "choose layers [height, width, channels], and LAYER@SIDE of the teacher"
            )
        if self.row.compares in (SAME_SHAPE, EMBEDDED) and not {len(student), len(teacher)} <= {1, 3}:
            raise InputError(
                f"the loss {self.loss} compares vectors or maps, received {named} of the student and {other} of the "
                "teacher"
            )


def _projector(number: int, shape: tuple[int, ...], channels: int) -> keras.layers.Layer:
    """Return the layer from a vector or a map of this shape to one of so many channels, built."""
    how: dict[str, Any] = {"name": f"projector_{number}", "dtype": "float32"}
    how["kernel_initializer"] = keras.initializers.GlorotUniform(seed=_SEED + number)
    projector = layers.Conv2D(channels, 1, **how) if len(shape) == 3 else layers.Dense(channels, **how)
    projector.build((None, *shape))
    return projector


def _compared_shape(student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[int, ...]:
    """Return height and width at which two features are compared; () where one of them is a vector."""
    if len(student) == 1 or len(teacher) == 1:
        return ()
    return (min(student[0], teacher[0]), min(student[1], teacher[1]))


def _averaged(features: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return [B, C] or [B, H, W, C] at the height and width of `shape`."""
    if not shape:
        return ops.mean(features, axis=(1, 2)) if len(features.shape) == 4 else features
    return average_map(features, (shape[0], shape[1]), ops)
