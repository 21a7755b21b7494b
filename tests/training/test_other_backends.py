"""A teacher trains where there is no TensorFlow, and its weights load where there is."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from distill.data.open_dataset import open_dataset
from distill.runs.best_epoch import best_accuracy
from distill.runs.run_directory import read_metrics
from distill.scoring.scorer import Scorer
from tests.test_commands import write_faces

WITHOUT_TENSORFLOW = """
import importlib.abc, runpy, sys
class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotInstalled())
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def without_tensorflow(*args) -> subprocess.CompletedProcess:
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_teacher_trained_under_jax_gives_the_same_logits_under_tensorflow(tmp_path):
    pytest.importorskip("jax")
    write_faces(tmp_path / "fer2013.csv")
    teacher = ("--data", tmp_path / "fer2013.csv", "--teacher", "plain_resnet_tiny", "--recipe", "strong")
    more = ("--ema", 0.5, "--clip-norm", 1, "--class-weights", "balanced", "--patience", 5)
    command = ("distill.train_teacher", *teacher, "--epochs", 2, "--batch-size", 8, *more, "--out", tmp_path / "run")
    trained = without_tensorflow(*command)
    assert trained.returncode == 0, trained.stderr
    record = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert "jax" in record["versions"]
    assert record["recipe"]["label_smoothing"] == 0.1

    best = keras.saving.load_model(tmp_path / "run" / "best.keras", compile=False)
    validation = open_dataset(tmp_path / "fer2013.csv").split("validation")
    logits = Scorer(best, validation).score_for_evaluation()
    rows = read_metrics(tmp_path / "run")
    assert rows[-1]["validation_loss"] != rows[-1]["validation_loss_ema"]
    accuracy = max(best_accuracy(row) for row in rows)
    assert np.mean(logits.argmax(1) == validation.labels) == pytest.approx(accuracy)

    again = without_tensorflow(*command)
    assert "already complete" in again.stdout


def test_a_student_needs_tensorflow_and_says_so(tmp_path):
    pytest.importorskip("jax")
    student = without_tensorflow("distill.train_student", "--data", "synthetic", "--out", tmp_path / "run")
    assert student.returncode == 2
    assert student.stderr.strip() == 'error: Keras runs on "jax": set KERAS_BACKEND=tensorflow'
