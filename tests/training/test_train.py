"""What `train` and `train_from_labels` make of a dataset: who teaches, who chooses, what is recorded."""

import json
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from distill.data.dataset import UNLABELLED, ArrayImages, Dataset
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import DistillationObjective, as_objective
from distill.losses.schedules import Ramp, WarmedRamp
from distill.runs.run_directory import read_metrics
from distill.training.batches import ViewBatches
from distill.training.checks import check_can_train, check_labels
from distill.training.recipe import Recipe
from distill.training.train import train, train_from_labels


@pytest.fixture
def faces(rng):
    """Thirty images to learn from and twenty to choose by; half of each have no label."""
    labels = rng.integers(0, 2, 50)
    images = (labels * 120 + 60)[:, None, None, None] + rng.integers(-50, 50, (50, 6, 6, 1))
    return Dataset(
        name="bright and dark",
        ids=np.array([f"face{i}" for i in range(50)]),
        labels=np.where(np.arange(50) % 2, UNLABELLED, labels),
        class_names=("dark", "bright"),
        images=ArrayImages(images.astype(np.uint8)),
        splits=np.array(["train"] * 30 + ["validation"] * 20),
    )


def small_network():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6, 6, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers, name="small")


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_images_without_a_label_neither_teach_from_labels_nor_choose(faces, tmp_path, trainer):
    trained = trainer(small_network(), faces, out=tmp_path / "all", recipe=Recipe(epochs=2), progress=False)
    labelled = faces.subset(faces.labels != UNLABELLED)
    alone = trainer(small_network(), labelled, out=tmp_path / "labelled", recipe=Recipe(epochs=2), progress=False)
    for a, b in zip(trained.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for row, other in zip(read_metrics(tmp_path / "all"), read_metrics(tmp_path / "labelled"), strict=True):
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert row[name] == other[name], name


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_the_record_names_the_whole_split_and_what_is_known_of_the_weights(faces, tmp_path, trainer):
    recipe = Recipe(epochs=1)
    trainer(small_network(), faces, out=tmp_path / "run", recipe=recipe, begins_with_sha256="0123", progress=False)
    record = json.loads((tmp_path / "run" / "settings.json").read_text())
    expected = {"images": 30, "fingerprint": faces.split("train").fingerprint}
    assert record["data"]["train"] == expected
    assert record["begins_with_sha256"] == "0123"


# How much each image counts


def batches_seen(monkeypatch) -> list:
    """Watch which batches training makes."""
    seen, init = [], ViewBatches.__init__

    def watched(self, *args, **how):
        init(self, *args, **how)
        seen.append(self)

    monkeypatch.setattr(ViewBatches, "__init__", watched)
    return seen


@pytest.mark.parametrize("trainer", [train, train_from_labels])
def test_weights_stay_with_their_images_and_count_on_top_of_their_classes(faces, tmp_path, monkeypatch, trainer):
    seen = batches_seen(monkeypatch)
    mine = np.arange(50) / 10
    recipe = Recipe(epochs=1, class_weights="balanced")
    weighted = {"out": tmp_path / "run", "recipe": recipe, "sample_weights": mine, "progress": False}
    trainer(small_network(), faces, **weighted)
    (batches,) = seen
    taught = [i for i in range(30) if faces.labels[i] != UNLABELLED]
    assert batches.dataset.ids.tolist() == [f"face{i}" for i in taught]
    counts = np.bincount(faces.labels[taught])
    expected = mine[taught] * len(taught) / (2 * counts[faces.labels[taught]])
    np.testing.assert_allclose(batches.sample_weights, expected, rtol=1e-6)
    with pytest.raises(InputError, match="sample_weights_sha256: stored .*, now "):
        trainer(small_network(), faces, **{**weighted, "sample_weights": mine + 1})


def test_an_image_without_weight_teaches_nothing(faces, tmp_path):
    labelled = faces.subset(faces.labels != UNLABELLED)
    train_rows = np.flatnonzero(labelled.splits == "train")
    without = labelled.subset(np.setdiff1d(np.arange(len(labelled)), train_rows[:5]))
    weights = np.ones(len(labelled))
    weights[train_rows[:5]] = 0
    how = {"recipe": Recipe(epochs=2, optimizer="sgd", lr=0.5, schedule="constant"), "views": 1, "progress": False}
    zero = train(small_network(), labelled, out=tmp_path / "zero", sample_weights=weights, **how)
    fewer = train(small_network(), without, out=tmp_path / "fewer", **how)
    for a, b in zip(zero.get_weights(), fewer.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(30), r"one number for each of the 50 images, received \(30,\)"),
        (np.zeros(50), "0 or more, and one of them above 0, received 0.0..0.0"),
        (np.full(50, -1.0), "0 or more, and one of them above 0, received -1.0"),
        (np.full(50, np.nan), "0 or more, and one of them above 0, received nan"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(faces, tmp_path, weights, message):
    with pytest.raises(InputError, match=message):
        train(small_network(), faces, out=tmp_path / "run", sample_weights=weights, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_images_is_refused_whether_or_not_labels_are_needed(faces, tmp_path, split):
    lacking = faces.subset(np.flatnonzero(faces.splits != split))
    with pytest.raises(InputError, match=f"bright and dark has no {split} split: it has"):
        train(small_network(), lacking, out=tmp_path / "run", objective=as_objective("mse"), teacher=small_network())
    assert not (tmp_path / "run").exists()


def test_what_nobody_labelled_has_no_training_accuracy(faces, tmp_path, monkeypatch):
    monkeypatch.undo()  # its curves are drawn
    nobody_knows = replace(faces, labels=np.where(faces.splits == "train", UNLABELLED, faces.labels))
    how = {"objective": DistillationLoss(lambda_=1.0), "teacher": small_network(), "recipe": Recipe(epochs=2)}
    student = train(small_network(), nobody_knows, out=tmp_path / "run", **how)
    for row in read_metrics(tmp_path / "run"):
        assert "train_accuracy" not in row
        assert row["train_agreement"] >= 0
    assert {"loss", "val_accuracy"} <= student.history.history.keys()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


def test_class_weights_need_labels(faces, tmp_path):
    nobody_knows = np.where(faces.splits == "train", UNLABELLED, faces.labels)
    unlabelled = replace(faces, labels=nobody_knows)
    objective = as_objective(DistillationLoss(lambda_=1.0))
    with pytest.raises(InputError, match="the train split of bright and dark has no labels"):
        check_labels(unlabelled, objective, Recipe(class_weights="balanced"))
    check_labels(unlabelled, objective, Recipe())  # the teacher alone needs none


# What would be ignored is refused


def test_a_temperature_that_moves_is_refused_where_the_teachers_target_holds_at_one_alone(faces):
    objective = DistillationObjective(loss=DistillationLoss("microexpnet"), temperature=Ramp(end=2.0))
    how = {"objective": objective, "views": None, "recipe": Recipe()}
    with pytest.raises(InputError, match="exact at one temperature alone: omit --temperature-schedule"):
        check_can_train(small_network(), faces, teacher=SimpleNamespace(one_temperature=True), **how)


@pytest.mark.parametrize(
    "schedules", [{"temperature": Ramp(end=2.0)}, {"soft_weight": WarmedRamp(warmup_epochs=1), "epochs": 2}]
)
def test_schedules_without_a_soft_part_are_refused(schedules):
    with pytest.raises(InputError, match="has no soft part that a schedule could move"):
        DistillationObjective(loss=DistillationLoss(lambda_=0.0), **schedules)


def test_an_optimizer_that_keras_does_not_have_leaves_no_folder(faces, tmp_path):
    with pytest.raises(InputError, match='unknown optimizer "adamm"'):
        train(small_network(), faces, out=tmp_path / "run", recipe=Recipe(optimizer="adamm"))
    assert not (tmp_path / "run").exists()
