"""`python -m distill.evaluate` from end to end: one model or several, exported ones, and wrong input."""

import json

import keras
import numpy as np
import pytest

from distill.command_line.stage import run_stage
from distill.data.open_dataset import open_dataset
from distill.data.splits import with_splits
from distill.evaluate import EvaluateSettings, _output, evaluate
from distill.exporting.export_student import export_student
from distill.losses.distillation_loss import DistillationLoss
from distill.runs.networks import load_network
from distill.scoring.caching import cache_logits
from distill.training.recipe import Recipe
from distill.training.train import train
from students import MicroExpNet

COPIES = 5


def write_faces(path) -> None:
    """Noise as bright as its class, in which the first faces to validate on are copies of those to learn from."""
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 7
    pixels = rng.integers(0, 90, (70, 16 * 16)) + 25 * labels[:, None]
    pixels[42 : 42 + COPIES], labels[42 : 42 + COPIES] = pixels[:COPIES], labels[:COPIES]
    usages = ["Training"] * 42 + ["PublicTest"] * 28
    lines = [
        f"{label},{' '.join(map(str, row))},{usage}\n"
        for label, row, usage in zip(labels, pixels, usages, strict=True)
    ]
    path.write_text("emotion,pixels,Usage\n" + "".join(lines))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, two runs, the logits of a teacher, and the export of one run."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_faces(folder / "fer2013.csv")
    dataset = open_dataset(folder / "fer2013.csv")
    loss = DistillationLoss(lambda_=0.0)
    for seed, name in enumerate(("one", "two")):
        keras.utils.set_random_seed(seed)
        student = MicroExpNet(classes=7, input_shape=(32, 32), pixel_scale=1 / 16)
        train(student, dataset, out=folder / name, recipe=Recipe(epochs=8, lr=3e-3, seed=seed), objective=loss)
        cache_logits(load_network(folder / name), dataset, folder / f"{name}.h5", views=1, progress=False)
    best, formats = load_network(folder / "one"), ("litert-float32", "onnx")
    export_student(best, dataset, folder / "one" / "export", formats=formats, seconds=0)
    return folder


def run(work, *args) -> int:
    given = [str(arg) for arg in args]
    if "--data" not in given:
        given += ["--data", str(work / "fer2013.csv")]
    if "--seconds" not in given:
        given += ["--seconds", "0"]
    with pytest.raises(SystemExit) as ended:
        run_stage(evaluate, EvaluateSettings, given)
    return ended.value.code


