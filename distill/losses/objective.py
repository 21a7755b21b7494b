"""`Objective`: what a student is trained on. The trainer knows nothing else of losses and their schedules.

`DistillationObjective` is the one of logits: cross entropy and a soft loss, whose numbers may move over the run.
"""

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import keras
from keras import KerasTensor

from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.formulas import Tensor
from distill.losses.schedules import Ramp, WarmedRamp
from distill.losses.soft_losses import SoftLoss
from distill.python_numbers import python_numbers
from distill.source_code import source_sha256

LOGITS = "logits"
"""What the logits are called among the outputs of a student, and of a teacher."""


FEATURES = "features/"
"""What the names of a teacher's features begin with among its outputs."""


class Batch(NamedTuple):
    """What one training step sees. It holds no teacher, so a step can neither train nor swap one."""

    images: Tensor
    """float32 [B, height, width, channels], 0..255, at the student's own size."""
    label_probs: Tensor
    """float32 [B, C]; a row of zeros is an unlabelled example."""
    teacher: Mapping[str, Tensor]
    """The teacher's outputs for the same views as `images`, by name: "logits" float32 [B, C], raw, and those features
    that the objective asks for, "features/NAME" float32 [B, ...]. Empty when training from labels alone."""
    sample_weights: Tensor
    """float32 [B], how much each example counts in the loss."""


class Objective(Protocol):
    """What a student is trained on. Derive from it, and write `__call__`; the rest has defaults.

    The trainer takes the mean of "loss", weighted by `batch.sample_weights`, and adds the student's own regularisers
    and those of `layers`. It computes with `keras.ops` or TensorFlow, because it is traced once, into one graph.
    """

    teacher_outputs: Collection[str] = (LOGITS,)
    """Which outputs of a teacher it reads from `batch.teacher`: "logits", "features/NAME" of one in its store."""
    student_layers: Collection[str] = ()
    """Names of the student's layers whose outputs it reads, in addition to the logits."""
    uses_labels: bool = True
    """Whether labels ever change the loss."""
    teacher_temperature: float | None = None
    """T at which it uses a teacher's logits in the beginning: what the mean of several teachers' probabilities, given
    as logits, is exact at; None: it has none."""
    layers: Sequence[keras.layers.Layer] = ()
    """Layers of its own, such as a projector, that are trained with the student; those that are attributes need not
    stand here. The run keeps their weights and resumes them, as it does Keras variables that the objective changes
    itself; the student's file does not hold them."""
    tested: bool = False
    """Whether tests hold that it returns what it should, finite for all finite outputs. Any other one is tried with
    the shapes of a batch before training, and is named where a loss is not finite."""

    def build(self, student_outputs: Mapping[str, KerasTensor], teacher_outputs: Mapping[str, KerasTensor]) -> None:
        """Make the weights of `layers`, once, before training; shapes and types are those of the outputs."""
        return  # without it, a type checker takes the method for abstract

    def __call__(self, student_outputs: Mapping[str, Tensor], batch: Batch, progress: Tensor) -> Mapping[str, Tensor]:
        """Return "loss" and any parts of it to be shown, each float [B], one value per example.

        Args:
            student_outputs: "logits" [B, C], and the outputs of `student_layers` by their names.
            batch: of a training step.
            progress: scalar 0..1, how much of the run is done: what temperatures and weights move by.
        """
        ...

    @property
    def formula(self) -> str:
        """What is learned, in a line."""
        return type(self).__name__

    def numbers(self, progress: float) -> dict[str, float]:
        """Return what moves, such as "temperature", at a moment of the run: columns of its metrics.csv."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return JSON-able facts for a run's record: two objectives that teach the same have the same.

        By default where its class stands, the sha256 of that source file, and its own attributes, but for those that
        `build` sets.

        Raises:
            InputError: an attribute that JSON does not know: write a `describe` of your own.
        """
        return {
            "formula": self.formula,
            "class": f"{type(self).__module__}:{type(self).__qualname__}",
            "source_sha256": source_sha256(type(self)),
            "settings": _plain(
                {name: vars(self)[name] for name in _attributes(self) if name not in _set_by_build(self)}, self
            ),
        }


