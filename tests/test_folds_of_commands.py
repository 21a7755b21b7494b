"""Cross-validation through the commands: a teacher, its logits and students, fold by fold, and what is refused."""

import importlib
import json
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest

from distill.data.folds import deal_folds
from distill.data.open_dataset import open_dataset
from distill.experiments.cross_validation import cross_validate
from distill.runs.run_directory import read_metrics
from distill.training.recipe import Recipe
from distill.training.train import train_from_labels
from teachers import PlainResNetTiny
from tests.test_commands import write_faces

EXPRESSIONS = ("angry", "happy", "sad")
SUBJECTS = 9


def run(command, *args) -> int:
    module = importlib.import_module(f"distill.{command}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [command, *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            module.main()
    return ended.value.code


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Class folders with CK+ file names: nine subjects, each once in each of three expressions."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    for number, name in enumerate(EXPRESSIONS):
        (folder / name).mkdir()
        for subject in range(SUBJECTS):
            pixels = rng.integers(0, 100, (16, 16)) + 70 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"S{subject:03}_00{number}_00000009.png")
    return folder


@pytest.fixture(scope="module")
def work(faces, tmp_path_factory):
    """A folder with a teacher of three folds, and its logits of MicroExpNet's crops."""
    folder = tmp_path_factory.mktemp("work")
    teacher = ("--data", faces, "--teacher", "plain_resnet_tiny")
    training = ("--recipe", "fer_cnn", "--epochs", 2, "--batch-size", 4)
    assert run("train_teacher", *teacher, *training, "--folds", 3, "--out", folder / "teacher") == 0
    crops = ("--view.crops", "microexpnet", "--out", folder / "logits")
    assert run("teacher_logits", *teacher, "--weights", folder / "teacher", *crops) == 0
    return folder


def student(faces, out, *more) -> int:
    return run("train_student", "--data", faces, "--epochs", 2, "--folds", 3, "--out", out, *more)


