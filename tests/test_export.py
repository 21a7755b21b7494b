"""`python -m distill.export` from end to end, and what it says to wrong input."""

import json
import shutil

import keras
import numpy as np
import pytest

from distill.command_line.stage import run_stage
from distill.data.synthetic_faces import synthetic_faces
from distill.errors import InputError
from distill.export import ExportSettings, export
from distill.exporting.formats import FORMATS
from distill.prediction.exported_model import open_exported
from distill.training.recipe import Recipe
from distill.training.train import train
from students import MicroExpNet


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with faces in class folders, and a student's run on them."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("export")
    faces = synthetic_faces(count=140, classes=7, seed=0)
    for index, image in enumerate(faces.read(np.arange(len(faces)))):
        split = "validation" if index % 4 == 0 else "train"
        path = folder / "faces" / split / faces.class_names[faces.labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    from distill.data.open_dataset import open_dataset

    dataset = open_dataset(folder / "faces")
    student = MicroExpNet(classes=7, input_shape=(32, 32), pixel_scale=1 / 16)
    train(student, dataset, out=folder / "run", recipe=Recipe(epochs=1))
    return folder


def run(work, *args) -> int:
    given = [str(arg) for arg in args]
    if "--data" not in given:
        given += ["--data", str(work / "faces")]
    if "--model" not in given:
        given += ["--model", str(work / "run")]
    with pytest.raises(SystemExit) as ended:
        run_stage(export, ExportSettings, [*given, "--seconds", "0"])
    return ended.value.code


def failure(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "failed: "))]
    assert len(lines) == 1, lines
    return lines[0]


def test_all_files_a_table_advice_and_a_card(work, tmp_path, capsys):
    assert run(work, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in FORMATS)
    assert "Take microexpnet-" in printed or 'no better than always predicting "' in printed  # after one epoch
    facts = json.loads((tmp_path / "out" / "exports.json").read_text())
    assert [row["format"] for row in facts["exports"]] == ["keras", *FORMATS]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"exports.json", "README.md", *(row["file"] for row in facts["exports"] if row["file"])}
    assert facts["data"]["images"] == 35
    assert facts["description"]["trained_on"] == "faces"
    exact = [row for row in facts["exports"] if row["format"] in ("litert-float32", "onnx", "saved-model")]
    assert all(row["agreement"] == 1 and row["logit_difference"] < 1e-3 for row in exact)
    model = open_exported(tmp_path / "out")
    assert model.path.name == facts["recommended"]
    assert model.description.weights_sha256 == facts["description"]["weights_sha256"]


def test_a_format_that_a_student_cannot_be_converted_to_is_left_out_unless_it_is_named(work, tmp_path, capfd):
    inputs = keras.Input((24, 24, 1))
    x = keras.layers.Conv2D(4, 5, strides=4, activation="gelu")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(x)), name="smooth")
    student.save(tmp_path / "smooth.keras")
    given = ("--model", tmp_path / "smooth.keras", "--images", 20, "--calibration", 20, "--out", tmp_path / "out")
    assert run(work, *given) == 0
    printed = capfd.readouterr()
    assert "onnx is left out: smooth cannot be converted to ONNX" in printed.out
    assert "Unsupported ops" not in printed.err
    facts = json.loads((tmp_path / "out" / "exports.json").read_text())
    assert [row["format"] for row in facts["exports"]] == ["keras", *(name for name in FORMATS if name != "onnx")]
    assert run(work, *given, "--formats", "litert-float32", "onnx") == 2
    assert "smooth cannot be converted to ONNX" in (said := capfd.readouterr().err)
    assert "operation Erfc" in said


def test_the_card_has_every_part_and_no_path_of_this_machine(work, tmp_path):
    assert run(work, "--out", tmp_path / "out", "--formats", "litert-float32") == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in ("What goes in", "The files", "Results", "How it was trained", "Limits and fair use"):
        assert f"\n## {part}" in card
    assert "| angry | " in card
    assert "| teacher | none: it learned from labels alone |" in card
    assert "| how views are drawn | flip True, rotation 10.0, zoom [0.9, 1.1]," in card
    assert "| data | faces: 105 to learn from, 35 to choose the epoch on |" in card
    assert str(work) not in card
    assert str(work) not in (tmp_path / "out" / "exports.json").read_text()
    tables = [line for line in card.splitlines() if line.startswith("| file |")]
    assert len(tables) == 1
    assert tables[0].count("|") == next(line for line in card.splitlines() if line.startswith("| micro")).count("|")


