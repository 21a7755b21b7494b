"""Networks in ONNX files, on the CPU through onnxruntime."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.errors import InputError
from distill.extras import install_command
from distill.refusals import reason
from distill.runtimes.graph_model import Graph, Run, graph_model
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat
from distill.runtimes.named_classes import classes_in_properties
from distill.runtimes.onnx_tensors import float_names, tensors_in, with_outputs
from distill.runtimes.softmax import SOFTMAX_NAMES

if TYPE_CHECKING:
    import onnx

SUFFIX = ".onnx"
_LOOPS = {"Loop", "Scan"}
_MAX_BYTES = 1 << 31  # of a protocol buffer
_SILENT = 4  # its fatal errors alone: what it raises says the rest
_KINDS = ("float", "float16", "double", "uint8", "int8")


def recognise(source: str) -> bool:
    """Whether `source` is named as an ONNX file."""
    return source.endswith(SUFFIX)


def open_file(source: str, input_format: InputFormat, policy: str, output_type: str) -> ImageModel:
    """Open the network in an ONNX file.

    Where it ends in a softmax, what goes into that is read instead. The file is read whole and run from memory:
    one that keeps weights in other files is refused, because it could name any file of the machine.

    Raises:
        InputError: onnxruntime or onnx is not installed; the file is damaged or keeps weights elsewhere; the network
            does not take one image of floats or small whole numbers, or does not give raw logits or probabilities,
            or not what `output_type` says; the input format is not for it.
    """
    model = _load(Path(source))
    stripped = _strip_softmax(model)
    batch, *shape = _input_shape(model, source)
    pixel_format = input_format.resolve(shape, source=source, usual_layout=None)
    dtype = _input_dtype(model, source)
    pixel_format.check_dtype(dtype, source=source)
    graph = Graph(
        run=_session(model, source),
        dtype=dtype,
        batch=batch,
        before_softmax=stripped,
        tensors=cache(lambda: tensors_in(model)),
        names=cache(lambda: float_names(model)),
        read=lambda names: _session(with_outputs(model, names), source),
    )
    return graph_model(
        graph,
        pixel_format,
        output_type,
        name=Path(source).stem,
        source=source,
        files={"model": Path(source)},
        policy=policy,
        class_names=lambda classes: classes_in_properties(
            {each.key: each.value for each in model.metadata_props}, count=classes
        ),
    )


def _load(path: Path) -> "onnx.ModelProto":
    try:
        import onnx
        import onnxruntime  # noqa: F401  (both are missing, or none)
    except ImportError as error:
        raise InputError(f"{path} needs {error.name}: {install_command('onnx')}") from error
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise InputError(f"{path} is not a file: expected an ONNX file")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} is larger than 2 GiB, which no ONNX file is")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX file that can be read: {reason(error)}") from error
    if not model.HasField("graph"):
        raise InputError(f"{path} is not an ONNX file that can be read: it holds no graph")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise InputError(f"{path} keeps weights in other files: save it as one, onnx.save(onnx.load(A), B)")
    loops = sorted({node.op_type for node in _nodes(model)} & _LOOPS)
    if loops:
        raise InputError(f"{path} has a loop, {loops[0]}, which may never end: export the network without it")
    if len(model.graph.output) != 1:
        names = ", ".join(output.name for output in model.graph.output)
        raise InputError(f"{path} has {len(model.graph.output)} outputs ({names}), expected one: the logits")
    return model


def _nodes(model: "onnx.ModelProto") -> Iterator["onnx.NodeProto"]:
    """Yield every node of a model, of its functions and of the graphs in its nodes, too."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            waiting += [each for graph in (attribute.g, *attribute.graphs) for each in graph.node]


def _tensors(message: Any) -> Iterator["onnx.TensorProto"]:
    """Yield every tensor in a message of ONNX, however deep it lies."""
    if type(message).__name__ == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(each)


def _strip_softmax(model: "onnx.ModelProto") -> bool:
    """Let the graph end before its softmax, in place; return whether it had one."""
    import onnx

    producers = {name: node for node in model.graph.node for name in node.output}
    last = producers.get(model.graph.output[0].name)
    for _ in producers:  # a damaged graph may go round in a circle
        if last is not None and last.op_type == "Identity" and last.input:
            last = producers.get(last.input[0])
    if last is None or last.op_type not in SOFTMAX_NAMES or _axis(last) not in (-1, 1):
        return False
    kind = model.graph.output[0].type.tensor_type.elem_type  # a softmax keeps it
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(last.input[0], kind, None))
    return True


def _axis(softmax: "onnx.NodeProto") -> int:
    return next((attribute.i for attribute in softmax.attribute if attribute.name == "axis"), -1)


def _input_shape(model: "onnx.ModelProto", source: str) -> list[int | None]:
    """Return the shape of the one input, None where a side is open."""
    tensor = _input(model, source).type.tensor_type
    if not tensor.HasField("shape"):
        return [None] * 4
    return [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim] or [None]


def _input_dtype(model: "onnx.ModelProto", source: str) -> np.dtype:
    """Return what kind of numbers the input is."""
    import onnx

    kind = _input(model, source).type.tensor_type.elem_type
    name = onnx.TensorProto.DataType.Name(kind).lower()
    if name not in _KINDS:
        raise InputError(
            f"{source} takes {name}, expected pixels as {', '.join(_KINDS)}: save it with a float32 input"
        )
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _input(model: "onnx.ModelProto", source: str) -> "onnx.ValueInfoProto":
    weights = {tensor.name for tensor in model.graph.initializer}  # old files list them as inputs, too
    inputs = [each for each in model.graph.input if each.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise InputError(f"{source} has {len(inputs)} inputs ({names}), expected one: the images")
    return inputs[0]


def _session(model: "onnx.ModelProto", source: str) -> Run:
    """Return a function that runs the model on an array, for all its outputs."""
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # onnxruntime derives its errors from Exception alone
        raise InputError(f"{source} cannot be run by onnxruntime: {reason(error)}") from error
    [pixels] = session.get_inputs()
    return lambda images: session.run(None, {pixels.name: images})
