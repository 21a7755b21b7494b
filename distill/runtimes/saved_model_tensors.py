"""What lies within a SavedModel: the tensors of its signature, frozen into one graph without variables."""

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.errors import InputError
from distill.refusals import reason
from distill.runtimes.graph_model import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Made, Run

if TYPE_CHECKING:
    import tensorflow as tf

_CALLS = re.compile("((Stateful)?PartitionedCall/)+")  # of functions by functions, which freezing has resolved
_PLACES = ("Identity", "IdentityN", "StopGradient", "NoOp")  # what only hands on


class FrozenSignature:
    """The tensors that depend on the images, by name: of the operation that gives them, without those that call it.

    Args:
        signature: a function of one array of images with one output.

    Raises:
        InputError: it cannot be frozen, such as one that looks something up in a table.
    """

    def __init__(self, signature: Any, source: str):
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        try:
            frozen = convert_variables_to_constants_v2(signature)
        except Exception as error:  # whatever an operation of somebody else meets
            raise InputError(
                f"one cannot look into {source}, whose variables cannot be made constants: {reason(error)}"
            ) from error
        if len(frozen.inputs) != 1:
            raise InputError(f"one cannot look into {source}, which depends on more than its images and variables")
        self._graph, self._source = frozen.graph.as_graph_def(), source
        self._input, self._output = frozen.inputs[0].name, frozen.outputs[0].name
        tensors = _dependent(frozen.graph, frozen.inputs[0])
        self._by_name = _named(tensors)
        of_tensor = {tensor.name: name for name, tensor in self._by_name.items()}
        self.tensors = {name: _made(tensor, tensors, of_tensor) for name, tensor in self._by_name.items()}
        """How each of them was made."""

    @property
    def names(self) -> list[str]:
        """Those of floats, but for what hands on another one."""
        return [
            name
            for name, tensor in self._by_name.items()
            if tensor.dtype.is_floating and tensor.op.type not in _PLACES
        ]

    def read(self, names: Sequence[str]) -> Run:
        """Return a function from images to the output and these tensors, in one pass."""
        import tensorflow as tf

        wanted = [self._output, *(self._by_name[name].name for name in names)]
        once = list(dict.fromkeys(wanted))
        imported = tf.compat.v1.wrap_function(partial(tf.graph_util.import_graph_def, self._graph, name=""), [])
        tensor_named = imported.graph.get_tensor_by_name
        function = imported.prune(tensor_named(self._input), [tensor_named(name) for name in once])

        def run(images: np.ndarray) -> list[np.ndarray]:
            found = dict(zip(once, function(tf.constant(images)), strict=True))
            return [found[name].numpy() for name in wanted]

        return run


def _dependent(graph: "tf.Graph", images: "tf.Tensor") -> list["tf.Tensor"]:
    """Return all tensors that are computed from the images, in the order of the graph."""
    reached, found = {images.name}, []
    for operation in graph.get_operations():  # each comes after those that it reads
        if any(tensor.name in reached for tensor in operation.inputs):
            reached |= {tensor.name for tensor in operation.outputs}
            found += operation.outputs
    return found


def _named(tensors: Sequence["tf.Tensor"]) -> dict[str, "tf.Tensor"]:
    """Name them shortly where no other is called so, and else in full."""
    full = [tensor.name.removesuffix(":0") for tensor in tensors]
    short = [_CALLS.sub("", name) if _CALLS.match(name) else name for name in full]
    return {
        name if short.count(name) == 1 else whole: tensor
        for name, whole, tensor in zip(short, full, tensors, strict=True)
    }


def _made(tensor: "tf.Tensor", tensors: Sequence["tf.Tensor"], names: dict[str, str]) -> Made:
    before = next((names[each.name] for each in tensor.op.inputs if each.name in names), None)
    return Made(_channels_first(tensor.op), before)


def _channels_first(operation: "tf.Operation") -> bool | None:
    attributes = operation.node_def.attr
    if "data_format" in attributes and operation.type != "BiasAdd":
        return attributes["data_format"].s.startswith(b"NC")
    if operation.type == "Transpose":
        order = _constant(operation.inputs[1])
        return order == TO_CHANNELS_FIRST if order in (TO_CHANNELS_LAST, TO_CHANNELS_FIRST) else None
    return None


def _constant(tensor: "tf.Tensor") -> tuple[int, ...]:
    """Return the numbers of a constant; none of anything else."""
    import tensorflow as tf

    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return tuple(tf.make_ndarray(operation.get_attr("value")).tolist()) if operation.type == "Const" else ()
