"""Keras networks are rebuilt as one flat graph from pixels to raw logits; what cannot be is refused."""

import io
import zipfile
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest

from distill.runtimes import keras_file
from distill.runtimes.image_model import BEFORE_SOFTMAX, LOG_PROBABILITIES, LOGITS
from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import open_model
from distill.scoring.folding import fold_batch_norm
from tests.runtimes.conftest import CLASSES, SHAPE, refusal, softmax

layers, ops = keras.layers, keras.ops


@pytest.fixture
def save(tmp_path):
    def saved(model, suffix=".keras") -> str:
        path = tmp_path / f"teacher{suffix}"
        model.save(path)
        return str(path)

    return saved


@pytest.fixture(scope="module")
def trunk(plain):
    """The layers of `plain` before its pool, and its dense layer: to be put together anew."""
    relu = plain.get_layer("relu").output
    return plain.input, relu, plain.get_layer("dense").get_weights()


def dense_of(weights, **settings):
    """A function that applies a dense layer of given weights."""
    layer = layers.Dense(CLASSES, **settings)

    def apply(features):
        outputs = layer(features)
        layer.set_weights(weights)
        return outputs

    return apply


def pool(relu):
    return layers.GlobalAveragePooling2D()(relu)


def convolved(relu, weights):
    """Of the same logits as pooling first: both are linear."""
    layer = layers.Conv2D(CLASSES, 1)
    feature_map = layer(relu)
    layer.set_weights([weights[0][None, None], weights[1]])
    return pool(feature_map)


SOFTMAX_ENDS = {
    "an activation": lambda relu, w: layers.Activation("softmax")(dense_of(w)(pool(relu))),
    "a softmax layer": lambda relu, w: layers.Softmax()(dense_of(w)(pool(relu))),
    "a dense layer that activates": lambda relu, w: dense_of(w, activation="softmax")(pool(relu)),
    "a logarithm": lambda relu, w: dense_of(w, activation="log_softmax")(pool(relu)),
    "an operation": lambda relu, w: ops.softmax(dense_of(w)(pool(relu))),
    "behind a pool": lambda relu, w: layers.Activation("softmax")(convolved(relu, w)),
    "in a nested model": lambda relu, w: nested(dense_of(w, activation="softmax"), pool(relu)),
}


def nested(layer, features):
    inputs = keras.Input(features.shape[1:])
    return keras.Model(inputs, layer(inputs), name="head")(features)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
@pytest.mark.parametrize("end", SOFTMAX_ENDS)
def test_what_a_softmax_reads_is_reached(plain, trunk, pixels, save, end, suffix):
    inputs, relu, weights = trunk
    if end == "an operation" and suffix != ".keras":
        pytest.skip("Keras cannot load an operation from .h5")
    model = open_model(save(keras.Model(inputs, SOFTMAX_ENDS[end](relu, weights)), suffix))
    assert model.logits_from == BEFORE_SOFTMAX
    expected = plain.predict_on_batch(pixels)
    np.testing.assert_allclose(model.predict(pixels), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.network.predict_on_batch(pixels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_sequential_network(plain, pixels, save, suffix):
    parts = [type(each).from_config(each.get_config()) for each in plain.layers[1:]]
    model = keras.Sequential([keras.Input(SHAPE), *parts, layers.Activation("softmax")])
    model.set_weights(plain.get_weights())
    opened = open_model(save(model, suffix))
    assert opened.logits_from == BEFORE_SOFTMAX
    np.testing.assert_allclose(opened.predict(pixels), plain.predict_on_batch(pixels), rtol=1e-5, atol=1e-5)


def test_where_layers_do_not_show_it_the_values_do(plain, trunk, pixels, save):
    inputs, relu, weights = trunk
    summed = keras.Model(inputs, layers.Add()([dense_of(weights)(pool(relu)), dense_of(weights)(pool(relu))]))
    model = open_model(save(summed))
    assert model.logits_from == LOGITS
    logits = plain.predict_on_batch(pixels)
    np.testing.assert_allclose(model.network.predict_on_batch(pixels), 2 * logits, rtol=1e-5, atol=1e-5)

    both = [dense_of(weights, activation="softmax")(pool(relu)), dense_of(weights, activation="softmax")(-pool(relu))]
    model = open_model(save(keras.Model(inputs, layers.Average()(both))), input_format=InputFormat(range=(0, 1)))
    assert model.logits_from == LOG_PROBABILITIES
    assert model.network is None
    logits = plain.predict_on_batch(pixels / 255)
    features = np.linalg.lstsq(weights[0].T, (logits - weights[1]).T, rcond=None)[0].T
    mean = (softmax(logits) + softmax(-(features @ weights[0]) + weights[1])) / 2
    np.testing.assert_allclose(model.predict(pixels), np.log(mean), rtol=1e-4, atol=1e-5)


def nested_backbone():
    """A backbone in a network, with names that clash, a shared layer, and learned statistics."""
    inner = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, name="conv")(inner)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    backbone = keras.Model(inner, x, name="backbone")
    inputs = keras.Input(SHAPE)
    statistics = layers.Normalization(axis=-1)
    statistics.adapt(np.random.default_rng(0).uniform(0, 255, (9, *SHAPE)))
    shared = layers.Conv2D(4, 3, padding="same", name="conv")
    x = backbone(statistics(inputs), training=False)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 1, name="between")(shared(shared(x)) + x))
    outputs = layers.Dense(CLASSES)(layers.Dropout(0.5)(layers.Flatten()(x)))
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    for norm in (backbone.get_layer("norm"), model.get_layer("norm")):
        norm.set_weights([rng.uniform(0.5, 1.5, 4) for _ in range(4)])
    return model


