"""Every kind of network gives the logits that the plain Keras model gives, whatever pixels it takes."""

import hashlib
import json

import numpy as np
import pytest

from distill.runtimes.image_model import BEFORE_SOFTMAX, LOG_PROBABILITIES, LOGITS
from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import FORMATS, is_model_file, open_model
from tests.runtimes.conftest import CLASSES, refusal, softmax
from tests.runtimes.writers import WRITERS

SIZES = {"a Python function": {"channels": 3, "size": 8}}
LOOKED_INTO = {"a Keras file", "an ONNX file", "a LiteRT file"}  # the others are known by what they give alone


@pytest.fixture
def square(plain):
    """A function that says nothing of its images can only be described to take square ones."""
    import keras

    inputs = keras.Input((8, 8, 3))
    x = inputs
    for layer in plain.layers[1:]:
        x = layer(x)
    return keras.Model(inputs, x, name="square")


@pytest.fixture(params=[each.name for each in FORMATS])
def written(request, plain, square, in_tmp_path):
    """Name of a format, its writer of the test's network, how it must be described, and the network."""
    name = request.param
    network = square if name in SIZES else plain

    def write(**options) -> str:
        return WRITERS[name](network, in_tmp_path, **options)

    return name, write, SIZES.get(name, {}), network


def images_for(network) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (7, *network.input_shape[1:])).astype(np.float32)


def test_the_logits_are_those_of_the_plain_network(written):
    name, write, described, network = written
    model = open_model(write(), input_format=InputFormat(**described))
    pixels = images_for(network)
    np.testing.assert_allclose(model.predict(pixels), network.predict_on_batch(pixels), rtol=1e-5, atol=1e-5)
    assert model.predict(pixels).dtype == np.float32
    assert model.logits_from == LOGITS
    assert (model.input_shape, model.classes) == (network.input_shape[1:], CLASSES)
    assert model.name.startswith("network")
    assert model.numeric_policy == "float32"
    assert (model.network is not None) == (name == "a Keras file")
    assert len(model.sha256) == 64


def test_a_softmax_is_undone(written):
    name, write, described, network = written
    model = open_model(write(ending="softmax"), input_format=InputFormat(**described, range=(0, 1)))
    pixels = images_for(network)
    expected, logits = network.predict_on_batch(pixels / 255), model.predict(pixels)
    np.testing.assert_allclose(softmax(logits), softmax(expected), atol=1e-6)
    if name in LOOKED_INTO:
        assert model.logits_from == BEFORE_SOFTMAX
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    else:
        assert model.logits_from == LOG_PROBABILITIES
        shift = logits - expected  # one number for each image
        np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-4)


@pytest.mark.parametrize("channels_first", [False, True])
def test_every_setting_of_the_input_reaches_the_network(written, channels_first):
    name, write, described, network = written
    layout = {"layout": "channels_first"} if channels_first and name in SIZES else {}
    settings = InputFormat(**described, **layout, range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 2, 4), order="bgr")
    model = open_model(write(channels_first=channels_first), input_format=settings)
    pixels = images_for(network)
    formatted = np.stack(
        [
            (pixels[..., 2] / 127.5 - 1 - 0.1) / 0.5,
            (pixels[..., 1] / 127.5 - 1 - 0.2) / 2,
            (pixels[..., 0] / 127.5 - 1 - 0.3) / 4,
        ],
        axis=-1,
    )
    np.testing.assert_allclose(model.predict(pixels), network.predict_on_batch(formatted), rtol=1e-5, atol=1e-5)
    height, width, channels = network.input_shape[1:]
    described = {
        "height": height,
        "width": width,
        "channels": channels,
        "range": [-1.0, 1.0],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 2.0, 4.0],
        "order": "bgr",
        "layout": "channels_first" if channels_first else "channels_last",
    }
    assert json.loads(json.dumps(model.input_format)) == described


def test_a_sigmoid_is_refused(written):
    _, write, described, _ = written
    source = write(ending="sigmoid")
    message = refusal(open_model, source, input_format=InputFormat(**described, range=(-1, 1)))
    assert source in message
    assert "sigmoid" in message


def test_every_format_can_be_written_here_and_is_distinguished_from_a_name(written):
    name, write, _, _ = written
    assert WRITERS.keys() == {each.name for each in FORMATS}
    source = write()
    assert [each.name for each in FORMATS if each.recognise(source)] == [name]
    assert is_model_file(source)


