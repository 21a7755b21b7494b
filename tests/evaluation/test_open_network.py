"""Exports, runs and external networks are opened in one place, and an export without TensorFlow."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import distill
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError
from distill.evaluation.open_network import is_foreign, open_network
from distill.exporting.litert import FLOAT32, litert_flatbuffer
from distill.exporting.onnx_export import onnx_model
from distill.prediction.exported_model import DEFAULT_STUDENT
from distill.runtimes.foreign_network import ForeignNetwork
from tests.runs.test_run_record import VERSION_0_1

NAMES = CLASS_ORDERS["fer2013"]


@pytest.fixture
def foreign_file(tmp_path):
    pixels = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(7, activation="softmax")(keras.layers.Flatten()(pixels))
    keras.Model(pixels, outputs).save(tmp_path / "theirs.keras")
    return tmp_path / "theirs.keras"


def opened(source, names=NAMES, foreign=None):
    return open_network(source, names, name_of_classes="the data", foreign=foreign or ForeignNetwork())


def test_every_origin_names_its_classes_and_gives_their_logits(foreign_file):
    record = json.loads((VERSION_0_1 / "distilled" / "settings.json").read_text())
    run = opened(VERSION_0_1 / "distilled", record["class_names"])
    export, theirs = opened(DEFAULT_STUDENT), opened(foreign_file)
    assert [run.trained is None, export.trained is None, theirs.trained is None] == [False, True, True]
    assert [run.exported is None, export.exported is None, theirs.exported is None] == [True, False, True]
    assert [is_foreign(each) for each in (VERSION_0_1 / "distilled", DEFAULT_STUDENT, foreign_file)] == [0, 0, 1]
    for network in (run.model, export.model, theirs.model):
        pixels = np.zeros((2, *network.input_shape), np.float32)
        assert network.predict(pixels).shape == (2, len(network.class_names))
    assert [run.model.class_order, theirs.model.class_order] == ["known", "assumed"]
    trained = distill.load_network(VERSION_0_1 / "distilled")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *trained.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(run.model.predict(pixels), trained(pixels), atol=1e-5)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_files_that_another_program_wrote_are_external(foreign_file, tmp_path, suffix):
    network = keras.saving.load_model(foreign_file)
    content = litert_flatbuffer(network, FLOAT32) if suffix == ".tflite" else onnx_model(network)
    theirs = tmp_path / f"theirs{suffix}"
    theirs.write_bytes(content)
    network_there = opened(theirs)
    assert (network_there.exported, network_there.model.class_order, is_foreign(theirs)) == (None, "assumed", True)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
    given = keras.ops.softmax(network_there.model.predict(pixels))
    np.testing.assert_allclose(given, network(pixels), atol=1e-5)


def test_a_run_in_the_home_folder_is_known(monkeypatch):
    record = json.loads((VERSION_0_1 / "distilled" / "settings.json").read_text())
    monkeypatch.setenv("HOME", str(VERSION_0_1))
    run = opened("~/distilled", record["class_names"])
    assert (run.model.class_order, run.trained is None) == ("known", False)


def test_what_describes_itself_is_not_described(foreign_file):
    said = ForeignNetwork(output_type="probabilities")
    assert opened(foreign_file, foreign=said).model.classes == 7
    with pytest.raises(InputError, match="describes itself: omit it"):
        opened(DEFAULT_STUDENT, foreign=said)
    with pytest.raises(InputError, match="is a run of this project: omit it"):
        opened(VERSION_0_1 / "distilled", foreign=said)


def test_a_network_that_lacks_a_class_is_refused(foreign_file):
    with pytest.raises(
        InputError, match=r"tells apart .*, the data happy, boredom: give one that knows all of these"
    ):
        opened(DEFAULT_STUDENT, ("happy", "boredom"))


def test_an_export_is_opened_without_tensorflow_and_keras():
    program = f"""
import sys
from distill.evaluation.open_network import open_network
from distill.runtimes.foreign_network import ForeignNetwork
open_network({DEFAULT_STUDENT!r}, {NAMES!r}, name_of_classes="the data", foreign=ForeignNetwork())
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_what_does_not_exist_is_told_what_would(tmp_path):
    with pytest.raises(InputError, match=r"fer2013_resnet1 does not exist \(did you mean fer2013_resnet10"):
        opened("fer2013_resnet1")
    with pytest.raises(InputError, match=r"gone.keras does not exist.*\(.*fer2013_microexpnet.*\)"):
        opened(tmp_path / "gone.keras")