def failure(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_every_fold_is_reported_and_every_image_is_tested_once(work):
    report = json.loads((work / "teacher" / "folds.json").read_text())
    assert [row["fold"] for row in report["folds"]] == [0, 1, 2]
    assert [(row["images"], row["subjects"]) for row in report["folds"]] == [(9, 3)] * 3
    accuracies = [row["accuracy"] for row in report["folds"]]
    assert report["mean"] == pytest.approx(np.mean(accuracies))
    assert report["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    confusion = np.array(report["pooled"]["confusion"]["counts"])
    assert confusion.sum(axis=1).tolist() == [SUBJECTS] * 3
    assert np.trace(confusion) / confusion.sum() == pytest.approx(np.mean(accuracies))  # folds of one size
    rows = (work / "teacher" / "folds.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0] == "fold,images,subjects,best_epoch,validation_accuracy,accuracy,balanced_accuracy,macro_f1"
    for picture in ("confusion.png", "curves.png"):
        assert (work / "teacher" / picture).stat().st_size > 5_000


def test_no_fold_learns_from_a_subject_that_it_is_tested_on(work, faces):
    dataset = open_dataset(faces)
    for fold in range(3):
        record = json.loads((work / "teacher" / f"fold-{fold}" / "settings.json").read_text())
        assert record["data"]["train"]["images"] == record["data"]["validation"]["images"] == 9
        tested = dataset.subset(dataset.folds % 3 == fold)  # ten folds of nine subjects: one subject each
        assert len(set(tested.subjects)) == 3
        assert record["data"]["train"]["fingerprint"] != tested.fingerprint
        taught = dataset.subset((dataset.folds - fold) % 3 == 2)  # neither the fold itself nor the next one
        assert record["data"]["train"]["fingerprint"] == taught.fingerprint
        assert not set(taught.subjects) & set(tested.subjects)


def test_students_learn_each_fold_from_its_own_teacher(work, faces, tmp_path, capsys):
    assert student(faces, tmp_path / "run", "--logits", work / "logits") == 0
    assert "± " in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "folds.json").read_text())
    assert all("crop_accuracy" in row for row in report["folds"])
    for fold in range(3):
        with h5py.File(work / "logits" / f"fold-{fold}.h5") as file:
            header = json.loads(file.attrs["header"])
        record = json.loads((tmp_path / "run" / f"fold-{fold}" / "settings.json").read_text())
        assert record["teacher"]["sha256"] == header["teacher_sha256"]
        assert record["views"] == {"number": 8, "spec": {"algorithm": "crops-1", "crops": "microexpnet"}}
        teacher = json.loads((work / "teacher" / f"fold-{fold}" / "settings.json").read_text())
        assert header["teacher_training"]["train"] == teacher["data"]["train"]["fingerprint"]
        assert record["data"]["train"]["fingerprint"] == teacher["data"]["train"]["fingerprint"]
    assert student(faces, tmp_path / "run", "--logits", work / "logits") == 0
    assert capsys.readouterr().out.count("already complete") == 3


def test_a_teacher_that_saw_the_test_faces_is_refused(work, faces, tmp_path, capsys):
    shutil.copytree(work / "logits", tmp_path / "logits")
    shutil.copy(work / "logits" / "fold-1.h5", tmp_path / "logits" / "fold-0.h5")
    assert student(faces, tmp_path / "run", "--logits", tmp_path / "logits") == 2
    assert "fold-0.h5 did not learn from this fold: train fingerprint stored" in failure(capsys)


def test_one_teacher_for_all_folds_is_taken_with_a_note_unless_it_is_that_of_a_fold(work, faces, tmp_path, capsys):
    assert student(faces, tmp_path / "run", "--logits", work / "logits" / "fold-1.h5") == 2
    assert "fold-1.h5 learned from fold 1, so it saw the test images of others" in failure(capsys)
    foreign = tmp_path / "foreign.keras"  # without a run's record next to it
    shutil.copy(work / "teacher" / "fold-0" / "best.keras", foreign)
    teacher = ("--data", faces, "--teacher", "plain_resnet_tiny", "--weights", foreign)
    assert run("teacher_logits", *teacher, "--views", 2, "--out", tmp_path / "foreign.h5") == 0
    assert student(faces, tmp_path / "run", "--logits", tmp_path / "foreign.h5", "--epochs", 1) == 0
    assert "note: one teacher for all folds" in capsys.readouterr().out


def test_a_network_of_a_fold_is_evaluated_on_the_faces_it_never_saw(work, faces, tmp_path):
    report = json.loads((work / "teacher" / "folds.json").read_text())
    for row in report["folds"]:
        model = ("--model", work / "teacher" / f"fold-{row['fold']}", "--data", faces, "--split", "test")
        assert run("evaluate", *model, "--out", tmp_path / str(row["fold"])) == 0
        (evaluation,) = json.loads((tmp_path / str(row["fold"]) / "evaluation.json").read_text())["models"]
        assert (evaluation["count"], evaluation["accuracy"]) == (row["images"], pytest.approx(row["accuracy"]))


def test_networks_of_two_folds_are_not_evaluated_side_by_side(work, faces, tmp_path, capsys):
    folds = [work / "teacher" / f"fold-{number}" for number in (0, 1)]
    assert run("evaluate", "--model", *folds, "--data", faces, "--out", tmp_path / "evaluation") == 2
    message = failure(capsys)
    assert f"{folds[0]} and {folds[1]} were trained with different splits" in message
    assert "evaluate them one at a time" in message
    assert not (tmp_path / "evaluation").exists()


def test_a_network_of_a_fold_is_evaluated_on_other_data_but_not_on_images_it_learned_from(
    work, faces, tmp_path, capsys
):
    shutil.copytree(faces, tmp_path / "faces")
    next((tmp_path / "faces" / "sad").iterdir()).unlink()  # so that folds would be dealt in another way
    model = ("--model", work / "teacher" / "fold-0", "--data", tmp_path / "faces", "--splits", "random")
    assert run("evaluate", *model, "--out", tmp_path / "evaluation") == 2
    assert "images of the validation split are among those that" in failure(capsys)
    for image in (tmp_path / "faces").glob("*/*.png"):
        image.rename(image.with_name(f"other_{image.name}"))
    assert run("evaluate", *model, "--out", tmp_path / "evaluation") == 0


def test_more_views_than_crops_are_refused_before_anything_is_written(faces, tmp_path, capsys):
    views = ("--view.crops", "microexpnet", "--views", 9, "--folds", 0)
    assert student(faces, tmp_path / "run", *views) == 2
    assert 'the crops "microexpnet" are 8 views, received --views 9' in failure(capsys)
    assert not (tmp_path / "run").exists()


def test_no_views_are_refused(work, faces, tmp_path, capsys):
    teacher = ("--data", faces, "--teacher", "plain_resnet_tiny", "--weights", work / "teacher" / "fold-0")
    assert run("teacher_logits", *teacher, "--views", 0, "--out", tmp_path / "logits.h5") == 2
    assert "views must be 1 (the untouched image) or more, received 0" in failure(capsys)


def test_splits_together_with_folds_are_refused(faces, tmp_path, capsys):
    assert student(faces, tmp_path / "run", "--splits", "random") == 2
    assert "--folds makes the splits itself" in failure(capsys)


@pytest.mark.parametrize(
    ("folds", "message"),
    [(2, "folds must be 3 or more"), (10, "fold 9 of 10 is empty"), (-1, "folds must be 3 or more")],
)
def test_impossible_folds(faces, tmp_path, capsys, folds, message):
    assert student(faces, tmp_path / "run", "--folds", folds) == 2
    assert message in failure(capsys)
    assert not (tmp_path / "run").exists()


def test_folds_that_stop_after_other_epochs_have_their_report(faces, tmp_path):
    class Stop(keras.callbacks.Callback):
        def __init__(self, after):
            super().__init__()
            self._after = after

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch + 1 == self._after

    def train_fold(parts, out, fold):
        network = PlainResNetTiny(classes=3, input_shape=(16, 16))
        stop = Stop(after=1 + fold["number"])
        recipe = Recipe(epochs=5, batch_size=8)
        return train_from_labels(network, parts, out=out, recipe=recipe, callbacks=[stop], progress=False)

    report = cross_validate(train_fold, deal_folds(open_dataset(faces), 3), out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "folds.json").read_text()) == report
    assert [len(read_metrics(tmp_path / "out" / f"fold-{fold}")) for fold in range(3)] == [1, 2, 3]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 5_000


