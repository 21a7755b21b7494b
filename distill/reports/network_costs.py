"""What a network costs: parameters, bytes, multiply-adds of one image."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
from keras import layers

from distill.errors import InputError

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class NetworkCosts:
    """What a network costs, whatever machine it runs on."""

    parameters: int
    """All of them, those that are not trained included."""
    weight_bytes: int
    """Of the parameters in float32."""
    multiply_adds: int
    """Of one image, as `multiply_adds` counts them."""


def network_costs(model: keras.Model) -> NetworkCosts:
    """Return what `model` costs; errors are those of `multiply_adds`."""
    parameters = model.count_params()
    return NetworkCosts(parameters, weight_bytes=4 * parameters, multiply_adds=multiply_adds(model))


def multiply_adds(model: keras.Model) -> int:
    """Count the multiply-adds of one image: one for every use of a weight of a convolution or dense layer.

    A kernel is used at every position of the output, where its layer pads too. Biases, normalisations, pools
    and activations count nothing, as is usual. A layer or a nested model counts once per call.

    Args:
        model: a Functional or Sequential model of a fixed input size.

    Raises:
        InputError: a layer with kernels whose use is not known here, a size that is not fixed, or a model
            whose layers cannot be listed.
    """
    return sum(_of_call(layer, input_shape) for layer, input_shape in _calls(model))


def _of_call(layer: keras.Layer, input_shape: Shape | None) -> int:
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    uses = _uses_per_position(layer)
    if uses == 0:
        return 0
    shape = layer.compute_output_shape(input_shape)
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    positions = shape[2:] if channels_first else shape[1:-1]
    if None in positions:
        raise InputError(f'layer "{layer.name}" has no fixed output size: build the network at a fixed image size')
    return uses * math.prod(positions)


def _calls(model: keras.Model) -> Iterator[tuple[keras.Layer, Shape | None]]:
    """Yield every layer with the shape that it reads, once per call; the shape is None for several inputs."""
    if isinstance(model, keras.Sequential):
        shape = model.input_shape
        for layer in model.layers:
            yield layer, shape
            shape = layer.compute_output_shape(shape)
        return
    config = model.get_config()
    if "layers" not in config:
        raise InputError(
            f'the layers of "{model.name}" cannot be listed: it must be a Functional or Sequential model'
        )
    by_name = {layer.name: layer for layer in model.layers}
    for entry in config["layers"]:
        if entry["name"] in by_name:  # operations such as a sum are listed too
            for node in entry["inbound_nodes"]:
                yield by_name[entry["name"]], _shape_read(node)


def _shape_read(node: dict) -> Shape | None:
    first = [*node["args"], *node["kwargs"].values()][0]
    return tuple(first["config"]["shape"]) if isinstance(first, dict) else None


def _uses_per_position(layer: keras.Layer) -> int:
    """Return how many weights are used at one position of the output of `layer`."""
    for kind, uses in USES_PER_POSITION.items():
        if isinstance(layer, kind):
            return uses(layer)
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise InputError(
            f'the multiply-adds of layer "{layer.name}" ({type(layer).__name__}) are not known: '
            "say in USES_PER_POSITION how often its kernels are used"
        )
    return 0


def _size(weight: keras.Variable) -> int:
    return math.prod(weight.shape)


def _kernel(layer: keras.Layer) -> int:
    return _size(layer.kernel)


def _separable_kernels(layer: keras.Layer) -> int:
    return _size(layer.depthwise_kernel) + _size(layer.pointwise_kernel)


# Positions are the output's axes between batch and channels: one for the logits of a dense layer.
USES_PER_POSITION: dict[type[keras.Layer], Callable[[keras.Layer], int]] = {
    layers.Dense: _kernel,
    layers.Conv1D: _kernel,
    layers.Conv2D: _kernel,
    layers.Conv3D: _kernel,
    layers.DepthwiseConv1D: _kernel,
    layers.DepthwiseConv2D: _kernel,
    layers.SeparableConv1D: _separable_kernels,
    layers.SeparableConv2D: _separable_kernels,
    layers.PReLU: lambda layer: 0,  # an activation: its slopes are no kernel
}