def test_a_second_export_replaces_the_first(work, tmp_path):
    out = tmp_path / "out"
    assert run(work, "--out", out, "--formats", "litert-float32", "saved-model") == 0
    assert run(work, "--out", out, "--formats", "litert-int8") == 0
    assert {path.name for path in out.iterdir()} == {"exports.json", "README.md", "microexpnet-int8.tflite"}


def test_by_default_the_files_lie_in_the_run(work):
    assert run(work, "--formats", "litert-float16") == 0
    assert (work / "run" / "export" / "microexpnet-float16.tflite").is_file()


def test_a_keras_file_without_a_record_can_be_exported(work, tmp_path):
    keras.saving.load_model(work / "run" / "best.keras").save(tmp_path / "mine.keras")
    assert run(work, "--model", tmp_path / "mine.keras", "--formats", "litert-float32") == 0
    card = (tmp_path / "mine-export" / "README.md").read_text()
    assert "Not recorded" in card
    assert "The epoch was chosen on" not in card
    assert "see the terms of the data that it learned from." in card


def test_a_card_says_that_the_epoch_was_chosen_on_its_images_where_it_was(work, tmp_path):
    sentence = "The epoch was chosen on the images that the results are of"
    for split, said in ("validation", True), ("train", False):
        out = tmp_path / split
        flags = ("--split", split, "--images", 20, "--formats", "litert-float32")
        assert run(work, *flags, "--out", out) == 0
        assert (sentence in (out / "README.md").read_text()) is said
    other = tmp_path / "other"
    shutil.copytree(work / "faces", other)
    min((other / "validation").rglob("*.png")).unlink()
    assert run(work, "--data", other, "--formats", "litert-float32", "--out", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert sentence not in card
    assert "see the terms of faces." in card


def test_the_gate_closes_with_exit_code_1_and_names_the_file(work, tmp_path, capsys):
    out = ("--out", tmp_path / "out", "--formats", "litert-float32", "litert-int8")
    assert run(work, *out, "--max-bytes", 1_000_000, "--min-agreement", 0) == 0
    capsys.readouterr()
    assert run(work, *out, "--max-bytes", 50_000) == 1
    message = failure(capsys)
    assert message.startswith("failed: microexpnet-float32.tflite has ")
    assert "int8" not in message
    assert (tmp_path / "out" / "exports.json").is_file()


def test_the_published_microexpnet_can_be_exported(shared, tmp_path, capsys):
    from distill.import_checkpoint import network_from_checkpoint

    network_from_checkpoint(shared / "microexpnet" / "checkpoints" / "CK").save(tmp_path / "ck.keras")
    flags = ("--model", tmp_path / "ck.keras", "--data", "synthetic-8", "--formats", "litert-float32", "onnx")
    assert run(None, *flags, "--images", 100, "--min-agreement", 1) == 0
    reference = np.load(shared / "microexpnet" / "reference_predictions.npz")
    given = open_exported(tmp_path / "ck-export").probabilities(reference["images"][..., None])
    np.testing.assert_allclose(given, reference["ck_probs"], atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--formats", "tflite"), 'unknown format "tflite": choose one of litert-float32, litert-float16'),
        (("--images", 0), "images must be at least 1, received 0"),
        (("--calibration", -1), "calibration must be at least 1, received -1"),
        (("--min-agreement", 99), "min-agreement must be a share in 0..1, such as .99, received 99.0"),
        (("--split", "test"), "has no test split: it has train, validation"),
        (("--model", "nowhere.keras"), "nowhere.keras does not exist"),
        (("--data", "synthetic-8"), "was trained on the classes"),
    ],
)
def test_wrong_input_ends_in_one_line(work, tmp_path, capsys, flags, message):
    assert run(work, *flags, "--out", tmp_path / "out") == 2
    assert message in failure(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(work, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("precious")
    assert run(work, "--out", tmp_path) == 2
    assert "is not empty and holds no exports.json" in failure(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert run(work, "--out", tmp_path / "thesis.txt") == 2
    assert "is a file" in failure(capsys)


def test_a_missing_package_is_named_or_left_out(work, tmp_path, capsys, monkeypatch):
    import distill.exporting.export_student as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "tf2onnx" else object())
    assert run(work, "--out", tmp_path / "out", "--formats", "onnx") == 2
    assert failure(capsys) == 'error: onnx needs tf2onnx: pip install "distill-faces[onnx]"'
    assert run(work, "--out", tmp_path / "out") == 0
    assert 'onnx is left out, it needs tf2onnx: pip install "distill-faces[onnx]"' in capsys.readouterr().out
    assert not (tmp_path / "out" / "microexpnet.onnx").exists()


def test_a_softmax_is_not_applied_twice(work, tmp_path):
    network = MicroExpNet(classes=7, input_shape=(32, 32), classifier_activation="softmax")
    network.save(tmp_path / "soft.keras")
    flags = ("--formats", "litert-float32", "--out", tmp_path / "out")
    assert run(work, "--model", tmp_path / "soft.keras", *flags) == 0
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(open_exported(tmp_path / "out").probabilities(pixels), network(pixels), atol=1e-5)


@pytest.mark.parametrize("names", [("a.b c", "dense"), ("plain", "ünï"), ("x|y", "-first")])
def test_a_network_whose_names_tensorflow_cannot_take_is_exported_by_the_library(work, tmp_path, names):
    from distill.data.open_dataset import open_dataset
    from distill.exporting.export_student import export_student

    inputs = keras.Input((32, 32, 1))
    dense = keras.layers.Dense(7, name=names[1])
    network = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)), name=names[0])
    formats = ["litert-float32", "saved-model"]
    export_student(network, open_dataset(work / "faces"), tmp_path / "out", formats=formats, seconds=0)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
    expected = keras.ops.softmax(dense(keras.ops.reshape(pixels, (3, -1)))).numpy()
    np.testing.assert_allclose(open_exported(tmp_path / "out").probabilities(pixels), expected, atol=1e-5)
    assert (network.name, dense.name) == names, "the user's own network is left as it is"


