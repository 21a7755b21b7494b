"""Fold batch normalisation into the convolutions before it: the same network for inference, in fewer passes."""

from collections.abc import Collection

import keras
import numpy as np
from keras import layers

from distill.runtimes.weights import set_weights

# Their last kernel has the output's channels innermost: [.., .., in, out].
_CONVOLUTIONS = (layers.Conv2D, layers.SeparableConv2D)


class _PassThrough(layers.Layer):
    """Stands where a batch normalisation stood; `Identity` takes no mask."""

    def call(self, inputs, training=None, mask=None):
        return inputs


def fold_batch_norm(model: keras.Model, *, keep: Collection[str] = ()) -> keras.Model:
    """Return a copy of a functional `model` for inference, its batch normalisations folded away.

    In inference a batch normalisation is x·a + b with constant a = gamma / sqrt(variance + epsilon) and
    b = beta - mean·a. Where x comes from a convolution and goes nowhere else, a joins its kernel and b its
    bias. The logits change by rounding alone. Other layers, norms over another axis than the last, where the
    channels are, and models that are not functional, stay as they are.

    Args:
        keep: names of layers whose own outputs are read, so that nothing is folded into them.
    """
    if type(model).__name__ != "Functional":
        return model
    norms = _foldable_norms(model, keep)
    convolutions = {norm.input._keras_history.operation.name: norm for norm in norms}

    def clone(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if layer in norms:
            return _PassThrough(name=layer.name, dtype=layer.dtype_policy)
        if layer.name in convolutions:
            config["use_bias"] = True
        return type(layer).from_config(config)

    folded = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if layer.name in convolutions:
            folded.get_layer(layer.name).set_weights(_folded_weights(layer, convolutions[layer.name]))
        elif layer.weights and layer not in norms:
            set_weights(folded.get_layer(layer.name), layer.get_weights())
    return folded


def _foldable_norms(model: keras.Model, keep: Collection[str]) -> list[layers.BatchNormalization]:
    readers = dict.fromkeys(keep, 1)
    for operation in model.operations:  # layers, and sums written with +
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                source = tensor._keras_history.operation.name
                readers[source] = readers.get(source, 0) + 1
    norms = [layer for layer in model.layers if type(layer) is layers.BatchNormalization]
    return [norm for norm in norms if _folds(norm, readers)]


def _folds(norm: layers.BatchNormalization, readers: dict[str, int]) -> bool:
    if len(norm._inbound_nodes) != 1:  # a shared norm has no one convolution before it
        return False
    source, rank = norm.input._keras_history.operation, len(norm.input.shape)
    if type(source) not in _CONVOLUTIONS or readers[source.name] != 1:
        return False
    # Channels first is left alone: there Keras adds a bias along the width, where that is as long (Keras 3.15).
    over_channels = source.data_format == "channels_last" and norm.axis % rank == rank - 1
    return over_channels and source.activation is keras.activations.linear


def _folded_weights(convolution: layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    weights = convolution.get_weights()
    *before, kernel = weights[:-1] if convolution.use_bias else weights
    bias = weights[-1] if convolution.use_bias else 0.0
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(x)) for x in (norm.moving_mean, norm.moving_variance))
    factor = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        factor = factor * keras.ops.convert_to_numpy(norm.gamma)
    shift = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    return [*before, kernel * factor, shift + (bias - mean) * factor]