def test_half_precision_is_for_keras_alone(written):
    name, write, described, network = written
    options = {"input_format": InputFormat(**described), "policy": "mixed_bfloat16"}
    if name == "a Keras file":
        model = open_model(write(), **options)
        pixels = images_for(network) / 255
        exact, logits = network.predict_on_batch(pixels), model.predict(pixels)
        assert model.numeric_policy == "mixed_bfloat16"
        assert 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()
    else:
        message = refusal(open_model, write(), **options)
        assert message.startswith(
            f"--policy mixed_bfloat16 works for Keras networks, {name} runs in its own precision"
        )


def test_what_is_said_to_be_logits_is_taken_as_it_is(written):
    name, write, described, network = written
    options = {"input_format": InputFormat(**described, range=(0, 1)), "output_type": "logits"}
    pixels = images_for(network)
    expected = network.predict_on_batch(pixels / 255)
    plain_model = open_model(write(), **options)
    np.testing.assert_allclose(plain_model.predict(pixels), expected, rtol=1e-5, atol=1e-5)
    source = write(ending="softmax")
    if name in LOOKED_INTO:
        assert "ends in a softmax, so it does not give logits: omit --output-type" in refusal(
            open_model, source, **options
        )
    else:
        model = open_model(source, **options)
        np.testing.assert_allclose(model.predict(pixels), softmax(expected), rtol=1e-5, atol=1e-6)
        assert model.logits_from == LOGITS


def test_what_is_said_to_be_probabilities_must_be_some(written):
    name, write, described, network = written
    options = {"input_format": InputFormat(**described, range=(0, 1)), "output_type": "probabilities"}
    pixels = images_for(network)
    expected = softmax(network.predict_on_batch(pixels / 255))
    np.testing.assert_allclose(
        softmax(open_model(write(ending="softmax"), **options).predict(pixels)), expected, atol=1e-6
    )
    message = refusal(open_model, write(), **options)
    assert "so it does not give probabilities" in message or "so no probabilities" in message
    assert message.endswith(": omit --output-type")


def test_the_fingerprint_is_that_of_the_file(plain, in_tmp_path):
    onnx_file = WRITERS["an ONNX file"](plain, in_tmp_path)
    with open(onnx_file, "rb") as file:
        assert open_model(onnx_file).sha256 == hashlib.sha256(file.read()).hexdigest()


@pytest.mark.parametrize(
    ("teacher", "is_file"),
    [
        ("facenet", False),
        ("plain_resnet_tiny", False),
        ("nothing.keras", True),
        ("nothing.weights.h5", True),
        ("some/folder", True),
        ("./facenet", True),
        ("package.module:function", True),
        ("model.pt", True),
    ],
)
def test_what_is_no_plain_word_is_a_file(teacher, is_file):
    assert is_model_file(teacher) is is_file


def test_what_cannot_be_opened_says_what_could(in_tmp_path):
    (in_tmp_path / "teacher.pt").write_text("torch")
    (in_tmp_path / "empty").mkdir()
    (in_tmp_path / "folder.keras").mkdir()
    expected = (
        "expected a .keras, .h5, .hdf5, .json, .onnx or .tflite file, the folder of a SavedModel, or module:function"
    )
    assert refusal(open_model, "teacher.pt") == f"teacher.pt is not a network that can be opened; {expected}"
    assert refusal(open_model, "empty") == f"empty is not a network that can be opened; {expected}"
    assert "teachre.pt does not exist (did you mean teacher.pt?); expected" in refusal(open_model, "teachre.pt")
    assert "nor does its folder no" in refusal(open_model, "no/teacher.onnx")
    assert "folder.keras is not a file" in refusal(open_model, "folder.keras")
    message = refusal(open_model, "folder.keras", output_type="odds")
    assert message == '--output-type must be auto or logits or probabilities, received "odds"'
    assert 'unknown numeric policy "float16"' in refusal(open_model, "folder.keras", policy="float16")


def test_size_and_channels_are_required_or_contradicted(plain, in_tmp_path):
    source = WRITERS["an ONNX file"](plain, in_tmp_path)
    assert f"{source} has channels 3, the settings say 1" in refusal(
        open_model, source, input_format=InputFormat(channels=1)
    )
    assert f"{source} has size 8, the settings say 48" in refusal(
        open_model, source, input_format=InputFormat(size=48)
    )
    function = WRITERS["a Python function"](plain, in_tmp_path)
    assert "does not say which size its images have: give --input.size" in refusal(open_model, function)
    assert "give --input.channels" in refusal(open_model, function, input_format=InputFormat(size=8))
