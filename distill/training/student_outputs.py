"""What an objective reads of a student, its logits and the outputs of layers, and what is trained with it."""

from collections.abc import Collection

import keras
from keras import KerasTensor

from distill.errors import InputError
from distill.losses.objective import LOGITS, Objective
from distill.refusals import alternatives
from distill.training.batches import JointBatches, ViewBatches


class StudentOutputs:
    """Calls a student in training, and returns its logits with the outputs of some of its layers, by name.

    Args:
        student: returns raw logits.
        layers: names of its layers.

    Raises:
        InputError: it has no such layer (near names are offered), or is no graph of layers to look into.
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


def build_objective(objective: Objective, student: keras.Model, batches: ViewBatches | JointBatches) -> None:
    """Make the weights of the objective's own layers, for the outputs of `student` and of its teacher."""
    if getattr(type(objective), "build", None) is Objective.build:
        return  # it makes nothing, so that nothing needs to be known
    outputs = StudentOutputs(student, objective.student_layers).specifications
    teacher = {
        name: KerasTensor((None, *array.shape[1:]), array.dtype.name)
        for name, array in batches.teacher_sample().items()
        if name in objective.teacher_outputs
    }
    objective.build(outputs, teacher)


def trained_variables(student: keras.Model, objective: Objective) -> list[keras.Variable]:
    """Return what a step changes: the student's trainable variables, and then those of the objective's layers."""
    return [variable for part in (student, *objective.layers) for variable in part.trainable_variables]


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
            f"{student.name} is no graph of layers whose outputs {', '.join(layers)} could be read: build it with "
            "the functional API"
        ) from error
