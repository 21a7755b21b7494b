"""Rebuild a loaded Keras model as one flat graph that starts at pixels 0..255 and ends at raw logits."""

from collections.abc import Iterator

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from distill.errors import InputError
from distill.runtimes.image_model import BEFORE_SOFTMAX, LOGITS
from distill.runtimes.input_format import CHANNELS_FIRST, PixelFormat
from distill.runtimes.softmax import SOFTMAX_NAMES
from distill.runtimes.weights import set_weights

_FORMATTING = ("scale_pixels", "channels_first")
_ACTIVATIONS = {name.replace("_", "") for name in dir(keras.activations) if not name.startswith("_")}
_ACTIVATIONS = _ACTIVATIONS - {"linear", "get", "serialize", "deserialize"} | {"exp", "prelu"}
"""As layers and operations of keras.ops are called, in small letters; it may also be a setting of a layer."""
_SAME_NUMBERS = ("Reshape", "Flatten", "Squeeze", "ExpandDims", "Cast", "Identity", "Dropout")


def is_graph(model: keras.Model) -> bool:
    """Whether `model` is a graph of layers (functional, or sequential and built), not a Python class of its own."""
    return type(model).__name__ in ("Functional", "Sequential") and bool(getattr(model, "inputs", None))


def from_pixels(model: keras.Model, pixel_format: PixelFormat) -> keras.Model:
    """Return a functional copy of a graph: pixels 0..255 in, formatting and all layers in one flat graph.

    Nested models are dissolved into their layers, so that whoever looks for a pattern of layers sees them all.
    Everything computes in float32. Weights are copied.

    Args:
        model: for which `is_graph` holds, of one input and one output.
        pixel_format: of the images that `model` takes.
    """
    pixels = layers.Input(shape=pixel_format.image_shape, dtype="float32", name="pixels")
    formatted = _formatted(pixels, pixel_format)
    taken = {operation.name for operation in _back_from(formatted)}
    [outputs] = keras.tree.flatten(_Flattening(taken).trace(model, formatted))  # old files say [outputs]
    return keras.Model(pixels, outputs, name=model.name)


def last_activation(network: keras.Model) -> str | None:
    """Return the activation, by its name, that a graph ends in, if any.

    It may lie in a nested model, or before what only changes the shape or the type of numbers.
    """
    return _end_of(network)[1]


def without_softmax(flat: keras.Model, *, source: str) -> tuple[keras.Model, str | None]:
    """Return a flat graph that ends before its softmax.

    Returns:
        The model, and `BEFORE_SOFTMAX`, or `LOGITS` where it ends in a layer with weights and no activation;
        None where its last layer does not show it.

    Raises:
        InputError: it ends in another activation.
    """
    last, activation = _end_of(flat)
    if activation is None:
        is_linear = getattr(last, "weights", None) and hasattr(last, "activation")
        return flat, LOGITS if is_linear else None
    if activation not in SOFTMAX_NAMES:
        raise InputError(f"{source} ends in {activation}, expected raw logits or softmax: save it without that")
    if last is not _operation_of(flat.output):
        return flat, None
    axis = getattr(last, "axis", -1)
    if axis not in (-1, len(flat.output.shape) - 1):
        raise InputError(f"{source} ends in a softmax over axis {axis}, expected the last one: save it without that")
    return keras.Model(flat.input, _before_activation(last), name=flat.name), BEFORE_SOFTMAX


def in_policy(network: keras.Model, policy: str) -> keras.Model:
    """Return a copy of a graph that computes in `policy`, but for the formatting and the head.

    The head, which is the last layer with weights and what follows it, stays in float32: half-precision logits
    are too coarse to distil.
    """
    kept = {*_FORMATTING, *_head(network.outputs[0])}

    def clone(layer: keras.Operation) -> keras.Operation:
        if isinstance(layer, keras.Model) and is_graph(layer):
            return keras.models.clone_model(layer, clone_function=clone)
        return _clone(layer, dtype="float32" if layer.name in kept else policy)

    copy = keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.weights:
            set_weights(copy.get_layer(layer.name), layer.get_weights())
    return copy


def with_float32_head(network: keras.Model) -> keras.Model:
    """Return a graph whose head computes in float32, as in `in_policy`; other layers are those of `network`.

    Raises:
        InputError: its head is not a plain layer.
    """
    if network.outputs[0].dtype == "float32":
        return network
    head = _head(network.outputs[0])

    def clone(layer: keras.Operation) -> keras.Operation:
        return _clone(layer, dtype="float32") if layer.name in head else layer

    copy = keras.models.clone_model(network, clone_function=clone)
    if copy.outputs[0].dtype != "float32":
        raise InputError(
            f'{network.name} gives {copy.outputs[0].dtype} logits: build its last layer with dtype="float32"'
        )
    for name in head:
        set_weights(copy.get_layer(name), network.get_layer(name).get_weights())
    return copy


