"""What lies within an ONNX file: its tensors, read in the same pass as its logits."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from distill.runtimes.image_model import InnerOutputs
from distill.runtimes.softmax import Predict

if TYPE_CHECKING:
    import onnx

Run = Callable[[np.ndarray], list[np.ndarray]]
"""From what the network takes to all its outputs."""

_FLOATS = ("FLOAT", "FLOAT16", "DOUBLE")
# By definition of ONNX, their channels come first; what works on each number keeps the order that it finds.
_CHANNELS_FIRST = {
    *("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LRN", "GroupNormalization"),
    *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth"),
}
_TO_CHANNELS_LAST, _TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def inner_outputs(
    model: "onnx.ModelProto",
    open_session: Callable[["onnx.ModelProto"], Run],
    as_logits: Callable[[Predict], Predict],
    *,
    batch: int | None,
    probe: Callable[[int], np.ndarray],
    channels_first: bool,
) -> InnerOutputs:
    """Return what can be read of a model: the tensors of floats that its nodes give for each image.

    Args:
        model: with one output.
        open_session: makes a model run.
        as_logits: from a function from pixels in the network's format to its output, to one from pixels to logits.
        batch: how many images it takes at a time; None: any number.
        probe: so many images, in its format.
        channels_first: how the pixels that it takes lie.
    """

    @cache
    def shapes() -> Mapping[str, tuple[int, ...]]:
        names, images = _of_floats(model), batch or 2
        found = open_session(_with_outputs(model, names))(probe(images))[1:]
        return {
            name: _channels_last(values, model, name, channels_first).shape[1:]
            for name, values in zip(names, found, strict=True)
            if values.ndim > 1 and len(values) == images
        }

    def predict(names: Sequence[str]) -> Callable[[np.ndarray], tuple[np.ndarray, Sequence[np.ndarray]]]:
        run = open_session(_with_outputs(model, names))
        seen: list[np.ndarray] = []  # what comes with the output that `logits` is made of

        def output(pixels: np.ndarray) -> np.ndarray:
            first, *seen[:] = _in_batches_of(batch, run, pixels)
            return first

        logits = as_logits(output)

        def both(images: np.ndarray) -> tuple[np.ndarray, Sequence[np.ndarray]]:
            made = logits(images)
            return made, [
                _channels_last(values, model, name, channels_first).astype(np.float32)
                for name, values in zip(names, seen, strict=True)
            ]

        return both

    return InnerOutputs(shapes, predict)


def _of_floats(model: "onnx.ModelProto") -> list[str]:
    """Return the names of the tensors that ONNX can tell to be floats, in the order of the nodes."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {each.name: each.type.tensor_type.elem_type for each in (*inferred.value_info, *inferred.output)}
    floats = {onnx.TensorProto.DataType.Value(name) for name in _FLOATS}
    return [name for node in model.graph.node for name in node.output if kinds.get(name) in floats]


def _with_outputs(model: "onnx.ModelProto", names: Sequence[str]) -> "onnx.ModelProto":
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


def _in_batches_of(count: int | None, run: Run, pixels: np.ndarray) -> list[np.ndarray]:
    if count is None:
        return run(pixels)
    padded = np.concatenate([pixels, np.zeros((-len(pixels) % count, *pixels.shape[1:]), pixels.dtype)])
    parts = [run(padded[start : start + count]) for start in range(0, len(padded), count)]
    return [np.concatenate(each)[: len(pixels)] for each in zip(*parts, strict=True)]


def _channels_last(values: np.ndarray, model: "onnx.ModelProto", name: str, channels_first: bool) -> np.ndarray:
    if values.ndim == 4 and _is_channels_first(model, name, channels_first):
        return values.transpose(_TO_CHANNELS_LAST)
    return values


def _is_channels_first(model: "onnx.ModelProto", name: str, of_input: bool) -> bool:
    """Whether [B, C, H, W] it is: as the last node before that says so, or else as the pixels are."""
    producers = {output: node for node in model.graph.node for output in node.output}
    node = producers.get(name)
    for _ in producers:  # a damaged graph may go round in a circle
        if node is None:
            break
        if node.op_type in _CHANNELS_FIRST:
            return True
        order = next((tuple(each.ints) for each in node.attribute if each.name == "perm"), None)
        if node.op_type == "Transpose" and order in (_TO_CHANNELS_LAST, _TO_CHANNELS_FIRST):
            return order == _TO_CHANNELS_FIRST
        node = next((producers[each] for each in node.input if each in producers), None)
    return of_input
