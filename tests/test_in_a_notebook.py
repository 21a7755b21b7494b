"""What a user of the library may hand over is taken, or refused in a sentence: never an AttributeError."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import distill
from distill.errors import InputError
from distill.experiments.comparison_folder import ComparisonReport
from distill.losses.distillation_loss import DistillationLoss
from distill.reports.metrics import EvaluationMetrics
from distill.training.sources import as_teacher


@pytest.fixture(scope="module")
def faces():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    splits = ["train"] * 16 + ["validation"] * 8
    return distill.Dataset.from_arrays(pixels, np.arange(24) % 2, class_names=["sad", "happy"], splits=splits)


def network(name="small"):
    layers = [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers, name=name)


def test_a_network_is_taken_as_a_teacher_and_no_folder_makes_a_temporary_one(faces, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recipe = distill.Recipe(epochs=1, optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
    teacher = network("big")
    trained = distill.train(network(), faces, teacher=teacher, recipe=recipe)
    said = capsys.readouterr().out
    (run,) = tmp_path.glob("distill-run-*")
    assert f"saved in {run}: best.keras" in said
    assert "validation accuracy " in said
    assert 'always predicting "' in said
    assert len(trained.history.history["loss"]) == 1
    assert distill.train(network(), faces, teacher=teacher, recipe=recipe, out=run) is not None
    said = capsys.readouterr().out
    assert f"{run} is already complete, and nothing was trained: small after 1 epochs, finished on 20" in said
    distill.train(network(), faces, recipe=distill.Recipe(epochs=2), out=run, overwrite=True, progress=False)
    assert distill.read_record(run).recipe["epochs"] == 2


def test_the_functions_of_the_library_say_what_a_data_set_is(faces):
    pipeline = tf.data.Dataset.from_tensors(np.zeros((8, 8, 1), np.uint8))
    message = "expected a distill.Dataset, received .*: distill.Dataset.from_tf_data makes one"
    for call in (
        lambda: distill.train(network(), pipeline, out="nowhere"),
        lambda: distill.evaluate_model(network(), pipeline),
        lambda: distill.cache_logits(network(), pipeline, "nowhere.h5"),
        lambda: distill.compare(pipeline, [], out="nowhere"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(InputError, match="received ndarray: distill.Dataset.from_arrays"):
        distill.evaluate_model(network(), np.zeros((3, 8, 8, 1)))
    with pytest.raises(InputError, match="pixel_range"):
        distill.Dataset.from_arrays(np.zeros((3, 8, 8, 1), np.float32), [0, 1, 0])


def test_what_is_no_teacher_network_or_recipe_is_named(faces):
    with pytest.raises(InputError, match="a teacher is a keras.Model, or a distill.OnlineTeacher, received str"):
        as_teacher("teacher", faces)
    with pytest.raises(InputError, match="what is trained is a keras.Model, received str"):
        distill.train("microexpnet", faces, out="nowhere")
    with pytest.raises(InputError, match="a recipe is a distill.Recipe, received dict"):
        distill.train(network(), faces, out="nowhere", recipe={"epochs": 1})
    with pytest.raises(InputError, match="it needs student_logits and teacher_logits"):
        distill.train(network(), faces, out="nowhere", objective=keras.losses.KLDivergence())


def test_a_loss_says_what_it_needs():
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match='the loss "hinton" needs teacher_logits'):
        DistillationLoss()(student_logits=logits, labels=np.array([0, 1]), teacher_logits=None)
    with pytest.raises(ValueError, match="a loss needs labels"):
        DistillationLoss()(student_logits=logits, labels=None, teacher_logits=logits)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (keras.optimizers.Adam(3e-4), {"optimizer": "adam", "lr": 3e-4}),
        (keras.optimizers.SGD(0.1, momentum=0.9), {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9}),
        (keras.optimizers.AdamW(1e-3, weight_decay=0.02), {"optimizer": "adamw", "weight_decay": 0.02}),
        (keras.optimizers.Adam(global_clipnorm=1.0), {"clip_norm": 1.0}),
        (keras.optimizers.Adam(use_ema=True, ema_momentum=0.99), {"ema": 0.99}),
    ],
)
def test_an_optimizer_becomes_the_settings_that_a_record_holds(optimizer, expected):
    recipe = distill.Recipe(optimizer=optimizer)
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": keras.optimizers.Adam(beta_1=0.5)}, "does not know beta_1=0.5 of an optimizer"),
        ({"optimizer": keras.optimizers.Adam(3e-4), "lr": 1e-2}, "lr is 0.01, that of the optimizer 0.0003"),
        ({"optimizer": 3}, 'an optimizer is a name, such as "adam", or one of Keras, received 3'),
        (
            {"optimizer": keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 10))},
            "give the recipe a schedule",
        ),
    ],
)
def test_an_optimizer_that_a_recipe_cannot_hold_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        distill.Recipe(**settings)


def test_results_are_shown_as_a_table():
    metrics = EvaluationMetrics(("sad", "happy"), np.array([[3, 1], [0, 4]]))
    assert repr(metrics).startswith("accuracy 87.5% (")
    assert "precision" in repr(metrics)
    table = pytest.importorskip("pandas") and metrics.to_pandas()
    assert table.loc["sad", "recall"] == 0.75


def test_a_comparison_is_its_content_and_its_table():
    cells = [{"student": "a", "mean": 0.5, "difference": None}, {"student": "a", "mean": 0.75, "difference": 0.25}]
    report = ComparisonReport({"cells": cells, "tested": {}}, table="student  accuracy")
    assert (report["tested"], repr(report)) == ({}, "student  accuracy")
    assert json.loads(json.dumps(report))["cells"] == cells
    table = pytest.importorskip("pandas") and report.to_pandas()
    assert table["mean"].tolist() == [0.5, 0.75]


def test_commands_that_are_functions_stay_so_whatever_is_imported_first():
    program = (
        "import distill\nprint(callable(distill.export))\nimport distill.export\nprint(callable(distill.export))"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["True", "True"]
