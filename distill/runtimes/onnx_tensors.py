"""What lies within an ONNX file: its tensors, by the names that its nodes give them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill.runtimes.graph_model import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Made

if TYPE_CHECKING:
    import onnx

_FLOATS = ("FLOAT", "FLOAT16", "DOUBLE")
# By definition of ONNX, their channels come first; what works on each number keeps the order that it finds.
_CHANNELS_FIRST = {
    *("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LRN", "GroupNormalization"),
    *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth"),
}


def tensors_in(model: "onnx.ModelProto") -> Mapping[str, Made]:
    """Return how the tensors that the nodes give were made, by their names."""
    made = {output: node for node in model.graph.node for output in node.output}
    return {
        name: Made(_channels_first(node), next((each for each in node.input if each in made), None))
        for name, node in made.items()
    }


def float_names(model: "onnx.ModelProto") -> list[str]:
    """Return the names of the tensors that ONNX can tell to be floats, in the order of the nodes."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {each.name: each.type.tensor_type.elem_type for each in (*inferred.value_info, *inferred.output)}
    floats = {onnx.TensorProto.DataType.Value(name) for name in _FLOATS}
    return [name for node in model.graph.node for name in node.output if kinds.get(name) in floats]


def with_outputs(model: "onnx.ModelProto", names: Sequence[str]) -> "onnx.ModelProto":
    """Return a copy that gives these tensors after its output."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = model.graph.output[0].name
    for name in names:
        if name == own:  # which a graph may not give twice
            copy.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}:again"]))
            name = f"{name}:again"
        copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return copy


def _channels_first(node: "onnx.NodeProto") -> bool | None:
    if node.op_type in _CHANNELS_FIRST:
        return True
    order = next((tuple(each.ints) for each in node.attribute if each.name == "perm"), None)
    if node.op_type == "Transpose" and order in (TO_CHANNELS_LAST, TO_CHANNELS_FIRST):
        return order == TO_CHANNELS_FIRST
    return None