def failure(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def report_in(folder) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def test_two_models_side_by_side(work, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ("--model", work / "one", work / "two", "--logits", work / "two.h5", "--seconds", 0.05)
    assert run(work, *flags, "--out", out) == 0
    printed = capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"evaluation.json", "report.html", "confusion-one.png", "confusion-two.png"}
    report = report_in(out)
    assert report["data"]["split"] == "validation"
    assert report["machine"]["cores"] >= 1
    assert "tensorflow" in report["versions"]
    one, two = report["models"]
    part = open_dataset(work / "fer2013.csv").split("validation")
    for found, folder in ((one, "one"), (two, "two")):
        network = keras.saving.load_model(work / folder / "best.keras")
        pixels = keras.ops.image.resize(part.read(np.arange(len(part))).astype(np.float32), (32, 32))
        said = network.predict(pixels, verbose=0).argmax(1)
        assert found["name"] == folder
        assert found["accuracy"] == pytest.approx(np.mean(said == part.labels))
        assert found["latency"]["frames_per_second"] > 0
        assert found["parameters"] == network.count_params()
        assert f"{folder}  " in printed
    assert two["teachers"][0]["agreement"] == 1
    assert two["teachers"][0]["divergence"] == pytest.approx(0, abs=1e-4)
    assert two["teachers"][0]["accuracy"] == two["accuracy"]
    assert one["teachers"][0]["divergence"] > 0.001


def test_copies_of_training_images_are_counted_apart(work, tmp_path):
    assert run(work, "--model", work / "one", "--out", tmp_path) == 0
    (found,) = report_in(tmp_path)["models"]
    copies, others = found["copies"]["copies"], found["copies"]["others"]
    assert (copies["count"], others["count"]) == (COPIES, 28 - COPIES)
    right = copies["accuracy"] * copies["count"] + others["accuracy"] * others["count"]
    assert right == pytest.approx(found["accuracy"] * 28)
    assert run(work, "--model", work / "one", "--out", tmp_path, "--split", "train") == 0
    assert report_in(tmp_path)["models"][0]["copies"] is None


@pytest.mark.parametrize("ending", ["-float32.tflite", ".onnx"])
def test_an_exported_file_next_to_its_network(work, tmp_path, ending):
    exported = work / "one" / "export" / f"microexpnet{ending}"
    assert run(work, "--model", work / "one", exported, "--out", tmp_path, "--seconds", 0.01) == 0
    network, file = report_in(tmp_path)["models"]
    assert file["name"] == exported.name
    assert file["kind"] == {".onnx": "ONNX float32"}.get(exported.suffix, "LiteRT float32")
    assert file["confusion"] == network["confusion"]
    assert file["calibration"]["error"] == pytest.approx(network["calibration"]["error"], abs=1e-4)
    for name in ("negative_log_likelihood", "calibrating_temperature"):
        assert file["calibration"][name] == pytest.approx(network["calibration"][name], rel=1e-3)
    assert [each["id"] for each in file["mistakes"]] == [each["id"] for each in network["mistakes"]]
    assert file["bytes"] == exported.stat().st_size
    assert (file["parameters"], file["multiply_adds"]) == (None, None)
    assert file["latency"]["p50_ms"] > 0


def test_the_folder_of_an_export_is_its_recommended_file(work, tmp_path, capsys):
    folder = work / "one" / "export"
    recommended = json.loads((folder / "exports.json").read_text())["recommended"]
    assert run(work, "--model", folder, "--out", tmp_path) == 0
    assert report_in(tmp_path)["models"][0]["name"] == recommended
    assert (tmp_path / "confusion.png").is_file()
    capsys.readouterr()
    assert run(work, "--model", folder, folder / recommended, "--out", tmp_path) == 2
    assert "are the same model: name it once" in failure(capsys)


AVERAGES = {
    "flip": ("its mirror image", [0, 5], "--flip-average"),
    "shift": ("it moved by 2 pixels towards each corner", range(5), "--shift-average", 2),
    "both": (
        "it moved by 2 pixels towards each corner and the mirror images of all of these",
        range(10),
        *("--flip-average", "--shift-average", 2),
    ),
}


@pytest.mark.parametrize(("said", "chosen", "flags"), [(a, b, c) for a, b, *c in AVERAGES.values()], ids=AVERAGES)
def test_logits_may_be_averaged_over_copies_of_each_image(work, tmp_path, capsys, said, chosen, flags):
    file = work / "one" / "export" / "microexpnet.onnx"
    assert run(work, "--model", work / "one", file, "--out", tmp_path / "plain") == 0
    assert run(work, "--model", work / "one", file, "--out", tmp_path, "--seconds", 0.01, *flags) == 0
    printed, report = capsys.readouterr().out, report_in(tmp_path)
    part = open_dataset(work / "fer2013.csv").split("validation")
    images = keras.ops.convert_to_numpy(
        keras.ops.image.resize(part.read(np.arange(len(part))).astype(np.float32), (32, 32))
    )
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    crops = [images] + [padded[:, y : y + 32, x : x + 32] for y in (0, 4) for x in (0, 4)]
    crops += [each[:, :, ::-1] for each in crops]
    network = keras.saving.load_model(work / "one" / "best.keras")
    logits = np.mean([network.predict(crops[each], verbose=0) for each in chosen], axis=0)
    expected = -np.mean(keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))[np.arange(len(part)), part.labels])
    for found in report["models"]:
        assert found["calibration"]["negative_log_likelihood"] == pytest.approx(expected, rel=1e-4)
        assert found["latency"]["frames_per_second"] > 0
    before = report_in(tmp_path / "plain")["models"][0]
    assert before["calibration"]["negative_log_likelihood"] != pytest.approx(expected, rel=1e-3)  # the copies matter
    assert (before["averages"], report["models"][0]["multiply_adds"]) == ({}, len(chosen) * before["multiply_adds"])
    assert printed.count(f"evaluated on the untouched image, averaged with {said}\n") == 2
    assert f"evaluated on\nthe untouched image, averaged with {said}.\n" in (tmp_path / "report.html").read_text()


def test_a_move_by_more_than_half_of_the_image_is_refused(work, tmp_path, capsys):
    assert run(work, "--model", work / "one", "--out", tmp_path / "out", "--shift-average", 17) == 2
    assert "0..16" in failure(capsys)
    assert not (tmp_path / "out").exists()


def test_where_the_files_go_by_default(work, tmp_path, monkeypatch):
    assert run(work, "--model", work / "one") == 0
    assert (work / "one" / "evaluation-validation" / "report.html").is_file()
    monkeypatch.chdir(tmp_path)
    assert run(work, "--model", work / "one", work / "two") == 0
    assert (tmp_path / "evaluation-validation" / "confusion-two.png").is_file()
    assert run(work, "--model", work / "one" / "export" / "microexpnet.onnx") == 0
    assert (work / "one" / "export" / "microexpnet-evaluation-validation" / "report.html").is_file()


