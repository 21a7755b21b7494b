"""What lies within a LiteRT file: the tensors that its operators give, whether floats or quantised numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from distill.errors import InputError
from distill.refusals import reason
from distill.runtimes.graph_model import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Made

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

FILE_IDENTIFIER = b"TFL3"
# By definition of LiteRT, their channels come last; what works on each number keeps the order that it finds.
_CHANNELS_LAST = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"),
    *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"),
    "LOCAL_RESPONSE_NORMALIZATION",
)
_FLOATS, _QUANTISED = ("FLOAT32", "FLOAT16", "FLOAT64"), ("INT8", "UINT8", "INT16")


class Tensor(NamedTuple):
    """One that an operator gives."""

    place: int
    """Which of the tensors of the graph it is."""
    numbers: bool
    """Whether it holds floats, or numbers that stand for such."""
    made: Made


def unpacked(flatbuffer: bytes, source: str) -> "ModelT":
    """Return a flatbuffer as objects.

    Raises:
        InputError: it is damaged.
    """
    from ai_edge_litert.schema_py_generated import ModelT

    try:
        model = ModelT.InitFromPackedBuf(flatbuffer, 0)
        if not model.subgraphs:
            raise InputError(f"{source} is not a LiteRT file that can be read: it holds no graph")
    except InputError:
        raise
    except Exception as error:  # the reader of flatbuffers checks nothing: a damaged file fails anywhere in it
        raise InputError(f"{source} is not a LiteRT file that can be read: {reason(error)}") from error
    return model


def packed(model: "ModelT") -> bytes:
    """Return a model whose outputs were changed as a flatbuffer."""
    import flatbuffers

    model.signatureDefs = None  # they name its outputs
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def operator_codes(model: "ModelT") -> list[int]:
    """Return what each of the kinds of operators of a model does, a `BuiltinOperator`."""
    return [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]


def tensors_in(flatbuffer: bytes, source: str) -> dict[str, Tensor]:
    """Return the tensors that the operators of a graph give, in their order, by name.

    A converter names a tensor after all operations that it melted into one, "relu;norm;conv": where nothing else is
    called so, the first of these names it.
    """
    model = unpacked(flatbuffer, source)
    try:
        found = {index: tensor for operator in model.subgraphs[0].operators for index, tensor in _of(operator, model)}
        names = {index: model.subgraphs[0].tensors[index].name.decode() for index in found}
    except Exception as error:  # as above
        raise InputError(f"{source} is not a LiteRT file that can be read: {reason(error)}") from error
    short = _unique({index: name.partition(";")[0] for index, name in names.items()}, instead=names)
    named = {index: short[index] for index in found if short[index]}
    return {
        name: Tensor(index, numbers, Made(channels_first, None if before is None else named.get(before)))
        for index, name in named.items()
        for numbers, channels_first, before in [found[index]]
    }


def with_outputs(flatbuffer: bytes, source: str, indices: Sequence[int]) -> bytes:
    """Return a flatbuffer that gives these tensors after its output, but for the output itself."""
    model = unpacked(flatbuffer, source)
    outputs = [int(each) for each in model.subgraphs[0].outputs]
    model.subgraphs[0].outputs = list(dict.fromkeys([*outputs, *indices]))
    return packed(model)


def _of(operator: "OperatorT", model: "ModelT") -> Iterator[tuple[int, tuple[bool, bool | None, int | None]]]:
    """Yield each output of an operator: its index, whether it holds numbers, how it lies, what it is made of."""
    for output in map(int, operator.outputs):
        before = int(operator.inputs[0]) if len(operator.inputs) else None
        yield output, (_holds_numbers(output, model), _channels_first(operator, model), before)


def _holds_numbers(index: int, model: "ModelT") -> bool:
    from ai_edge_litert.schema_py_generated import TensorType

    tensor = model.subgraphs[0].tensors[index]
    if tensor.type in [getattr(TensorType, name) for name in _FLOATS]:
        return True
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return tensor.type in [getattr(TensorType, name) for name in _QUANTISED] and scale is not None and len(scale) == 1


def _channels_first(operator: "OperatorT", model: "ModelT") -> bool | None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = operator_codes(model)[operator.opcodeIndex]
    if code in [getattr(BuiltinOperator, name) for name in _CHANNELS_LAST]:
        return False
    if code != BuiltinOperator.TRANSPOSE:
        return None
    content = model.buffers[model.subgraphs[0].tensors[int(operator.inputs[1])].buffer].data
    order = () if content is None else tuple(np.frombuffer(bytes(content), "<i4").tolist())
    return order == TO_CHANNELS_FIRST if order in (TO_CHANNELS_LAST, TO_CHANNELS_FIRST) else None


def _unique(names: Mapping[int, str], *, instead: Mapping[int, str]) -> dict[int, str]:
    """Return names that are there once; for any other one that of `instead`, or "" where that is there twice."""
    taken = [*names.values()]
    kept = {index: name if taken.count(name) == 1 else instead[index] for index, name in names.items()}
    given = [*kept.values()]
    return {index: name if given.count(name) == 1 else "" for index, name in kept.items()}
