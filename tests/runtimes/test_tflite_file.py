"""LiteRT files of others are teachers, whatever numbers they take and give; students of this project are, too."""

import json
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from distill.runtimes.image_model import BEFORE_SOFTMAX, LOG_PROBABILITIES, LOGITS
from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import open_model
from distill.runtimes.tflite_tensors import packed, unpacked
from tests.runtimes.conftest import SHAPE, refusal, softmax

tf = pytest.importorskip("tensorflow")
convert_variables_to_constants_v2 = pytest.importorskip(
    "tensorflow.python.framework.convert_to_constants"
).convert_variables_to_constants_v2
layers = keras.layers


@pytest.fixture(scope="module")
def ending(plain):
    """The network of `plain`, which takes 0..255, with a softmax at its end."""
    inputs = keras.Input(SHAPE)
    logits = layers.Rescaling(0.3)(plain(layers.Rescaling(1 / 255)(inputs)))
    return keras.Model(inputs, logits), keras.Model(inputs, layers.Softmax()(logits))


def of_function(model, spec, change=lambda images: images):
    """Return the converter of a network that is given images as `spec` says, changed."""
    function = tf.function(lambda images: model(change(images))).get_concrete_function(spec)
    return tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(function)])


def written(model, folder, *, batch=None, numbers=None, weights=False, scale=(0, 255)) -> str:
    """Write a network as LiteRT's converter does.

    Args:
        batch: how many images it takes at a time.
        numbers: dtype of input and output of a network that is quantised throughout; None for floats.
        weights: whether the weights alone are quantised.
        scale: what black and white are for the network.
    """
    converter = of_function(model, tf.TensorSpec([batch, *SHAPE], tf.float32))
    if weights or numbers:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if numbers:
        rng = np.random.default_rng(2)
        low, high = scale
        shown = [low + (high - low) * rng.uniform(0, 1, (batch or 1, *SHAPE)) for _ in range(50)]
        shown += [np.full((batch or 1, *SHAPE), each) for each in scale]
        converter.representative_dataset = lambda: ([each.astype(np.float32)] for each in shown)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = numbers
    path = folder / "network.tflite"
    path.write_bytes(converter.convert())
    return str(path)


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("weights", [False, True])
def test_floats_in_batches_of_any_size(ending, pixels, tmp_path, batch, weights):
    logits, network = ending
    opened = open_model(written(network, tmp_path, batch=batch, weights=weights))
    assert (opened.input_shape, opened.classes, opened.logits_from) == (SHAPE, 4, BEFORE_SOFTMAX)
    expected = logits.predict_on_batch(pixels)
    tolerance = 0.02 * np.abs(expected).max() if weights else 1e-5
    np.testing.assert_allclose(opened.predict(pixels), expected, atol=tolerance)
    np.testing.assert_array_equal(opened.predict(pixels[:2]), opened.predict(pixels)[:2])