def test_the_current_folder_and_the_one_above_have_names(work, tmp_path, monkeypatch):
    monkeypatch.chdir(work / "one" / "export")
    assert run(work, "--model", ".") == 0
    assert (work / "one" / "export-evaluation-validation" / "report.html").is_file()
    (tmp_path / "export" / "within").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "export" / "within")
    settings = EvaluateSettings(model=("..",), data="synthetic-7")
    assert _output(settings) == tmp_path / "export-evaluation-validation"


def test_two_runs_of_one_name(work, tmp_path):
    (tmp_path / "other").mkdir()
    for name in ("settings.json", "best.keras"):
        (tmp_path / "other" / "one").mkdir(exist_ok=True)
        (tmp_path / "other" / "one" / name).write_bytes((work / "one" / name).read_bytes())
    assert run(work, "--model", work / "one", tmp_path / "other" / "one", "--out", tmp_path / "out") == 0
    first, second = report_in(tmp_path / "out")["models"]
    assert (first["name"], second["name"]) == ("one", "one-2")
    assert first["accuracy"] == second["accuracy"]
    assert (tmp_path / "out" / "confusion-one-2.png").is_file()


def test_without_mistakes_no_face_is_shown(work, tmp_path):
    assert run(work, "--model", work / "one", "--out", tmp_path, "--mistakes", 0) == 0
    assert report_in(tmp_path)["models"][0]["mistakes"] == []
    assert "<img" not in (tmp_path / "report.html").read_text()


def test_runs_of_different_splits_are_refused(work, tmp_path, capsys):
    other = tmp_path / "other"
    dataset = with_splits(open_dataset(work / "fer2013.csv"), policy="random", seed=3)
    student = MicroExpNet(classes=7, input_shape=(32, 32), pixel_scale=1 / 16)
    train(student, dataset, out=other, recipe=Recipe(epochs=1), progress=False)
    both = ("--model", work / "one", other, "--out", tmp_path / "out")
    assert run(work, *both) == 2
    assert f"{work / 'one'} and {other} were trained with different splits" in failure(capsys)
    for splits in ("official", "random"):  # one of the two learned from these images
        assert run(work, *both, "--splits", splits, "--split-seed", 3) == 2
        learned_from = other if splits == "official" else work / "one"
        assert f"images of the validation split are among those that {learned_from} learned from" in failure(capsys)
    assert not (tmp_path / "out").exists()
    exported = work / "one" / "export" / "microexpnet.onnx"  # has no record, so it follows
    assert run(work, "--model", exported, other, "--out", tmp_path / "out") == 0
    assert report_in(tmp_path / "out")["models"][0]["count"] == 14


def test_the_published_microexpnet_is_evaluated(shared, tmp_path):
    from distill.import_checkpoint import network_from_checkpoint

    network_from_checkpoint(shared / "microexpnet" / "checkpoints" / "CK").save(tmp_path / "ck.keras")
    flags = ("--model", tmp_path / "ck.keras", "--data", "synthetic-8", "--seconds", 0.05)
    assert run(None, *flags) == 0
    (found,) = report_in(tmp_path / "ck-evaluation-validation")["models"]
    assert (found["parameters"], found["bytes"], len(found["classes"])) == (65_000, 260_000, 8)
    assert found["latency"] is not None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mistakes", -1), "mistakes must be at least 0, received -1"),
        (("--seconds", -1), "seconds must lie in 0..600, received -1.0"),
        (("--seconds", "nan"), "seconds must lie in 0..600, received nan"),
        (("--model",), "--model names no model: give at least one"),
        (("--model", "nowhere.keras"), "nowhere.keras does not exist"),
        (("--model", "nowhere.tflite"), "nowhere.tflite does not exist"),
        (("--logits", "nowhere.h5"), "nowhere.h5"),
        (("--split", "test"), "has no test split: it has train, validation"),
        (("--data", "synthetic-8"), "was trained on the classes angry"),
    ],
)
def test_wrong_input_ends_in_one_line(work, tmp_path, capsys, flags, message):
    model = () if "--model" in flags else ("--model", work / "one")
    assert run(work, *model, *flags, "--out", tmp_path / "out") == 2
    assert message in failure(capsys)
    assert not (tmp_path / "out").exists()


def test_an_exported_file_of_other_classes_is_refused(work, tmp_path, capsys):
    exported = work / "one" / "export" / "microexpnet-float32.tflite"
    assert run(work, "--model", exported, "--data", "synthetic-8", "--out", tmp_path / "out") == 2
    assert "tells apart angry, disgust" in failure(capsys)
    assert not (tmp_path / "out").exists()


def test_logits_of_other_images_are_refused(work, tmp_path, capsys):
    faces = (work / "fer2013.csv").read_text().replace(" 1 ", " 2 ")
    (tmp_path / "fer2013.csv").write_text(faces)
    flags = ("--model", work / "one", "--data", tmp_path / "fer2013.csv", "--logits", work / "one.h5")
    assert run(work, *flags, "--out", tmp_path / "out") == 2
    assert "are not those that" in failure(capsys)
