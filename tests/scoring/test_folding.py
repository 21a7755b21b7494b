"""A folded network is the same network, faster."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.scoring.folding import fold_batch_norm
from teachers import PlainResNetTiny

layers = keras.layers


def lived_in(model):
    """Give every weight, moving statistics among them, a value that a trained network could have."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


def assert_same_logits(model, folded):
    shape = [side or 1 for side in model.input_shape[1:]]
    pixels = np.random.default_rng(1).uniform(0, 255, (3, *shape)).astype(np.float32)
    np.testing.assert_allclose(folded(pixels), model(pixels), rtol=1e-4, atol=1e-4)


def test_a_residual_network_keeps_its_logits_and_loses_its_norms():
    model = lived_in(PlainResNetTiny())
    before = [weight.copy() for weight in model.get_weights()]
    folded = fold_batch_norm(model)
    assert_same_logits(model, folded)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def conv_then(*after, convolution=layers.Conv2D, **settings):
    inputs = keras.Input((6, 6, 1))
    x = convolution(4, 3, **settings)(inputs)
    for layer in after:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


@pytest.mark.parametrize("convolution", [layers.Conv2D, layers.SeparableConv2D])
@pytest.mark.parametrize("settings", [{"use_bias": True}, {"use_bias": False}])
@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}])
def test_every_kind_of_norm_folds(convolution, settings, norm):
    after = layers.BatchNormalization(**norm), layers.ReLU()
    model = lived_in(conv_then(*after, convolution=convolution, **settings))
    folded = fold_batch_norm(model)
    assert_same_logits(model, folded)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)
    assert folded.count_params() < model.count_params() + 4 * (not settings["use_bias"])


def test_norms_that_cannot_fold_stay():
    after_relu = lived_in(conv_then(layers.BatchNormalization(), activation="relu"))
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3)(inputs)
    two_readers = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x + layers.BatchNormalization()(x))))
    for model in (after_relu, lived_in(two_readers)):
        folded = fold_batch_norm(model)
        assert_same_logits(model, folded)
        assert any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("axis", [1, 2, 3, -3, -1])
def test_norms_fold_over_the_channels_alone(data_format, axis):
    # Rows, columns and channels are as many, so that every axis has a factor for each channel.
    inputs = keras.Input((6, 6, 6))
    x = layers.BatchNormalization(axis=axis)(layers.Conv2D(6, 3, padding="same", data_format=data_format)(inputs))
    model = lived_in(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    folded = fold_batch_norm(model)
    folds = data_format == "channels_last" and axis % 4 == 3
    assert folds != any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)
    try:
        assert_same_logits(model, folded)
    except tf.errors.UnimplementedError:  # such kernels are oneDNN's alone
        pytest.skip("TensorFlow has no convolution with channels first on this processor")


def test_a_norm_behind_two_convolutions_stays():
    inputs, norm = keras.Input((6, 6, 1)), layers.BatchNormalization()
    x = norm(layers.Conv2D(4, 3)(inputs)) + norm(layers.Conv2D(4, 3)(inputs))
    model = lived_in(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    assert_same_logits(model, fold_batch_norm(model))


def test_a_model_that_is_no_graph_of_layers_is_returned_as_it_is():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    assert fold_batch_norm(model) is model