@pytest.mark.parametrize("numbers", [tf.uint8, tf.int8, tf.float32])
@pytest.mark.parametrize("end", ["softmax", "logits"])
def test_quantised_numbers(ending, pixels, tmp_path, numbers, end):
    logits, network = ending
    opened = open_model(written(network if end == "softmax" else logits, tmp_path, numbers=numbers, batch=1))
    assert opened.logits_from == (BEFORE_SOFTMAX if end == "softmax" else LOGITS)
    expected = logits.predict_on_batch(pixels)
    np.testing.assert_allclose(opened.predict(pixels), expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("numbers", [tf.uint8, tf.int8])
def test_a_quantised_input_says_what_it_stands_for(plain, pixels, tmp_path, numbers):
    source = written(plain, tmp_path, numbers=numbers, batch=1, scale=(-1, 1))
    message = refusal(open_model, source)
    assert "that stands for -1..1, the settings make 0..255 of the pixels: give --input.range -1 1" in message
    assert "the settings make 0..1 of the pixels" in refusal(
        open_model, source, input_format=InputFormat(range=(0, 1))
    )
    opened = open_model(source, input_format=InputFormat(range=(-1, 1)))
    expected = plain.predict_on_batch(pixels / 127.5 - 1)
    np.testing.assert_allclose(opened.predict(pixels), expected, atol=0.05 * np.abs(expected).max())
    same = open_model(source, input_format=InputFormat(mean=(127.5,), std=(127.5,)))
    np.testing.assert_allclose(same.predict(pixels), opened.predict(pixels), atol=0.02 * np.abs(expected).max())


def test_whole_numbers_that_stand_for_themselves(ending, pixels, tmp_path):
    logits, _ = ending
    spec = tf.TensorSpec([1, *SHAPE], tf.uint8)
    converter = of_function(logits, spec, lambda images: tf.cast(images, tf.float32))
    (tmp_path / "network.tflite").write_bytes(converter.convert())
    opened = open_model(str(tmp_path / "network.tflite"))
    np.testing.assert_allclose(opened.predict(pixels), logits.predict_on_batch(np.rint(pixels)), atol=1e-5)


def test_a_student_that_was_exported_here(tmp_path):
    from distill.prediction.exported_model import DEFAULT_STUDENT, open_exported, trained_students

    path = next(trained_students()[DEFAULT_STUDENT].glob("*.tflite"))
    exported, opened = open_exported(path), open_model(str(path))
    faces = np.float32(np.random.default_rng(0).integers(0, 256, (3, *opened.input_shape)))
    np.testing.assert_allclose(softmax(opened.predict(faces)), exported.probabilities(faces), atol=1e-4)


def test_an_export_names_its_classes_and_what_is_behind_other_files_is_no_matter(plain, tmp_path):
    from distill.prediction.exported_model import DEFAULT_STUDENT, trained_students

    path = next(trained_students()[DEFAULT_STUDENT].glob("*.tflite"))
    names = json.loads((path.parent / "exports.json").read_text())["description"]["class_names"]
    assert open_model(str(path)).class_names == tuple(names)
    source = written(plain, tmp_path)
    for archive in ({}, {"description.json": "[]"}, {"labels.txt": "one"}):
        with zipfile.ZipFile(source, "a") as file:
            for name, text in archive.items():
                file.writestr(name, text)
        assert open_model(source).class_names == ()


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_a_softmax_of_scaled_logits_gives_the_probabilities_of_the_file(ending, pixels, tmp_path, beta):
    source = written(ending[1], tmp_path)
    with open(source, "rb") as file:
        model = unpacked(file.read(), source)
    [softmax_options] = [
        each.builtinOptions
        for each in model.subgraphs[0].operators
        if isinstance(each.builtinOptions, schema.SoftmaxOptionsT)
    ]
    softmax_options.beta = beta
    with open(source, "wb") as file:
        file.write(packed(model))
    opened = open_model(source)
    assert opened.logits_from == (BEFORE_SOFTMAX if beta == 1 else LOG_PROBABILITIES)
    expected = softmax(beta * ending[0].predict_on_batch(pixels))
    np.testing.assert_allclose(softmax(opened.predict(pixels)), expected, atol=1e-5)


class TestRefused:
    def test_a_name_that_is_no_text(self, ending, tmp_path):
        source = written(ending[1], tmp_path)
        with open(source, "rb") as file:
            content = bytearray(file.read())
        graph = unpacked(bytes(content), source).subgraphs[0]
        content[content.index(graph.tensors[int(graph.inputs[0])].name) + 2] ^= 0x80
        with open(source, "wb") as file:
            file.write(content)
        message = refusal(open_model, source)
        assert message.startswith(f"{source} is not a LiteRT file that can be read: 'utf-8' codec can't decode")

    @pytest.mark.parametrize("content", [b"", b"words", b"\0\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 100])
    def test_what_is_no_litert_file(self, tmp_path, content):
        (tmp_path / "teacher.tflite").write_bytes(content)
        assert refusal(open_model, str(tmp_path / "teacher.tflite")).startswith(
            f"{tmp_path / 'teacher.tflite'} is not a LiteRT file that can be read"
        )

    @pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
    def test_a_truncated_file(self, ending, tmp_path, kept):
        source = written(ending[1], tmp_path)
        with open(source, "r+b") as file:
            file.truncate(int(kept * len(file.read())))
        assert f"{source} is not a LiteRT file that can be read" in refusal(open_model, source)

    def test_other_flags_than_fit(self, ending, tmp_path):
        source = written(ending[1], tmp_path)
        assert "ends in a softmax, so it does not give logits" in refusal(open_model, source, output_type="logits")
        assert "runs in its own precision" in refusal(open_model, source, policy="mixed_bfloat16")
        assert "has size 8, the settings say 9" in refusal(open_model, source, input_format=InputFormat(size=9))
