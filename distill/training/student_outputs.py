"""What an objective reads of a student, its logits and the outputs of layers, and what is trained with it."""

import itertools
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from distill.errors import InputError
from distill.losses.objective import LOGITS, Batch, Objective, build, own_layers
from distill.refusals import alternatives, reason
from distill.training.batches import JointBatches, ViewBatches

_FEWEST = 3  # images in the batch that an objective is tried with
RESERVED = ("weight", "images", "labelled", "correct", "agreeing", "accuracy", "agreement")
"""What a step measures beside the parts of an objective."""
_MEASURED = ("epoch", "seconds", "images_per_second", "input_share", "learning_rate")
"""Columns of a run's metrics that no number of an objective may be called by, and so is what begins as follows."""
_BEGIN = ("train_", "validation_")


class StudentOutputs:
    """Calls a student in training, and returns its logits with the outputs of some of its layers, by name.

    Args:
        student: returns raw logits.
        layers: names of its layers.

    Raises:
        InputError: it has no such layer (near names are offered), or is not a graph of layers to look into.
    """

    def __init__(self, student: keras.Model, layers: Collection[str] = ()):
        self.network = student
        self._graph = None if not layers else _graph(student, layers)

    @property
    def losses(self) -> list:
        """The student's own regularisers, of its last call."""
        return (self._graph or self.network).losses

    def __call__(self, images: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Return "logits" [B, C] and the outputs of the layers for float32 images [B, H, W, channels]."""
        if self._graph is None:
            return {LOGITS: self.network(images, training=True)}
        return self._graph(images, training=True)

    @property
    def specifications(self) -> dict[str, KerasTensor]:
        """Shapes and types of what a call returns."""
        if self._graph is not None:
            return dict(self._graph.output)
        return {LOGITS: KerasTensor(self.network.output_shape, "float32")}


def build_objective(
    objective: Objective, student: keras.Model, batches: ViewBatches | JointBatches
) -> list[keras.layers.Layer]:
    """Make the weights of the objective's own layers, for the outputs of `student` and of its teacher.

    One that is not `tested` is also tried: traced once with the shapes of a batch, so that what is wrong with it
    shows before anything is trained, and layers that `build` leaves to their first call have their weights.

    Returns:
        What a run keeps with the student: these layers, and one that holds the variables which the objective changes
        itself, such as a moving mean, if there are any.

    Raises:
        InputError: it fails, or returns something else than "loss" and parts of it, each [B].
    """
    if objective.tested and type(objective).build is Objective.build:
        return own_layers(objective, student)  # there is nothing to make, and nothing to try
    outputs = StudentOutputs(student, objective.student_layers).specifications
    teacher = {
        name: KerasTensor((None, *array.shape[1:]), array.dtype.name)
        for name, array in batches.teacher_sample().items()
        if name in objective.teacher_outputs
    }
    with _in_one_line(objective):
        build(objective, outputs, teacher)
        if objective.tested:
            return own_layers(objective, student)
        _check_numbers(objective)
        shapes = [each.shape for each in (*outputs.values(), *teacher.values())]
        tried = _images_to_try(batches, {side for shape in shapes for side in shape})
        parts, traced = _traced(objective, outputs, teacher, batches, tried)
        _check_parts(parts, objective, tried)
        _check_trained(traced.read, objective, student)
        _check_no_plain_variables(objective)
    layers = own_layers(objective, student)
    in_layers = {id(variable) for part in (student, *layers) for variable in part.variables}
    beside = [variable for variable in traced.changed if id(variable) not in in_layers]
    return [*layers, _Variables(beside)] if beside else layers


@contextmanager
def _in_one_line(objective: Objective) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the code of somebody else raises
        raise InputError(f"the objective {objective.formula} failed: {reason(error)}{_where(error)}") from error


def check_objective(objective: Objective, student: keras.Model, teacher_outputs: Mapping[str, KerasTensor]) -> None:
    """Check, before there is any batch, that an objective can be computed of what a student and a teacher give.

    Raises:
        InputError: the student has no such layer, or the objective cannot be built of these shapes.
    """
    outputs = StudentOutputs(student, objective.student_layers).specifications
    with _in_one_line(objective):
        build(objective, outputs, teacher_outputs)


def trained_variables(student: keras.Model, objective: Objective) -> list[keras.Variable]:
    """Return what a step changes: the student's trainable variables, and then those of the objective's layers."""
    parts = (student, *own_layers(objective, student))
    variables = [variable for part in parts for variable in part.trainable_variables]
    return list({id(variable): variable for variable in variables}.values())


def _images_to_try(batches: ViewBatches | JointBatches, sides: Collection[int | None]) -> int:
    """Return a number of images like that of the smallest batch, but not that of the classes, so that shapes tell.

    Args:
        sides: of what the objective reads, which it must not be either.
    """
    images = max(_FEWEST, batches.smallest_batch)
    taken = {*sides, *batches.image_shape, batches.dataset.num_classes}
    return next(number for number in itertools.count(images) if number not in taken)


class _Variables(keras.layers.Layer):
    """Holds variables that no other layer has."""

    def __init__(self, held: Sequence[keras.Variable]):
        super().__init__(name="variables", trainable=False)  # no optimizer changes them
        self._held = list(held)
        self.built = True


class _Traced(keras.StatelessScope):
    """Notes which variables are read, and which are changed, these once each."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[keras.Variable] = []
        self.changed: list[keras.Variable] = []

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        if all(update[0] is not variable for variable in self.changed):
            self.changed.append(update[0])
        super().add_update(update)

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.read.append(variable)
        return super().get_current_value(variable)


def _traced(
    objective: Objective,
    outputs: Mapping[str, KerasTensor],
    teacher: Mapping[str, KerasTensor],
    batches: ViewBatches | JointBatches,
    tried: int,
) -> tuple[Any, _Traced]:
    """Return what the objective returns for batches of `tried` images, and which variables it reads and changes.

    Nothing is computed.
    """

    def placeholder(shape: Sequence[int | None], dtype: str = "float32") -> tf.TensorSpec:
        return tf.TensorSpec([tried, *shape[1:]], dtype)

    specs = (
        {name: placeholder(each.shape, each.dtype) for name, each in outputs.items()},
        placeholder((None, *batches.image_shape)),
        placeholder((None, batches.dataset.num_classes)),
        {name: placeholder(each.shape, each.dtype) for name, each in teacher.items()},
        placeholder((None,)),
        tf.TensorSpec([], tf.float32),
    )
    parts: list[Any] = []

    def call(student_outputs, images, label_probs, teacher_outputs, sample_weights, progress):
        batch = Batch(images, label_probs, teacher_outputs, sample_weights)
        parts.append(objective(student_outputs, batch, progress))
        return progress

    tf.function(call, autograph=False).get_concrete_function(*specs)  # which may make the weights of layers
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # else a tf.function within is not called again, but its graph taken
    try:
        with _Traced() as traced:
            tf.function(call, autograph=False).get_concrete_function(*specs)
    finally:
        tf.config.run_functions_eagerly(eagerly)
    return parts[0], traced


def _check_no_plain_variables(objective: Objective) -> None:
    """Refuse variables of TensorFlow's own among the attributes of an objective; networks in them may have such."""
    for name, value in getattr(objective, "__dict__", {}).items():
        if isinstance(value, tf.Variable):
            raise InputError(
                f"the objective {objective.formula} has the tf.Variable {name} {list(value.shape)}, which nothing "
                "would train or save: make it a weight of a Keras layer in layers, or a keras.Variable with "
                "trainable=False"
            )
        if isinstance(value, tf.random.Generator):
            raise InputError(
                f"the objective {objective.formula} has the tf.random.Generator {name}, whose state nothing would "
                "save: make it a keras.random.SeedGenerator"
            )


def _check_trained(read: Sequence[keras.Variable], objective: Objective, student: keras.Model) -> None:
    """Check that all variables which an objective reads, and which can be trained, are trained."""
    trained = {id(variable) for variable in trained_variables(student, objective)}
    if missing := [variable for variable in read if variable.trainable and id(variable) not in trained]:
        raise InputError(
            f"the objective {objective.formula} reads {missing[0].path} {list(missing[0].shape)}, which nothing "
            "would train or save: set trainable = False on the layer that has it, or put it into layers to train it"
        )


def _check_numbers(objective: Objective) -> None:
    for name, value in objective.numbers(0.0).items():
        if name in _MEASURED or name.startswith(_BEGIN):
            raise InputError(
                f"the objective {objective.formula} has a number named {name}, as a measured column is: give it "
                "another name"
            )
        float(value)  # else whoever reads the error sees why


def _check_parts(parts: Any, objective: Objective, tried: int) -> None:
    expected = 'expected a dictionary with "loss" and any parts of it, each [B], one value per example'
    if not isinstance(parts, Mapping) or "loss" not in parts:
        found = f"one of {', '.join(parts)}" if isinstance(parts, Mapping) else type(parts).__name__
        raise InputError(f"the objective {objective.formula} returned {found}: {expected}")
    if taken := [name for name in parts if name in RESERVED]:
        raise InputError(
            f"the objective {objective.formula} returned a part named {taken[0]}, as what is measured anyway is "
            "called: give it another name"
        )
    for name, part in parts.items():
        shape = tuple(getattr(part, "shape", ()))
        if shape != (tried,):
            shown = ", ".join("B" if side == tried else str(side) for side in shape)
            raise InputError(f"the objective {objective.formula} returned {name} of shape [{shown}]: {expected}")


def _where(error: Exception) -> str:
    """Return the place in the user's own code at which it failed."""
    here = Path(__file__).parents[1]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    own = [frame for frame in frames if here not in Path(frame.filename).parents]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _graph(student: keras.Model, layers: Collection[str]) -> keras.Model:
    known = [layer.name for layer in student.layers]
    for name in layers:
        if name not in known:
            hint = alternatives(name, known)
            raise InputError(f'the objective reads the layer "{name}", which {student.name} does not have: {hint}')
    try:
        named = {name: student.get_layer(name).output for name in layers}
        return keras.Model(student.inputs, {LOGITS: student.outputs[0], **named}, name=f"{student.name}_outputs")
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"{student.name} is not a graph of layers whose outputs {', '.join(layers)} could be read: build it with "
            "the functional API"
        ) from error