@dataclass(frozen=True, kw_only=True)
class DistillationObjective(Objective):
    """A `DistillationLoss`, whose temperature and whose weight of the soft part may move; by default neither does.

    The weight of the soft part is lambda, with labels that weigh 1 - lambda; of a loss with explicit weights it is
    the second of them, and the first stays.

    Raises:
        InputError: a schedule of what the loss does not have, or one that leaves its range or the run.
    """

    loss: DistillationLoss
    temperature: Ramp = Ramp()
    soft_weight: WarmedRamp = WarmedRamp()
    epochs: int | None = None
    """Of the whole run, which a warm-up of so many epochs is a share of."""

    def __post_init__(self):
        if not self._moving:
            return
        if not self.loss.uses_teacher:
            raise InputError(
                f"the loss {self.loss.formula} has no soft part that a schedule could move: omit "
                "--temperature-schedule and --lambda-schedule, or give --logits and a --lambda above 0"
            )
        if self.temperature.moves:
            self._check_temperature()
        self._check_soft_weight()

    def _check_temperature(self) -> None:
        if self.loss.temperature is None:
            raise InputError(f'the loss "{self.loss.name}" has no temperature: omit --temperature-schedule')
        if self.temperature.end is not None and not self.temperature.end > 0:
            raise InputError(f"temperature must stay above 0, received the end {self.temperature.end:g}: try 1")

    def _check_soft_weight(self) -> None:
        highest = float("inf") if self.loss.lambda_ is None else 1
        if self.soft_weight.end is not None and not 0 <= self.soft_weight.end <= highest:
            raise InputError(f"lambda must stay in 0..{highest}, received the end {self.soft_weight.end:g}")
        if self.soft_weight.warmup_epochs and self.epochs is None:
            raise InputError("a warm-up over epochs is a share of the run: give the objective its epochs")
        if self.soft_weight.warmup_epochs > (self.epochs or 0):
            raise InputError(
                f"lambda warms up over {self.soft_weight.warmup_epochs:g} epochs, the run has {self.epochs}: "
                "give fewer --lambda-schedule.warmup-epochs"
            )

    # Attributes of an `Objective` can be set; of a frozen one they follow from the loss.
    @property
    def teacher_outputs(self) -> tuple[str, ...]:  # type: ignore[override]  # cannot be set
        """The logits, unless labels alone are learned from."""
        return (LOGITS,) if self.loss.uses_teacher else ()

    @property
    def teacher_temperature(self) -> float | None:  # type: ignore[override]  # likewise
        """T of the loss, where it begins."""
        return self.loss.temperature

    @property
    def uses_labels(self) -> bool:  # type: ignore[override]  # likewise
        """Whether a label ever changes the value."""
        return self.loss.uses_labels or (self.soft_weight.moves and self.loss.lambda_ is not None)

    @property
    def tested(self) -> bool:  # type: ignore[override]  # likewise
        """Whether its soft loss is one of this project."""
        return not self.loss.soft.source

    @property
    def formula(self) -> str:
        """The formula at the start, and what moves in it."""
        moving = [f"{name} {ramp.describe(start)}" for name, (start, ramp) in self._moving.items()]
        return "; ".join([self.loss.formula, *moving]).replace("soft_weight", "weight of the soft part")

    def describe(self) -> dict[str, Any]:
        """Return JSON-able facts for a run's record; schedules stand there only where something moves."""
        schedules = {name: asdict(ramp) for name, (_, ramp) in self._moving.items()}
        return {**self.loss.describe(), "formula": self.formula} | ({"schedules": schedules} if schedules else {})

    def numbers(self, progress: float) -> dict[str, float]:
        """Return "temperature" and "soft_weight" at a moment of the run; only what moves."""
        return {name: float(value) for name, value in self._numbers(progress).items()}

    def __call__(self, student_outputs: Mapping[str, Tensor], batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """Return "loss", "cross_entropy" and, with a teacher, "distillation"; see `DistillationLoss`."""
        numbers = self._numbers(progress)
        if "soft_weight" in numbers:
            soft_weight = numbers.pop("soft_weight")
            weights = (self.loss.term_weights[0], soft_weight)
            numbers |= {"weights": weights} if self.loss.lambda_ is None else {"lambda_": soft_weight}
        return self.loss(
            student_logits=student_outputs[LOGITS],
            labels=batch.label_probs,
            teacher_logits=batch.teacher.get(LOGITS),
            **numbers,
        )

    def _numbers(self, progress: float | Tensor) -> dict[str, Any]:
        return {name: ramp.at(start, progress, epochs=self.epochs) for name, (start, ramp) in self._moving.items()}

    @property
    def _moving(self) -> dict[str, tuple[float, Ramp]]:
        """What moves: where it starts, and how."""
        ramps: dict[str, tuple[Any, Ramp]] = {  # the temperature may be None where it stays
            "temperature": (self.loss.temperature, self.temperature),
            "soft_weight": (self.loss.term_weights[1], self.soft_weight),
        }
        return {name: (start, ramp) for name, (start, ramp) in ramps.items() if ramp.moves}


_BUILT = "_set_by_build"
_OF_FUNCTIONS = ("teacher_outputs", "student_layers", "uses_labels", "teacher_temperature", "build")


class FunctionObjective(Objective):
    """A function `objective(student_outputs, batch, progress)`; what it needs are attributes of it, if any.

    They are those of an `Objective`: `layers`, for example, and a function `build` that makes their weights.
    """

    def __init__(self, function: Callable[..., Mapping[str, Tensor]]):
        self._function = function
        for name in _OF_FUNCTIONS:
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))

    def __call__(self, student_outputs: Mapping[str, Tensor], batch: Batch, progress: Tensor) -> Mapping[str, Tensor]:
        return self._function(student_outputs, batch, progress)

    @property
    def layers(self) -> Sequence[keras.layers.Layer]:  # type: ignore[override]  # cannot be set
        """Those of the function, or of the object that is called, which `build` may have made."""
        return list(_layers_in([getattr(self._function, "layers", ()), getattr(self._function, "__dict__", {})]))

    @property
    def formula(self) -> str:
        """Where the function stands."""
        function = self._function
        function = function.func if isinstance(function, partial) else function
        return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"

    def describe(self) -> dict[str, Any]:
        """Return where the function stands, and the sha256 of that source file."""
        return {"formula": self.formula, "source_sha256": source_sha256(self._function)}