def test_a_nested_backbone_is_dissolved_and_its_norms_fold(pixels, save):
    model = nested_backbone()
    opened = open_model(save(model))
    expected = model.predict_on_batch(pixels)
    folded = fold_batch_norm(opened.network)
    assert sum(isinstance(each, layers.BatchNormalization) for each in opened.network.layers) == 2
    assert not any(isinstance(each, (layers.BatchNormalization, keras.Model)) for each in folded.layers)
    for network in (opened.network, folded):
        np.testing.assert_allclose(network.predict_on_batch(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("saved_as", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_policy_is_the_one_given(plain, pixels, save, saved_as, policy):
    def clone(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": saved_as})

    model = keras.models.clone_model(plain, clone_function=clone)
    model.set_weights(plain.get_weights())
    opened = open_model(save(model), policy=policy, input_format=InputFormat(range=(0, 1)))
    computed = {layer.name: layer.compute_dtype for layer in opened.network.layers}
    half = "bfloat16" if policy == "mixed_bfloat16" else "float32"
    assert opened.numeric_policy == policy
    assert (computed["scale_pixels"], computed["conv"], computed["norm"]) == ("float32", half, half)
    assert computed["dense"] == opened.network.output.dtype == "float32"
    exact, logits = plain.predict_on_batch(pixels / 255), opened.predict(pixels)
    tolerance = 1e-5 if policy == "float32" else 0.05 * np.abs(exact).max()
    np.testing.assert_allclose(logits, exact, atol=tolerance)


def test_pixels_as_they_are_need_no_layer(plain, save):
    network = open_model(save(plain)).network
    assert [type(each).__name__ for each in network.layers[:2]] == ["InputLayer", "Conv2D"]


def test_a_network_for_images_of_any_size_is_given_one(pixels, save):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalMaxPooling2D()(layers.Conv2D(2, 3)(inputs))))
    source = save(model)
    assert "does not say which size its images have: give --input.size" in refusal(open_model, source)
    opened = open_model(source, input_format=InputFormat(size=6))
    assert opened.input_shape == (6, 6, 3)
    square = pixels[:, :6]
    np.testing.assert_allclose(opened.predict(square), model.predict_on_batch(square), rtol=1e-5, atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = layers.Dense(CLASSES, activation="softmax")

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1]))

    def call(self, inputs):
        return self.dense(ops.mean(inputs, axis=(1, 2)))


CHANGES = {
    "nothing": {},
    "a scale": {"scale": 1 / 127.5, "offset": -1.0},
    "an activation": {"activation": "tanh"},
    "one more layer": {"factor": 3.0},
    "the connections": {"skips": True},
}


