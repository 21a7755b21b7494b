"""A student of one's own, a function in a file next to the data, through the library and every command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import distill
from distill.command_line.stage import run_stage
from distill.compare import CompareSettings, compare
from distill.evaluate import EvaluateSettings, evaluate
from distill.export import ExportSettings, export
from distill.exporting.graph import in_float32
from distill.logit_store import open_logits
from distill.runs.run_record import read_record
from distill.train_student import TrainStudentSettings, train_student
from tests.test_commands import write_faces
from tests.test_compare import write_logits

VERSION_0_1 = Path(__file__).parent / "version_0_1"
OWN = """
import keras
from keras import layers

def small(classes, width=8, scale=1 / 255):
    pixels = keras.Input((12, 12, 1))
    x = layers.Rescaling(scale)(pixels)
    x = layers.Conv2D(width, 3, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(classes)(x))
"""
SMALL = ("--student", "networks_of_mine:small", "--student-options", "width", 4)


def run(stage, settings, *args) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, settings, [str(arg) for arg in args], resumes=stage is train_student)
    return ended.value.code


def train(*args) -> int:
    return run(train_student, TrainStudentSettings, *args)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_faces(folder / "fer2013.csv")
    (folder / "networks_of_mine.py").write_text(OWN)
    write_logits(folder / "logits.h5", distill.open_dataset(folder / "fer2013.csv"))
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def settings_of(run) -> dict:
    return json.loads((Path(run) / "settings.json").read_text())["command"]["settings"]


def test_the_command_trains_what_the_library_trains(folder, tmp_path):
    from networks_of_mine import small

    taught = ("--data", "fer2013.csv", "--logits", "logits.h5", "--epochs", 1, *SMALL, "scale", "0.01")
    assert train(*taught, "--out", tmp_path / "command") == 0
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    student = small(classes=7, width=4, scale=0.01)
    data, recipe = distill.open_dataset("fer2013.csv"), distill.Recipe(epochs=1)
    trained = distill.train(student, data, out=tmp_path / "library", logits=open_logits("logits.h5"), recipe=recipe)
    command = distill.load_network(tmp_path / "command")
    assert command.get_config() == trained.get_config()
    for ours, theirs in zip(command.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert settings_of(tmp_path / "command")["student_options"] == {"width": 4, "scale": 0.01}


def test_a_run_of_it_goes_on_is_evaluated_and_exported(folder, tmp_path, capsys):
    assert train("--data", "fer2013.csv", "--epochs", 1, *SMALL, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    for again in (("--resume", tmp_path / "run"), ("--config", tmp_path / "run" / "settings.json")):
        assert train(*again) == 0
        assert "already complete" in capsys.readouterr().out
    model = ("--model", tmp_path / "run", "--data", "fer2013.csv", "--seconds", 0)
    assert run(evaluate, EvaluateSettings, *model) == 0
    assert run(export, ExportSettings, *model, "--formats", "litert-float32") == 0
    assert distill.open_exported(tmp_path / "run" / "export").description.input_shape == (12, 12, 1)
    assert "width 4" in (tmp_path / "run" / "export" / "README.md").read_text()


def test_folds_build_the_same_network_as_one_run(folder, tmp_path):
    assert train("--data", "fer2013.csv", "--folds", 3, "--epochs", 1, *SMALL, "--out", tmp_path / "folds") == 0
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "folds").glob("fold-*/settings.json"))]
    assert len(records) == 3
    assert {json.dumps(record["network"]) for record in records} == {json.dumps(records[0]["network"])}


def test_own_students_are_compared(folder, tmp_path, capsys):
    grid = ("--data", "fer2013.csv", "--logits", "logits.h5", "--losses", "hinton", "--temperatures", 4)
    grid += ("--lambdas", 0.5, "--seeds", 1, "--epochs", 1, "--student-options", "width", 3)
    students = ("--students", "networks_of_mine:small", "microexpnet")
    assert run(compare, CompareSettings, *grid, *students, "--out", tmp_path / "refused") == 2
    assert 'error: microexpnet has no option "width": choose one of' in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
    assert run(compare, CompareSettings, *grid, *students[:2], "--out", tmp_path / "compared") == 0
    runs = {path.name for path in (tmp_path / "compared" / "runs").iterdir()}
    own = "networks_of_mine.small"
    assert runs == {f"{own}-labels-alone-0", f"{own}-hinton-T4-lambda0.5-0"}
    cells = json.loads((tmp_path / "compared" / "comparison.json").read_text())["cells"]
    assert {cell["student"] for cell in cells} == {"networks_of_mine:small"}


@pytest.mark.parametrize("student", [SMALL, ("--student", "slim_resnet", "--image-size", 12)])
def test_a_student_in_half_precision_is_evaluated_and_exported(folder, tmp_path, student):
    given = ("--data", "fer2013.csv", "--logits", "logits.h5", "--epochs", 2, *student, "--out", tmp_path / "run")
    assert train(*given, "--policy", "mixed_bfloat16") == 0
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["network"]["policy"] == "mixed_bfloat16"
    half = distill.load_network(tmp_path / "run")
    assert {str(weight.dtype) for weight in half.weights} == {"float32"}
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 12, 12, 1)).astype(np.float32)
    expected, rounded = np.asarray(in_float32(half)(pixels)), np.asarray(half(pixels))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(expected - rounded).max() < 0.05 * np.abs(expected).max()  # it does compute in half precision
    model = ("--model", tmp_path / "run", "--data", "fer2013.csv", "--seconds", 0)
    assert run(evaluate, EvaluateSettings, *model) == 0
    exact = ("--formats", "litert-float32", "onnx", "saved-model", "--min-agreement", 1)
    assert run(export, ExportSettings, *model, *exact) == 0
    rows = json.loads((tmp_path / "run" / "export" / "exports.json").read_text())["exports"]
    assert all(row["logit_difference"] < 1e-3 for row in rows[1:])
    exported = distill.open_exported(tmp_path / "run" / "export").probabilities(pixels)
    np.testing.assert_allclose(exported, keras.ops.softmax(expected), atol=1e-5)


def test_an_unknown_option_is_refused_before_anything_is_written(folder, tmp_path, capsys):
    wrong = (*SMALL[:2], "--student-options", "wdth", 4)
    assert train("--data", "fer2013.csv", *wrong, "--out", tmp_path / "run") == 2
    said = 'error: networks_of_mine:small has no option "wdth": did you mean width?\n'
    assert capsys.readouterr().err.endswith(said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("run_name", ["labels_alone", "distilled"])
def test_a_run_of_version_0_1_goes_on_with_its_options(tmp_path, monkeypatch, capsys, run_name):
    shutil.copytree(VERSION_0_1, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    assert train("--resume", run_name) == 0
    assert "already complete" in capsys.readouterr().out
    assert train("--config", f"{run_name}/settings.json", "--out", tmp_path / "anew") == 0
    settings = settings_of(tmp_path / "anew")
    assert settings["student_options"] == {"pixel_scale": 1 / 16}
    assert settings["policy"] == "float32"
    assert not {"pixel_scale", "keep_prob"} & settings.keys()
    old, new = (read_record(path) for path in (run_name, tmp_path / "anew"))
    assert new.network == replace(old.network, wiring_sha256=new.network.wiring_sha256)  # which is new
    assert old.command.settings["student_options"] == {"pixel_scale": 1 / 16}
