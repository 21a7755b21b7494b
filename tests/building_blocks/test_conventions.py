"""What every listed network keeps to: each test runs over both registries, so that listing is testing."""

import inspect
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from distill.building_blocks.conventions import finished, image_input, pooled
from students import STUDENTS
from teachers import TEACHERS

NETWORKS = {**TEACHERS, **STUDENTS}
# Where the published size would make a slow test: 68.7 M parameters, maps of 55x55x272.
SHAPES = {"resnet": (8, 8, 3), "dexpression": (47, 47, 3)}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """(builder, its model, two images), at the default shape or a smaller one."""
    keras.utils.set_random_seed(0)
    builder = partial(NETWORKS[request.param], input_shape=SHAPES.get(request.param))
    model = builder()
    images = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:])).astype("float32")
    return builder, model, images


def message_of(error_info):
    message = str(error_info.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", NETWORKS)
def test_signature_is_that_of_keras_applications(name):
    parameters = inspect.signature(NETWORKS[name]).parameters
    positional = [key for key, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [
        *("include_top", "weights", "input_tensor", "input_shape", "pooling"),
        *("classes", "classifier_activation", "name"),
    ]
    assert parameters["name"].default == name


def test_raw_float32_logits(network):
    _, model, images = network
    logits = model(images)
    assert logits.shape == (2, model.output_shape[-1])
    assert logits.dtype == "float32"
    assert model.get_layer("logits").activation is keras.activations.linear


def test_a_gradient_reaches_every_trainable_weight(network):
    _, model, images = network
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1], logits))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    dead = [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if not np.any(g)]
    assert dead == []


def test_keras_file_gives_the_same_predictions(network, tmp_path):
    _, model, images = network
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_weights_and_input_tensor(network, tmp_path):
    builder, model, images = network
    model.save_weights(tmp_path / "model.weights.h5")
    pixels = keras.Input(model.input_shape[1:])
    copy = builder(weights=tmp_path / "model.weights.h5", input_tensor=layers.Identity()(pixels))
    np.testing.assert_array_equal(copy(images), model(images))


def test_weights_of_another_network_are_refused(network, tmp_path):
    _, model, _ = network
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), layers.Dense(2)]).save_weights(path)
    with pytest.raises(ValueError, match=f"does not fit {model.name}") as error:
        finished(model.input, model.output, weights=path, name=model.name)
    assert str(path) in message_of(error)


def test_dropout_is_off_unless_training(network):
    _, model, images = network
    np.testing.assert_array_equal(model(images), model(images, training=False))


def test_mixed_precision_keeps_float32_logits_and_layer_names(network):
    builder, model, images = network
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = builder()
    finally:
        keras.config.set_dtype_policy("float32")
    assert half(images[:1]).dtype == "float32"
    assert half.layers[-2].compute_dtype == "bfloat16"
    assert [layer.name for layer in half.layers] == [layer.name for layer in model.layers]


def test_without_top(network):
    builder, _, _ = network
    features = builder(include_top=False, pooling="max")
    assert len(features.output_shape) == 2
    assert "logits" not in [layer.name for layer in features.layers]


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooled(pooling):
    feature_map = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    expected = {"avg": np.mean, "max": np.max}[pooling](feature_map, axis=(1, 2))
    np.testing.assert_allclose(pooled(feature_map, pooling), expected, rtol=1e-5, atol=1e-6)


def test_pooled_with_an_unknown_pooling():
    with pytest.raises(ValueError, match="Received: pooling='mean'"):
        pooled(keras.Input((3, 3, 1)), "mean")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((84,), "height, width, channels"),
        ((84, 84, None), "height, width, channels"),
        ((None, None, 1), "fixed height and width"),
        ((84, 9, 1), "at least 10x10"),
    ],
)
def test_bad_shapes(shape, expected):
    with pytest.raises(ValueError, match=expected) as error:
        image_input(None, shape, default=(84, 84, 1), smallest=10, name="net", any_size=False)
    assert f"Received: input_shape={shape}" in message_of(error)


def test_height_and_width_alone_take_the_published_channels():
    pixels = image_input(None, (60, 70), default=(84, 84, 3), smallest=10, name="net")
    assert pixels.shape == (None, 60, 70, 3)


@pytest.mark.parametrize("name", ["junk.weights.h5", "junk.keras", "junk.npz"])
def test_damaged_weights_file(name, tmp_path):
    (tmp_path / name).write_text("junk")
    with pytest.raises(ValueError, match="it is damaged") as error:
        STUDENTS["microexpnet"](weights=tmp_path / name)
    assert name in message_of(error)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (
            "microexpnet_2017",
            r"the first layer that differs is dense \(expected \(3872, 16\), the file has \(1152, 48\)\)",
        ),
        ("plain_resnet_tiny", "the first layer that differs is stem_conv"),
    ],
)
def test_weights_of_another_network_name_the_first_layer_that_differs(other, difference, tmp_path):
    STUDENTS["microexpnet"]().save_weights(tmp_path / "student.weights.h5")
    with pytest.raises(ValueError, match=f"does not fit {other}: .*{difference}"):
        NETWORKS[other](weights=tmp_path / "student.weights.h5")


def test_missing_weights_file():
    with pytest.raises(ValueError, match="Received: weights='nowhere.keras'") as error:
        STUDENTS["microexpnet"](weights="nowhere.keras")
    assert "microexpnet" in message_of(error)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels-last"):
            STUDENTS["microexpnet"]()
    finally:
        keras.config.set_image_data_format("channels_last")