def changeable(scale=1 / 255, offset=0.0, activation="relu", factor=2.0, skips=False):
    """A network in which everything but its weights can be changed."""
    initializer = keras.initializers.RandomNormal(seed=0)
    inputs = keras.Input(SHAPE, name="inputs")
    scaled = layers.Rescaling(scale, offset, name="scaled")(inputs)
    x = layers.Dense(3, activation=activation, kernel_initializer=initializer, name="first")(scaled)
    if factor != 2:
        x = layers.Rescaling(factor, name="factor")(x)
    x = layers.Add(name="sum")([x, scaled if skips else x])
    x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, kernel_initializer=initializer, name="head")(x), name="teacher")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_fingerprint_covers_whatever_a_file_says_of_its_network(save, suffix):
    fingerprints = {change: open_model(save(changeable(**CHANGES[change]), suffix)).sha256 for change in CHANGES}
    assert len(set(fingerprints.values())) == len(CHANGES)
    again = changeable()
    again.compile("adam", "mse")  # how it is trained is no matter of what it says
    source = save(again, suffix)
    assert open_model(source).sha256 == fingerprints["nothing"]
    keras.saving.load_model(source, compile=False).save(source)
    assert open_model(source).sha256 == fingerprints["nothing"]


def test_the_fingerprint_covers_the_weights_and_operations(save):
    inputs = keras.Input(SHAPE, name="inputs")
    head = layers.Dense(CLASSES, name="head")
    flat = layers.Flatten(name="flat")
    fingerprints = []
    for divisor in (255.0, 127.5):
        fingerprints.append(open_model(save(keras.Model(inputs, head(flat(inputs / divisor))))).sha256)
    head.set_weights([weight + 1 for weight in head.get_weights()])
    fingerprints.append(open_model(save(keras.Model(inputs, head(flat(inputs / 127.5))))).sha256)
    assert len(set(fingerprints)) == 3


def test_registered_layers_and_networks_are_known(pixels, save):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(Doubled()(inputs))))
    np.testing.assert_allclose(open_model(save(model)).predict(pixels), model.predict_on_batch(pixels), rtol=1e-5)

    subclassed = Subclassed()
    square = np.concatenate([pixels, pixels], axis=2)[:, :, :8]
    expected = subclassed.predict_on_batch(square / 255)
    source = save(subclassed)
    described = InputFormat(size=8, channels=3, range=(0, 1))
    opened = open_model(source, input_format=described)
    assert (opened.network, opened.logits_from) == (None, LOG_PROBABILITIES)
    np.testing.assert_allclose(softmax(opened.predict(square)), expected, rtol=1e-5, atol=1e-6)
    message = refusal(open_model, source, input_format=replace(described, channels=1))
    assert message.startswith(f"{source} cannot compute images [8, 8, 8, 1]: ")
    message = refusal(open_model, source, input_format=described, policy="mixed_bfloat16")
    assert "is a Python class of its own and computes in float32" in message


def ending(*last, shape=SHAPE):
    inputs = x = keras.Input(shape)
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, x)


WRITTEN_AS = {
    "a setting of a layer": lambda name: layers.Dense(3, activation=name),
    "a layer": lambda name: lambda x: layers.Activation(name)(x),
    "an operation": lambda name: ops.exp if name == "exponential" else getattr(ops, name),
    "before a change of shape": lambda name: lambda x: layers.Flatten()(layers.Activation(name)(x)),
}


@pytest.mark.parametrize("activation", ["tanh", "relu", "exponential", "gelu", "sigmoid", "hard_sigmoid", "softplus"])
@pytest.mark.parametrize("way", WRITTEN_AS)
def test_an_activation_at_the_end_is_refused_however_it_is_written(save, way, activation):
    source = save(ending(layers.Flatten(), layers.Dense(3), WRITTEN_AS[way](activation)))
    message = refusal(keras_file.open_file, source, InputFormat(), "float32", "auto")
    assert message.startswith(f"{source} ends in ")
    assert message.endswith(", expected raw logits or softmax: save it without that")


