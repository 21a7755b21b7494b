"""Whatever can be evaluated has the same interface."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from distill.data.dataset import Dataset
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.evaluation.evaluate_model import evaluate_model
from distill.evaluation.evaluated_models import open_evaluated, unique_names
from distill.exporting.litert import FLOAT32, litert_flatbuffer
from distill.prediction import litert_file, onnx_student
from distill.prediction.exported_model import is_exported
from distill.reports.network_costs import multiply_adds
from distill.runs.networks import load_network
from distill.runs.trained_networks import trained_path
from distill.runtimes.image_model import LOGITS, ImageModel
from students import MicroExpNet

NAMES = tuple(CLASS_ORDERS["fer2013"])


@pytest.fixture
def network(tmp_path):
    """A small network, and the file that it was saved in."""
    network = MicroExpNet(classes=7, input_shape=(32, 32), pixel_scale=1 / 16)
    network.save(tmp_path / "mine.keras")
    return network, tmp_path / "mine.keras"


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "A"], ["a", "A-2"]),  # one file on some systems
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
    ],
)
def test_names_become_unique(names, unique):
    assert unique_names(names) == unique


def test_what_counts_as_exported(tmp_path):
    def write_file(name, text):
        (tmp_path / name).write_text(f"TFL3 {text} and more")
        return tmp_path / name

    (tmp_path / "exports.json").write_text("{}")
    assert is_exported(str(tmp_path))
    assert is_exported("some.tflite")
    assert is_exported(str(write_file("ours.tflite", litert_file.DESCRIPTION)))
    assert is_exported(str(write_file("ours.onnx", onnx_student.PROPERTY)))
    assert not is_exported(str(write_file("theirs.tflite", "labels.txt")))
    assert not is_exported(str(write_file("theirs.onnx", "")))
    assert is_exported("some.onnx")
    assert not is_exported(str(tmp_path / "run"))
    assert not is_exported("some.keras")


def test_a_network_that_names_its_classes_is_evaluated_in_the_order_of_the_data():
    own = ("sad", "other", "angry", "happy")
    right = ImageModel(
        name="right",
        input_shape=(1, 1, 1),
        classes=4,
        sha256="0" * 64,
        numeric_policy="float32",
        logits_from=LOGITS,
        input_format={},
        network=None,
        predict=lambda pixels: np.float32(np.eye(4)[np.rint(pixels[:, 0, 0, 0]).astype(int)]),
        class_names=own,
    )
    data_classes = ("angry", "happy", "sad")
    labels = np.arange(30) % 3
    pixels = [own.index(data_classes[label]) for label in labels]
    faces = Dataset.from_arrays(np.uint8(pixels).reshape(-1, 1, 1, 1), labels, class_names=data_classes)
    assert evaluate_model(right, faces).accuracy == 1
    unknown = Dataset.from_arrays(np.uint8(pixels).reshape(-1, 1, 1, 1), labels, class_names=("angry", "calm", "sad"))
    with pytest.raises(InputError, match="calm"):
        evaluate_model(right, unknown)


def test_a_keras_file_is_described(network):
    saved, path = network
    (model,) = open_evaluated([str(path)], NAMES)
    assert model.describe() == {
        "name": "mine",
        "model": str(path),
        "network": "microexpnet",
        "kind": "Keras float32",
        "input_shape": [32, 32, 1],
        "views": 1,
        "averages": {},
        "class_order": "assumed",
        "parameters": saved.count_params(),
        "bytes": 4 * saved.count_params(),
        "multiply_adds": multiply_adds(saved),
    }


def test_the_precision_that_a_network_computes_in_is_named(network):
    run, file = open_evaluated([trained_path("fer2013_resnet10"), str(network[1])], NAMES)
    assert (run.describe()["kind"], file.describe()["kind"]) == ("Keras mixed_bfloat16", "Keras float32")


def test_the_speed_is_that_of_a_litert_file_with_the_same_predictions(network):
    saved, path = network
    (model,) = open_evaluated([str(path)], NAMES)
    speed = model.speed(0.01)
    assert speed["latency_unknown"] is None
    assert 0 < speed["latency"]["p50_ms"] <= speed["latency"]["p99_ms"]
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
    expected = keras.ops.softmax(saved(pixels))
    np.testing.assert_allclose(model.runner()(pixels), expected, atol=1e-5)


def test_no_time_for_the_speed_means_no_speed(network):
    (model,) = open_evaluated([str(network[1])], NAMES)
    assert model.speed(0) == {"latency": None, "latency_unknown": "it was not measured"}


def test_a_network_that_cannot_be_converted_has_no_speed_but_a_reason(tmp_path):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(7)(keras.layers.Flatten()(keras.ops.erfinv(inputs / 256)))
    keras.Model(inputs, outputs, name="odd").save(tmp_path / "odd.keras")
    (model,) = open_evaluated([str(tmp_path / "odd.keras")], NAMES)
    speed = model.speed(0.01)
    assert speed["latency"] is None
    assert speed["latency_unknown"].startswith("odd cannot be converted to LiteRT float32: ")


def test_the_speed_of_a_litert_file_of_another_program_is_its_own(network, tmp_path):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(litert_flatbuffer(network[0], FLOAT32))
    (model,) = open_evaluated([str(path)], NAMES)
    assert (model.kind, model.speed(0.01)["latency_unknown"]) == ("LiteRT", None)
    grey = np.full((1, 32, 32, 1), 127.5, np.float32)
    np.testing.assert_allclose(model.runner()(grey), network[0](grey), rtol=1e-4)


@pytest.mark.parametrize(
    "signature", [tf.TensorSpec([3, 32, 32, 1], tf.float32), tf.TensorSpec([1, 32, 32, 1], tf.uint8)]
)
def test_a_litert_file_that_takes_no_single_face_in_float32_has_no_speed_but_a_reason(network, tmp_path, signature):
    answer = tf.function(lambda pixels: network[0](tf.cast(pixels, tf.float32))).get_concrete_function(signature)
    constant = convert_variables_to_constants_v2(answer)
    path = tmp_path / "theirs.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([constant]).convert())
    (model,) = open_evaluated([str(path)], NAMES)
    assert model.speed(0.01) == {
        "latency": None,
        "latency_unknown": f"{path} takes no float32 pixels [1, 32, 32, 1]",
    }


def _write_onnx(path, shape, kind="FLOAT"):
    """A network of one layer, as another program would write it; return its weights."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(0, 0.01, (64, 7)).astype(np.float32), rng.normal(0, 1, 7).astype(np.float32)
    types, make_node, typed = onnx.TensorProto, onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make_node("Cast", ["pixels"], ["floats"], to=types.FLOAT),
        make_node("Flatten", ["floats"], ["flat"]),
        make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "theirs",
        [typed("pixels", getattr(types, kind), shape)],
        [typed("logits", types.FLOAT, [shape[0], 7])],
        [onnx.numpy_helper.from_array(array, name) for name, array in {"weights": weights, "bias": bias}.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return weights, bias


@pytest.mark.parametrize("shape", [[1, 8, 8, 1], ["B", 8, 8, 1], ["B", 1, 8, 8], [None, 1, 8, 8]])
def test_the_speed_of_an_onnx_file_of_another_program_is_its_own(tmp_path, shape):
    path = tmp_path / "theirs.onnx"
    weights, bias = _write_onnx(path, shape)
    (model,) = open_evaluated([str(path)], NAMES)
    assert (model.kind, model.speed(0.01)["latency_unknown"]) == ("ONNX", None)
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(model.runner()(pixels), pixels.reshape(1, 64) @ weights + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "kind"), [([3, 8, 8, 1], "FLOAT"), (["B", 8, 8, 1], "UINT8")])
def test_an_onnx_file_that_takes_no_single_face_in_float32_has_no_speed_but_a_reason(tmp_path, shape, kind):
    path = tmp_path / "theirs.onnx"
    _write_onnx(path, shape, kind)
    (model,) = open_evaluated([str(path)], NAMES)
    assert model.speed(0.01) == {"latency": None, "latency_unknown": f"{path} takes no float32 pixels [1, 8, 8, 1]"}