def as_objective(what: Any) -> Objective:
    """Return an objective as such, and wrap what stands for one.

    Args:
        what: an `Objective`; a `DistillationLoss` or `SoftLoss`; the name of one of `SOFT_LOSSES`; a function of
            (student_outputs, batch, progress), or of (student_logits, teacher_logits[, label_probs][, temperature]).

    Raises:
        InputError: none of these.
    """
    if isinstance(what, str):
        what = DistillationLoss(what)
    if isinstance(what, SoftLoss):
        what = DistillationLoss(soft=what)
    if isinstance(what, DistillationLoss):
        return DistillationObjective(loss=what)
    if not callable(what) or inspect.isclass(what):
        raise InputError(f"an objective is called in every training step, received {what!r}: see distill.Objective")
    if all(hasattr(what, name) for name in ("describe", "build", "formula")):
        return what
    return FunctionObjective(what) if is_batch_function(what) else as_objective(SoftLoss.of(what))


def own_layers(objective: Objective, student: keras.Model | None = None) -> list[keras.layers.Layer]:
    """Return the layers that are trained with the student: those in `layers`, and all that are attributes of it.

    Args:
        student: which the objective may hold, or layers of it: these are none of its own.
    """
    found = _layers_in([objective.layers, getattr(objective, "__dict__", {})])
    of_student = set() if student is None else {id(variable) for variable in student.variables}
    own = {id(layer): layer for layer in found}
    return [layer for layer in own.values() if not any(id(variable) in of_student for variable in layer.variables)]


def _layers_in(value: Any) -> Iterator[keras.layers.Layer]:
    """Yield the layers in lists and dictionaries, however deep they lie."""
    if isinstance(value, keras.layers.Layer):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _layers_in(each)


def build(
    objective: Objective, student_outputs: Mapping[str, KerasTensor], teacher_outputs: Mapping[str, KerasTensor]
) -> None:
    """Call `objective.build`, and remember which attributes it sets: they are no settings of the objective."""
    before = _attributes(objective)
    objective.build(student_outputs, teacher_outputs)
    if added := [name for name in _attributes(objective) if name not in before]:
        object.__setattr__(objective, _BUILT, (*_set_by_build(objective), *added))


def _attributes(objective: Objective) -> list[str]:
    return [name for name in getattr(objective, "__dict__", {}) if not name.startswith("_")]


def _set_by_build(objective: Objective) -> Sequence[str]:
    return getattr(objective, _BUILT, ())


def is_batch_function(function: Callable[..., Any]) -> bool:
    """Whether a function takes (student_outputs, batch, progress), as an `Objective` is called."""
    return tuple(inspect.signature(function).parameters)[1:] == ("batch", "progress")


def _plain(values: Mapping[str, Any], objective: Objective) -> dict[str, Any]:
    settings = {name: each for name, each in values.items() if name != "layers" and not _is_layers(each)}
    try:
        return json.loads(json.dumps(python_numbers(settings)))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{type(objective).__qualname__} has attributes that JSON does not know ({error}): let their names begin "
            "with _, or write its describe()"
        ) from error


def _is_layers(value: Any) -> bool:
    several = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(several, (list, tuple)):
        return bool(several) and all(map(_is_layers, several))
    return isinstance(several, keras.layers.Layer)