def test_folds_are_not_written_into_a_run_without_folds(faces, tmp_path, capsys):
    assert run("train_student", "--data", faces, "--epochs", 1, "--out", tmp_path / "run") == 0
    assert student(faces, tmp_path / "run") == 2
    assert "which is not of a run with folds: name a new folder" in failure(capsys)


def test_unfinished_folds_are_not_cached(work, faces, tmp_path, capsys):
    shutil.copytree(work / "teacher", tmp_path / "teacher")
    (tmp_path / "teacher" / "folds.json").unlink()
    teacher = ("--data", faces, "--teacher", "plain_resnet_tiny", "--weights", tmp_path / "teacher")
    assert run("teacher_logits", *teacher, "--out", tmp_path / "logits") == 2
    assert "has folds that are not finished" in failure(capsys)


class TestRecipes:
    def test_flags_together_with_a_recipe_win_and_both_are_recorded(self, work):
        settings = json.loads((work / "teacher" / "fold-0" / "settings.json").read_text())["command"]["settings"]
        assert (settings["recipe"], settings["epochs"], settings["lr"]) == ("fer_cnn", 2, 5e-4)
        assert settings["plateau"]["patience"] == 2

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (("--recipe", "fer"), 'unknown recipe "fer": did you mean fer_cnn?'),
            (("--recipe",), 'unknown recipe ""'),
            (("--recipe", "fer_cnn", "--schedule", "cosine"), "a cosine schedule ends at 0"),
        ],
    )
    def test_mistakes(self, faces, tmp_path, capsys, flags, message):
        assert run("train_teacher", "--data", faces, "--out", tmp_path / "run", *flags) == 2
        assert message in failure(capsys)

    def test_a_run_can_be_repeated_from_its_settings(self, work, faces, tmp_path):
        config = ("--config", work / "teacher" / "fold-0" / "settings.json", "--folds", 0)
        assert run("train_teacher", *config, "--epochs", 1, "--out", tmp_path / "run") == 0
        settings = json.loads((tmp_path / "run" / "settings.json").read_text())["command"]["settings"]
        assert (settings["recipe"], settings["lr"], settings["batch_size"]) == ("fer_cnn", 5e-4, 4)


class TestBeginningWithWeights:
    def test_all_but_the_last_layer_is_taken_where_the_classes_differ(self, work, tmp_path):
        import keras

        write_faces(tmp_path / "fer2013.csv")  # seven classes; the teacher knows three
        weights = ("--weights", work / "teacher" / "fold-0")
        data = ("--data", tmp_path / "fer2013.csv", "--teacher", "plain_resnet_tiny", "--epochs", 1)
        assert run("train_teacher", *data, *weights, "--lr", 1e-12, "--out", tmp_path / "run") == 0
        before = keras.saving.load_model(work / "teacher" / "fold-0" / "best.keras", compile=False)
        after = keras.saving.load_model(tmp_path / "run" / "best.keras", compile=False)
        np.testing.assert_allclose(
            after.get_layer("stem_conv").kernel, before.get_layer("stem_conv").kernel, atol=1e-6
        )
        assert after.output_shape == (None, 7)
        record = json.loads((tmp_path / "run" / "settings.json").read_text())
        assert len(record["begins_with_sha256"]) == 64

    def test_a_last_layer_of_as_many_other_classes_is_not_taken(self, work):
        import keras

        from distill.runs.networks import begin_with
        from teachers import PlainResNetTiny

        teacher, weights = PlainResNetTiny(classes=3), work / "teacher" / "fold-0"
        drawn = teacher.get_layer("logits").get_weights()[0]
        begin_with(teacher, weights, ("sad", "happy", "angry"))
        np.testing.assert_array_equal(teacher.get_layer("logits").get_weights()[0], drawn)
        begin_with(teacher, weights, EXPRESSIONS)
        trained = keras.saving.load_model(weights / "best.keras", compile=False)
        for mine, theirs in zip(teacher.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_of_another_network_names_both_and_the_first_difference(self, work, faces, tmp_path, capsys):
        weights = ("--weights", work / "teacher" / "fold-0", "--out", tmp_path / "run")
        assert run("train_teacher", "--data", faces, "--teacher", "fer_cnn", *weights) == 2
        message = failure(capsys)
        assert 'is "plain_resnet_tiny", not "fer_cnn" (first difference: scale_pixels' in message
        assert "stage1_conv [(3, 3, 1, 64), (64,)] is expected" in message