@pytest.mark.parametrize("last", [layers.Flatten(), layers.Reshape((CLASSES,)), layers.Dropout(0.5)])
def test_what_changes_no_number_at_the_end_hides_neither_logits_nor_a_softmax(pixels, save, last):
    dense = layers.Dense(CLASSES, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=0))
    logits = ending(layers.Flatten(), dense, last)
    opened = keras_file.open_file(save(logits), InputFormat(), "float32", "auto")
    assert opened.logits_from == LOGITS
    probabilities = ending(layers.Flatten(), dense, layers.Softmax(), last)
    opened = keras_file.open_file(save(probabilities), InputFormat(), "float32", "auto")
    assert opened.logits_from == LOG_PROBABILITIES
    expected = softmax(logits.predict_on_batch(pixels))
    np.testing.assert_allclose(softmax(opened.predict(pixels)), expected, atol=1e-5)


class TestRefused:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (
                lambda: ending(layers.Flatten(), layers.Dense(3, activation="relu")),
                "ends in relu, expected raw logits",
            ),
            (lambda: ending(layers.Flatten(), layers.Dense(3), layers.ReLU()), "ends in ReLU"),
            (lambda: ending(layers.Flatten(), layers.Dense(3), layers.Softmax(0)), "ends in a softmax over axis 0"),
            (lambda: ending(layers.Flatten(), layers.Dense(1)), "gives [1] for each image, expected one logit"),
            (lambda: ending(layers.Conv2D(3, 1)), "gives [8, 6, 3] for each image, expected one logit"),
            (lambda: ending(layers.Dense(3), shape=(10,)), "takes inputs of shape [10], expected images"),
            (lambda: ending(layers.Flatten(), layers.Dense(3), shape=(8, 8, 4)), "takes 4 channels (channels_last)"),
        ],
    )
    def test_a_network_that_gives_no_logits_of_an_image(self, save, model, message):
        assert message in refusal(open_model, save(model()))

    def test_several_inputs_or_outputs(self, save):
        first, second = keras.Input(SHAPE, name="left"), keras.Input(SHAPE, name="right")
        two_in = keras.Model([first, second], layers.Dense(3)(layers.Flatten()(first + second)))
        assert "has 2 inputs (left, right), expected one" in refusal(open_model, save(two_in))
        flat = layers.Flatten()(first)
        two_out = keras.Model(first, [layers.Dense(3)(flat), layers.Dense(3)(flat)])
        assert "has 2 outputs (" in refusal(open_model, save(two_out))

    def test_weights_without_a_network(self, plain, tmp_path):
        plain.save_weights(tmp_path / "plain.weights.h5")
        message = refusal(open_model, str(tmp_path / "plain.weights.h5"))
        assert "holds weights without their network: give the network's name as --teacher, the file as" in message

    def test_a_network_that_never_saw_an_image(self, save):
        message = refusal(open_model, save(keras.Sequential([layers.Flatten(), layers.Dense(3)])))
        assert "so it has no weights" in message

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    @pytest.mark.parametrize("kept", [0, 0.2, 0.6, 0.98])
    def test_a_truncated_file(self, plain, save, suffix, kept):
        source = save(plain, suffix)
        with open(source, "r+b") as file:
            file.truncate(int(kept * len(file.read())))
        assert f"{source} is not a Keras model that can be loaded: " in refusal(open_model, source)

    @pytest.mark.parametrize("content", ["{}", "[]", "words", '{"class_name": "Functional", "config": {}}'])
    def test_an_archive_of_something_else(self, tmp_path, content):
        with zipfile.ZipFile(tmp_path / "teacher.keras", "w") as archive:
            archive.writestr("config.json", content)
            archive.writestr("metadata.json", '{"keras_version": "3.15.0"}')
        message = refusal(open_model, str(tmp_path / "teacher.keras"))
        assert "is not a Keras model that can be loaded" in message
        assert len(message) < 400

    def test_weights_of_another_shape(self, plain, tmp_path, save):
        source = save(plain)
        with zipfile.ZipFile(source) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        weights = io.BytesIO(content["model.weights.h5"])
        with h5py.File(weights, "r+") as file:
            found = []
            file.visititems(lambda name, each: found.append(name) if isinstance(each, h5py.Dataset) else None)
            del file[found[0]]
            file[found[0]] = np.zeros(2)
        content["model.weights.h5"] = weights.getvalue()
        with zipfile.ZipFile(source, "w") as archive:
            for name, each in content.items():
                archive.writestr(name, each)
        assert f"{source} is not a Keras model that can be loaded: " in refusal(open_model, source)