class _Flattening:
    """Calls copies of the layers of a model, and of the models nested in it, on new tensors."""

    def __init__(self, taken: set[str]):
        self.copies: dict[int, keras.Operation] = {}
        self.names = set(taken)

    def trace(self, model: keras.Model, inputs: KerasTensor) -> KerasTensor:
        """Return what the layers of `model` make of `inputs`."""
        if type(model).__name__ == "Sequential":
            for layer in model.layers:
                inputs = self.call(layer, inputs)
            return inputs
        # What keras.models.clone_model does; its result could not be called on `inputs` without being nested.
        return model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=self.call)

    def call(self, operation: keras.Operation, *args, **kwargs):
        """Call a copy of `operation`, the same copy wherever it is shared."""
        nested = isinstance(operation, keras.Model) and is_graph(operation)
        if nested and not kwargs.get("training"):  # True would have to reach every layer
            return self.trace(operation, args[0])
        new = id(operation) not in self.copies
        if new:
            self.copies[id(operation)] = _clone(operation, dtype="float32", name=self._unused(operation.name))
        copy = self.copies[id(operation)]
        outputs = copy(*args, **kwargs)
        if new and getattr(copy, "weights", None):
            set_weights(copy, operation.get_weights())
        return outputs

    def _unused(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _clone(operation: keras.Operation, **changes) -> keras.Operation:
    if not isinstance(operation, layers.Layer):  # the dtype of an operation is what it is for, that of a Cast
        del changes["dtype"]
    config = {**operation.get_config(), **changes}
    if type(operation) is layers.Normalization and not operation.invert:
        return _rescaling(operation, config)
    return type(operation).from_config(config)


def _rescaling(norm: layers.Normalization, config: dict) -> layers.Layer:
    """The same as a layer of settings alone: a copy of `norm` would not take its statistics from its weights."""
    mean, variance = (np.asarray(ops.convert_to_numpy(x), np.float64) for x in (norm.mean, norm.variance))
    scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
    return layers.Rescaling(
        scale=scale.tolist(), offset=(-mean * scale).tolist(), name=config["name"], dtype=config["dtype"]
    )


def _formatted(pixels: KerasTensor, pixel_format: PixelFormat) -> KerasTensor:
    """What a `PixelFormat` does, as layers; those that would change nothing are left out."""
    scale, offset = pixel_format.scale_and_offset()
    if pixel_format.order == "bgr":
        pixels = ops.flip(pixels, axis=-1)
    if {*scale, *offset} != {1.0, 0.0}:
        pixels = layers.Rescaling(scale, offset, dtype="float32", name="scale_pixels")(pixels)
    if pixel_format.layout == CHANNELS_FIRST:
        pixels = layers.Permute((3, 1, 2), dtype="float32", name="channels_first")(pixels)
    return pixels


def _before_activation(operation: keras.Operation) -> KerasTensor:
    """What `operation` activates: its input or, where it also has weights, its own sum."""
    if not getattr(operation, "weights", None):
        return operation.input
    linear = type(operation).from_config({**operation.get_config(), "activation": "linear"})
    logits = linear(operation.input)
    set_weights(linear, operation.get_weights())
    return logits


def _end_of(network: keras.Model) -> tuple[keras.Operation, str | None]:
    """Return the last operation of a graph that changes numbers, and the name of the activation that it is or has."""
    tensor = network.outputs[0]
    while True:
        operation, node, place = tensor._keras_history
        if isinstance(operation, keras.Model) and is_graph(operation):
            tensor = operation.outputs[place]
            continue
        activation, kind = getattr(operation, "activation", None), type(operation).__name__
        if activation not in (None, keras.activations.linear):
            return operation, getattr(activation, "__name__", str(activation))
        if kind.lower() in _ACTIVATIONS:
            return operation, kind
        if kind not in _SAME_NUMBERS and not isinstance(operation, layers.Activation):
            return operation, None
        tensor = operation._inbound_nodes[node].input_tensors[0]


def _head(tensor: KerasTensor) -> set[str]:
    """Names of the operations from the end back to the last layer with weights, or to where the graph forks."""
    names = set()
    for operation in _back_from(tensor):
        names.add(operation.name)
        if getattr(operation, "weights", None):
            break
    return names


def _back_from(tensor: KerasTensor) -> Iterator[keras.Operation]:
    """Yield the operations that lead to `tensor`, the last one first, as far as each has one input."""
    while isinstance(tensor, KerasTensor):
        operation = _operation_of(tensor)
        yield operation
        tensor = None if isinstance(operation, layers.InputLayer) else operation.input


def _operation_of(tensor: KerasTensor) -> keras.Operation:
    return tensor._keras_history.operation