def test_a_format_that_tensorflow_cannot_write_is_left_out(work, tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise ValueError("Found invalid capture")

    monkeypatch.setattr("distill.exporting.saved_model.save_graph", fails)
    assert run(work, "--out", tmp_path / "out", "--formats", "saved-model") == 2
    assert "cannot be saved as a SavedModel: Found invalid capture" in failure(capsys)
    assert run(work, "--out", tmp_path / "out") == 0
    assert "saved-model is left out: microexpnet cannot be saved" in capsys.readouterr().out


def test_a_folder_with_a_saved_model_alone_says_what_opens_it(work, tmp_path):
    assert run(work, "--out", tmp_path / "out", "--formats", "saved-model") == 0
    with pytest.raises(InputError, match="a SavedModel, which runs in TensorFlow alone: export litert-float32, too"):
        open_exported(tmp_path / "out")


def test_an_interrupted_export_leaves_the_earlier_one_whole(work, tmp_path, monkeypatch):
    out, flags = tmp_path / "out", ("--formats", "litert-float32")
    assert run(work, "--out", out, *flags) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("distill.exporting.export_student.model_card", interrupted)
    assert run(work, "--out", out, *flags) == 130
    assert run(work, "--out", tmp_path / "new", *flags) == 130
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_export_left_is_removed(work, tmp_path):
    (tmp_path / ".out-12345678" / "folder").mkdir(parents=True)
    assert run(work, "--out", tmp_path / "out", "--formats", "litert-float32") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_lies_next_to_an_earlier_export_is_not_deleted(work, tmp_path, capsys):
    out, flags = tmp_path / "out", ("--formats", "litert-float32")
    assert run(work, "--out", out, *flags) == 0
    (out / "notes.txt").write_text("precious")
    capsys.readouterr()
    assert run(work, "--out", out, *flags) == 2
    assert "holds notes.txt next to an earlier export" in failure(capsys)
    assert (out / "notes.txt").read_text() == "precious"


def test_a_link_and_the_current_folder_are_the_folders_that_they_name(work, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run(work, "--out", tmp_path / "link", "--formats", "litert-float32") == 0
    assert (tmp_path / "real" / "exports.json").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(work, "--out", ".", "--formats", "litert-float32") == 0
    assert (tmp_path / "here" / "exports.json").is_file()
