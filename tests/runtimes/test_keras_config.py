"""A Keras file can name layers that compute, and nothing else, whatever the release of Keras lets through."""

import json
import os
import zipfile

import keras
import pytest

from distill.runtimes.keras_config import check_keras_file
from distill.runtimes.open_model import open_model
from tests.runtimes.conftest import CLASSES, SHAPE, refusal

layers = keras.layers


class Unregistered(layers.Layer):
    def call(self, inputs):
        return inputs


def ending_in(layer):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(layer(inputs))))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_lambda_is_not_run(in_tmp_path, suffix):
    model = ending_in(layers.Lambda(lambda inputs: inputs if os.system("touch was_run") == 0 else None))
    model.save(in_tmp_path / f"teacher{suffix}")
    (in_tmp_path / "was_run").unlink()
    message = refusal(open_model, f"teacher{suffix}")
    assert message.startswith(f'teacher{suffix} has a layer Lambda ("lambda')
    assert '"), which may hold Python code: rebuild it' in message
    assert not (in_tmp_path / "was_run").exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_layer_that_nobody_registered_is_named(tmp_path, suffix):
    path = tmp_path / f"teacher{suffix}"
    ending_in(Unregistered()).save(path)
    message = refusal(open_model, str(path))
    assert "holds 'Unregistered'" in message
    assert "which is not a layer that Keras knows: rebuild it of plain layers, or give a function" in message


def layer(name="Dense", module="keras.layers", registered=None, config=None) -> dict:
    return {"class_name": name, "module": module, "registered_name": registered, "config": config or {}}


def activation(name, module="builtins", registered="function") -> dict:
    return layer("Activation", config={"activation": layer("function", module, registered, name)})


HARMLESS = {
    "a layer": layer(),
    "a layer of Keras 2": {"class_name": "Dense", "config": {}},
    "a part of Keras 2": {"class_name": "VarianceScaling", "config": {}},
    "an operation": layer("GetItem", "keras.src.ops.numpy", "GetItem"),
    "an activation": activation("gelu"),
    "a layer of an application": layer("LayerScale", "keras.src.applications.convnext"),
}
HARMFUL = {
    "a lambda": layer("__lambda__", None),
    "a lambda by its full name": layer("layers.Lambda", "keras"),
    "a name with a path": layer("core.lambda_layer.Lambda", "keras.src.layers"),
    "a lambda under another name": layer("Dense", "keras.src.layers.core.lambda_layer", "Lambda"),
    "the path of another network": layer("TFSMLayer"),
    "a pickled network": layer("TorchModuleWrapper"),
    "a vocabulary": layer("StringLookup"),
    "a class of Python": layer("Popen", "subprocess"),
    "a function of Python": activation("system", "os"),
    "a function known to Python alone": activation("eval"),
    "a function of Keras": activation("get_file", "keras.utils"),
    "a switch of Keras": activation("enable_unsafe_deserialization", "keras.config"),
    "a way to build objects": activation("deserialize", "keras.activations"),
    "an activation of another module": activation("relu", "evil"),
    "a type of TensorFlow": layer("__typespec__", "tensorflow"),
    "an old type of TensorFlow": {"class_name": "TypeSpec", "type_spec": "tf.TensorSpec"},
    "no name": layer(["Dense"]),
    "a part of a part": layer(config={"layer": [layer(config={"layer": layer("Lambda")})]}),
}


def described(path, *each, version="3.15.0", **settings):
    with zipfile.ZipFile(path, "w") as archive:
        network = {**layer("Sequential", "keras"), "config": {"name": "net", "layers": list(each)}, **settings}
        archive.writestr("config.json", json.dumps(network))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


@pytest.mark.parametrize("name", HARMLESS)
def test_what_computes_is_let_through(tmp_path, name):
    check_keras_file(described(tmp_path / "teacher.keras", HARMLESS[name]))


@pytest.mark.parametrize("version", ["3.15.0", "2.15.0"])
@pytest.mark.parametrize("name", HARMFUL)
def test_what_does_more_is_refused(tmp_path, name, version):
    path = described(tmp_path / "teacher.keras", layer(), HARMFUL[name], version=version)
    assert refusal(check_keras_file, path).startswith((f"{path} has a layer ", f"{path} holds "))


def test_how_it_was_trained_does_not_matter(tmp_path):
    check_keras_file(described(tmp_path / "teacher.keras", compile_config={"loss": layer("MyLoss", "mine")}))


def test_a_description_that_would_fill_the_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "teacher.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * (1 << 27))
    assert "more than any network needs" in refusal(check_keras_file, tmp_path / "teacher.keras")
    with zipfile.ZipFile(tmp_path / "teacher.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    assert "is not a Keras model that can be loaded" in refusal(check_keras_file, tmp_path / "teacher.keras")
