"""Trained networks in the package: runs of half the bytes, which commands take by their names."""

import json
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from distill.command_line import teacher_settings
from distill.command_line.stage import run_stage
from distill.data.open_dataset import open_dataset
from distill.errors import InputError
from distill.evaluate import EvaluateSettings, evaluate
from distill.list_networks import ListNetworksSettings, list_networks
from distill.logit_store import open_logits
from distill.runs import trained_networks
from distill.runs.networks import load_network, recorded_run
from distill.runs.run_directory import read_summary
from distill.runs.trained_networks import write_trained
from distill.runs.training_images import TrainingImages
from distill.teacher_logits import TeacherLogitsSettings, teacher_logits
from distill.training.recipe import Recipe
from distill.training.train import train_from_labels
from teachers import PlainResNetTiny
from tests.test_evaluate import write_faces

NAME = "small_faces"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained network, with a moving average and an optimizer of its own."""
    folder = tmp_path_factory.mktemp("trained")
    write_faces(folder / "fer2013.csv")
    keras.utils.set_random_seed(0)
    teacher = PlainResNetTiny(classes=7, input_shape=(16, 16))
    dataset = open_dataset(folder / "fer2013.csv")
    train_from_labels(teacher, dataset, out=folder / "run", recipe=Recipe(epochs=2, optimizer="adam", ema=0.5))
    return folder / "run"


@pytest.fixture
def shipped(run, tmp_path, monkeypatch):
    """The same in a folder of trained networks."""
    write_trained(run, tmp_path / "package" / NAME)
    monkeypatch.setattr(trained_networks, "trained_networks", lambda: {NAME: tmp_path / "package" / NAME})
    monkeypatch.setattr(teacher_settings, "trained_networks", trained_networks.trained_networks)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "package" / NAME


def test_has_the_weights_in_half_the_bytes_and_no_optimizer(run, shipped):
    whole, half = load_network(run), load_network(shipped)
    assert getattr(half, "optimizer", None) is None
    for one, other in zip(whole.get_weights(), half.get_weights(), strict=True):
        assert other.dtype == one.dtype
        np.testing.assert_array_equal(other, one.astype(np.float16))
    assert (shipped / "best.keras").stat().st_size < 0.7 * (run / "best.keras").stat().st_size


def test_a_runs_best_network_is_saved_without_its_optimizer(run):
    assert getattr(load_network(run), "optimizer", None) is None


def test_leaves_out_the_optimizer_that_runs_of_earlier_versions_kept(run, shipped, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(run, earlier)
    network = load_network(run)
    network.compile(optimizer=keras.optimizers.AdamW())
    network.optimizer.build(network.trainable_variables)
    network.save(earlier / "best.keras")
    write_trained(earlier, tmp_path / "out")
    size, expected = ((each / "best.keras").stat().st_size for each in (tmp_path / "out", shipped))
    assert size == pytest.approx(expected, rel=0.05)
    opened = keras.saving.load_model(tmp_path / "out" / "best.keras")
    assert getattr(opened, "optimizer", None) is None
    for one, other in zip(opened.get_weights(), load_network(shipped).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_keeps_what_it_learned_from(run, shipped):
    record = recorded_run(run)
    assert recorded_run(shipped) == replace(record, data=replace(record.data, name="fer2013.csv"))
    np.testing.assert_array_equal(TrainingImages.read(shipped).keys, TrainingImages.read(run).keys)


def test_says_nothing_of_where_files_lay_on_the_machine_that_trained_it(run, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(run, earlier)
    record = json.loads((earlier / "settings.json").read_text())
    places = {"data": "/home/somebody/faces/fer2013.csv", "weights": ["/mnt/first run", "other/run"], "seed": 0}
    record |= {"command": {"name": "train_teacher", "settings": places}, "data": record["data"] | {"name": "data"}}
    (earlier / "settings.json").write_text(json.dumps(record))
    write_trained(earlier, tmp_path / "out")
    settings = {"data": "fer2013.csv", "weights": ["first run", "other/run"], "seed": 0}
    kept = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert kept == record | {"command": {"name": "train_teacher", "settings": settings}}


def test_is_the_same_file_on_any_day(run, shipped, tmp_path):
    write_trained(run, tmp_path / "again")
    assert (tmp_path / "again" / "best.keras").read_bytes() == (shipped / "best.keras").read_bytes()


def exit_code(stage, settings_class, *arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        run_stage(stage, settings_class, [str(each) for each in arguments])
    return ended.value.code


def test_labels_images_as_its_run_does(run, shipped, tmp_path):
    data = run.parent / "fer2013.csv"
    for name, teacher in (
        ("name", ["--teacher", NAME]),
        ("run", ["--teacher", "plain_resnet_tiny", "--weights", run]),
    ):
        assert not exit_code(
            teacher_logits, TeacherLogitsSettings, "--data", data, *teacher, "--out", tmp_path / f"{name}.h5"
        )
    by_name, by_run = (open_logits(tmp_path / f"{name}.h5") for name in ("name", "run"))
    assert by_name.header.teacher_training == by_run.header.teacher_training
    np.testing.assert_allclose(by_name.read(np.arange(70)), by_run.read(np.arange(70)), atol=0.02)


def test_is_evaluated_by_its_name_into_the_folder_where_one_is(run, shipped, tmp_path):
    assert not exit_code(
        evaluate, EvaluateSettings, "--model", NAME, "--data", run.parent / "fer2013.csv", "--seconds", 0
    )
    assert (tmp_path / f"{NAME}-evaluation-validation" / "evaluation.json").is_file()
    assert sorted(each.name for each in shipped.iterdir()) == [
        "best.keras",
        "settings.json",
        "summary.json",
        "training_images.npy",
    ]


@pytest.mark.parametrize("flags", [["--weights", "run"], ["--image-size", "48"], ["--input.size", "48"]])
def test_a_name_that_says_all_takes_no_further_flag(run, shipped, flags, capsys):
    data = run.parent / "fer2013.csv"
    assert (
        exit_code(teacher_logits, TeacherLogitsSettings, "--data", data, "--teacher", NAME, "--out", "x.h5", *flags)
        == 2
    )
    assert f"is not for --teacher {NAME}" in capsys.readouterr().err


def test_is_listed_with_the_networks(run, shipped, capsys):
    assert not exit_code(list_networks, ListNetworksSettings, "--no-measure")
    listed = capsys.readouterr().out
    accuracy = read_summary(shipped)["validation_accuracy"]
    assert re.search(rf"^{NAME} +plain_resnet_tiny +16x16x1 +{accuracy:.1%}$", listed, re.MULTILINE)
    assert "as --teacher NAME" in listed
    assert "fer2013_slim_mobilenet    slim_mobilenet-int8.tflite" in listed


def test_an_unfinished_run_is_not_handed_on(run, tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "settings.json").write_bytes((run / "settings.json").read_bytes())
    with pytest.raises(InputError, match="not a finished run, it has no summary.json"):
        write_trained(tmp_path / "begun", tmp_path / "out")


def test_those_that_come_with_the_package_can_be_loaded():
    for name, folder in trained_networks.trained_networks().items():
        network, record = load_network(folder), recorded_run(folder)
        assert network.name == record.network.name, name
        assert network.output_shape[-1] == len(record.data.class_names)
        assert (folder / "README.md").is_file()