def test_a_layer_of_unknown_costs_leaves_multiply_adds_out(tmp_path):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Flatten()(keras.layers.Conv2DTranspose(2, 3)(inputs))
    keras.Model(inputs, keras.layers.Dense(7)(outputs)).save(tmp_path / "up.keras")
    (model,) = open_evaluated([str(tmp_path / "up.keras")], NAMES)
    assert model.costs["multiply_adds"] is None


def test_a_softmax_is_taken_off(network, tmp_path):
    saved, path = network
    probabilities = keras.Model(saved.inputs[0], keras.layers.Softmax()(saved.outputs[0]))
    probabilities.save(tmp_path / "soft.keras")
    plain, soft = open_evaluated([str(path), str(tmp_path / "soft.keras")], NAMES)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(soft.model.predict(pixels), saved(pixels), atol=1e-3)
    assert soft.speed(0.01)["latency"] is not None
    assert soft.costs["parameters"] == plain.costs["parameters"]


def test_the_same_file_twice_is_refused(network, tmp_path, monkeypatch):
    path = network[1]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"mine.keras and ./mine.keras are the same model: name it once"):
        open_evaluated([str(path), "./mine.keras"], NAMES)
    (path.parent / "other").mkdir()
    load_network(path).save(path.parent / "other" / "mine.keras")
    models = open_evaluated([str(path), str(path.parent / "other" / "mine.keras")], NAMES)
    assert [model.name for model in models] == ["mine", "mine-2"]
