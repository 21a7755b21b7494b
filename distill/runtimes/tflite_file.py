"""External networks in LiteRT files (`.tflite`), on the CPU, with float or quantised numbers."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from distill.errors import InputError
from distill.prediction.litert_file import SUFFIX, description_in, litert_interpreter
from distill.refusals import reason
from distill.runtimes.graph_model import Graph, graph_model
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat, PixelFormat
from distill.runtimes.named_classes import classes_in_description
from distill.runtimes.tflite_tensors import (
    FILE_IDENTIFIER,
    operator_codes,
    packed,
    tensors_in,
    unpacked,
    with_outputs,
)

_KINDS = ("float32", "float16", "float64", "uint8", "int8", "int16")
_LEAST_OVERLAP = 0.6  # of the numbers that pixels become and those that a quantised input stands for


def recognise(source: str) -> bool:
    """Whether `source` is named as a LiteRT file."""
    return source.endswith(SUFFIX)


def open_file(source: str, input_format: InputFormat, policy: str, output_type: str) -> ImageModel:
    """Open the network in a LiteRT file.

    Where it ends in a softmax, what goes into that is read instead. Quantised numbers stand for others, as the file
    says: the input format describes those others.

    Raises:
        InputError: the file is damaged or uses operations that LiteRT lacks; the network does not take one image, or
            does not give raw logits or probabilities, or not what `output_type` says; the input format is not for it.
    """
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path} is not a file: expected a LiteRT file")
    content = path.read_bytes()
    if content[4:8] != FILE_IDENTIFIER:
        raise InputError(f"{path} is not a LiteRT file that can be read: it does not begin like one")
    before_softmax = _without_softmax(content, source)
    flatbuffer = before_softmax or content
    network = _Network(flatbuffer, source)
    pixel_format = input_format.resolve(network.image_shape, source=source)
    network.check(pixel_format)

    tensors = cache(lambda: tensors_in(flatbuffer, source))
    graph = Graph(
        run=network,
        batch=network.batch,
        before_softmax=before_softmax is not None,
        tensors=lambda: {name: each.made for name, each in tensors().items()},
        names=lambda: [name for name, each in tensors().items() if each.numbers],
        read=lambda names: _Network(flatbuffer, source, [tensors()[name].place for name in names]),
    )
    return graph_model(
        graph,
        pixel_format,
        output_type,
        name=path.stem,
        source=source,
        files={"model": path},
        policy=policy,
        class_names=lambda classes: classes_in_description(description_in(content), count=classes),
    )


class _Network:
    """Runs a flatbuffer: float32 in the network's own format [B, ...] -> float32 [B, C], and [B, ...] of tensors.

    Args:
        tensors: indices of those that are read, too.
    """

    def __init__(self, flatbuffer: bytes, source: str, tensors: Sequence[int] = ()):
        self._source = source
        if tensors:
            flatbuffer = with_outputs(flatbuffer, source, tensors)
        self._interpreter = litert_interpreter(flatbuffer, source, threads=os.cpu_count() or 1)
        try:
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except ValueError as error:  # a name that is no UTF-8
            raise InputError(f"{source} is not a LiteRT file that can be read: {reason(error)}") from error
        self._input = self._one(inputs, "inputs")
        output = self._one(outputs[:1] if tensors else outputs, "outputs")
        by_index = {each["index"]: each for each in outputs}
        self._outputs = [output, *(by_index[index] for index in tensors)]
        batch, *shape = map(int, self._input["shape_signature"]) if len(self._input["shape_signature"]) else [1]
        self.batch: int | None = batch if batch > 0 else None
        """How many images it takes at a time, None for any number."""
        self.image_shape: list[int | None] = [side if side > 0 else None for side in shape]
        """Of one image, None where a side is open."""

    def _one(self, tensors: list[dict], side: str) -> dict:
        if len(tensors) != 1:
            names = ", ".join(each["name"] for each in tensors)
            raise InputError(f"{self._source} has {len(tensors)} {side} ({names}), expected one")
        kind = np.dtype(tensors[0]["dtype"]).name
        if kind not in _KINDS:
            raise InputError(f"{self._source} has {side} of {kind}, expected one of {', '.join(_KINDS)}")
        return tensors[0]

    def check(self, pixel_format: PixelFormat) -> None:
        """Check that the numbers that pixels become are those that a quantised input stands for.

        Raises:
            InputError: they are others; those that the file says are named.
        """
        dtype = np.dtype(self._input["dtype"])
        if dtype.kind == "f":
            return
        known = _real(np.array([np.iinfo(dtype).min, np.iinfo(dtype).max]), self._input)
        low, high = pixel_format.values()
        common = min(high, known[1]) - max(low, known[0])
        if common < _LEAST_OVERLAP * (max(high, known[1]) - min(low, known[0])):
            ends = [f"{round(float(end), 1 if abs(end) < 10 else 0):g}" for end in known]  # a step more or less
            raise InputError(
                f"{self._source} takes {dtype} that stands for {ends[0]}..{ends[1]}, the settings make {low:g}.."
                f"{high:g} of the pixels: give --input.range {ends[0]} {ends[1]}, or the mean and std that lead there"
            )

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        interpreter = self._interpreter
        if tuple(interpreter.get_input_details()[0]["shape"]) != pixels.shape:
            interpreter.resize_tensor_input(self._input["index"], pixels.shape, strict=True)
            interpreter.allocate_tensors()
        interpreter.set_tensor(self._input["index"], _stored(pixels, self._input))
        interpreter.invoke()
        return [_real(interpreter.get_tensor(each["index"]), each) for each in self._outputs]


def _stored(numbers: np.ndarray, tensor: dict) -> np.ndarray:
    """Return numbers as a tensor of the file holds them."""
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return numbers.astype(dtype, copy=False)
    scale, zero = tensor["quantization"]
    known = np.iinfo(dtype)
    return np.clip(np.rint(numbers / (scale or 1)) + zero, known.min, known.max).astype(dtype)


def _real(stored: np.ndarray, tensor: dict) -> np.ndarray:
    """Return as float32 the numbers that a tensor of the file stands for."""
    scale, zero = tensor["quantization"]
    if np.dtype(tensor["dtype"]).kind == "f" or not scale:
        return stored.astype(np.float32)
    return (stored.astype(np.float32) - zero) * np.float32(scale)


def _without_softmax(flatbuffer: bytes, source: str) -> bytes | None:
    """Return a flatbuffer that ends before its softmax, None where it ends otherwise.

    A softmax whose beta is not 1 stays: its logits are other ones than those that it reads.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    model = unpacked(flatbuffer, source)
    try:
        graph, codes = model.subgraphs[0], operator_codes(model)
        producers = {int(output): each for each in graph.operators for output in each.outputs}
        last = producers.get(int(graph.outputs[0])) if len(graph.outputs) == 1 else None
        while last is not None and codes[last.opcodeIndex] in (BuiltinOperator.DEQUANTIZE, BuiltinOperator.QUANTIZE):
            last = producers.get(int(last.inputs[0]))
        if last is None or codes[last.opcodeIndex] not in (BuiltinOperator.SOFTMAX, BuiltinOperator.LOG_SOFTMAX):
            return None
        if getattr(last.builtinOptions, "beta", 1) != 1:  # a log softmax has none
            return None
    except Exception as error:  # the reader of flatbuffers checks nothing: a damaged file fails anywhere in it
        raise InputError(f"{source} is not a LiteRT file that can be read: {reason(error)}") from error
    graph.outputs = [int(last.inputs[0])]
    graph.operators = [each for each in graph.operators if each is not last and not _follows(each, last, producers)]
    return packed(model)


def _follows(operator, last, producers: dict) -> bool:
    """Whether an operator works on what comes out of `last`."""
    while operator is not None:
        operator = producers.get(int(operator.inputs[0])) if len(operator.inputs) else None
        if operator is last:
            return True
    return False
