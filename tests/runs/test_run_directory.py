"""A run directory keeps what is whole, says what is not, and belongs to one process at a time."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.errors import InputError
from distill.runs.best_epoch import quality
from distill.runs.events import tag
from distill.runs.run_directory import LOCK, RunDirectory, load_network, read_metrics
from distill.training.epochs import stands_still
from tests.training.small_runs import (
    RECORD,
    Killed,
    assert_same_weights,
    bright_and_dark,
    fit_small,
    plain_student,
    record_of,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset():
    return bright_and_dark()


def interrupted_after(done, path, dataset, monkeypatch, error=Killed, **how):
    """Train, and end without a word when so many epochs are done."""

    def dying_epoch(network, *, seed, epoch):
        if epoch == done:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr("distill.training.epochs._reseed", dying_epoch)
        with pytest.raises(error):
            fit_small(dataset, path, student=plain_student(), **how)


# Checkpoints


def epochs_of(file):
    return int(keras.saving.load_model(file).optimizer.iterations) // 5


def test_the_last_two_checkpoints_are_kept(dataset, tmp_path):
    fit_small(dataset, tmp_path, epochs=3, student=plain_student())
    assert [epochs_of(tmp_path / name) for name in ("last.keras", "previous.keras")] == [3, 2]


def truncated(content):
    return content[: len(content) // 2]


def emptied(content):
    return b""


def flipped(content):
    middle = len(content) // 2  # among the weights, where nothing but a checksum can show it
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, emptied, flipped])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so(
    dataset, tmp_path, monkeypatch, capsys, damage
):
    fit_small(dataset, tmp_path / "whole", epochs=4, student=plain_student())
    run = tmp_path / "damaged"
    interrupted_after(3, run, dataset, monkeypatch)
    last = run / "last.keras"
    last.write_bytes(damage(last.read_bytes()))
    capsys.readouterr()
    fit_small(dataset, run, epochs=4, student=plain_student())
    assert capsys.readouterr().out == f"note: {last} is damaged: training resumes from previous.keras\n"
    assert_same_weights(tmp_path / "whole", run)
    assert len(read_metrics(run)) == 4


def test_where_both_checkpoints_are_damaged_training_begins_again(dataset, tmp_path, monkeypatch, capsys):
    fit_small(dataset, tmp_path / "whole", epochs=3, student=plain_student())
    run = tmp_path / "damaged"
    interrupted_after(2, run, dataset, monkeypatch)
    for name in ("last.keras", "previous.keras"):
        (run / name).write_bytes(b"")
    capsys.readouterr()
    fit_small(dataset, run, epochs=3, student=plain_student())
    assert capsys.readouterr().out.count("is damaged: training starts from the beginning") == 2
    assert_same_weights(tmp_path / "whole", run)


def test_a_kill_between_the_two_renames_loses_no_finished_epoch(dataset, tmp_path, monkeypatch, capsys):
    fit_small(dataset, tmp_path / "whole", epochs=3, student=plain_student())
    run, replace = tmp_path / "killed", os.replace

    def dying_replace(source, target):
        if Path(target).name == "last.keras" and (run / "previous.keras").exists():
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying_replace)
        with pytest.raises(Killed):
            fit_small(dataset, run, epochs=3, student=plain_student())
    assert not (run / "last.keras").exists()
    assert epochs_of(run / "previous.keras") == 1
    capsys.readouterr()
    fit_small(dataset, run, epochs=3, student=plain_student())
    assert capsys.readouterr().out == ""
    assert_same_weights(tmp_path / "whole", run)


def test_a_table_that_lost_epochs_is_refused(dataset, tmp_path, monkeypatch):
    interrupted_after(2, tmp_path / "run", dataset, monkeypatch)
    table = tmp_path / "run" / "metrics.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(InputError, match=r"metrics.csv has 1 of the 2 epochs that are done: delete"):
        fit_small(dataset, tmp_path / "run", student=plain_student())


def test_an_interrupted_run_reports_what_is_kept(dataset, tmp_path, monkeypatch, capsys):
    interrupted_after(2, tmp_path / "run", dataset, monkeypatch, KeyboardInterrupt, epochs=5)
    assert capsys.readouterr().out == f"2 of 5 epochs are kept in {tmp_path / 'run'}\n"


# The best of the weights and of their average


def row_of(epoch, accuracy, averaged):
    row = {"epoch": epoch, "validation_accuracy": accuracy, "validation_accuracy_ema": averaged, "seconds": 1.0}
    losses = {"train_loss": 1.0, "validation_loss": 1.0, "validation_loss_ema": 1.0}
    return {**row, **losses, "train_accuracy": 0.5}


@pytest.mark.parametrize(
    ("accuracies", "epoch", "weights"),
    [
        ([(0.5, 0.4), (0.5, 0.6), (0.6, 0.5)], 2, "averaged"),
        ([(0.5, 0.4), (0.6, 0.6), (0.5, 0.6)], 2, "raw"),
        ([(0.7, 0.4), (0.6, 0.6), (0.5, 0.7)], 1, "raw"),
    ],
)
def test_the_first_best_of_both_is_kept_and_named(tmp_path, accuracies, epoch, weights):
    network, averaged = plain_student(), plain_student()
    optimizer = keras.optimizers.SGD(0.1)
    network.compile(optimizer)
    with RunDirectory(tmp_path / "run", RECORD) as run:
        run.restore(network, optimizer, steps_per_epoch=5)
        for number, pair in enumerate(accuracies, 1):
            for model, offset in ((network, 0), (averaged, 100)):
                model.set_weights([np.full(weight.shape, number + offset) for weight in model.get_weights()])
            run.record_epoch(network, row_of(number, *pair), averaged=averaged)
        run.finish()
    expected = epoch + (100 if weights == "averaged" else 0)
    assert load_network(tmp_path / "run").get_weights()[0].ravel()[0] == expected
    assert (run.summary["best_epoch"], run.summary["best_weights"]) == (epoch, weights)
    assert run.summary["validation_accuracy"] == max(max(pair) for pair in accuracies)
    assert run.summary["best"] == row_of(epoch, *accuracies[epoch - 1])
    assert run.summary["last"] == row_of(3, *accuracies[-1])


def test_every_metric_is_in_the_table_the_summary_and_the_events(dataset, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    how = {"optimizer": keras.optimizers.Adam(0.01, use_ema=True), "student": plain_student()}
    fit_small(dataset, tmp_path / "run", epochs=2, **how)
    measured = ("loss", "accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
    names = {"train_loss", "train_cross_entropy", "train_accuracy", "learning_rate", "images_per_second"}
    names |= {"seconds", "input_share", *(f"validation_{name}{of}" for name in measured for of in ("", "_ema"))}
    rows = read_metrics(tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    assert set(rows[0]) == {"epoch", *names}
    assert set(events.Tags()["tensors"]) == {tag(name) for name in names}
    assert {"loss/train", "loss/validation", "loss/validation_ema", "learning_rate"} <= set(events.Tags()["tensors"])
    assert RunDirectory(tmp_path / "run", RECORD).summary["last"] == rows[-1]


# Early stopping


@pytest.mark.parametrize(
    ("accuracies", "patience", "stops"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),  # no better is not better
        ([0.5, 0.5], 2, False),
        ([0.5, 0.4, 0.4], 2, True),
        ([0.5, 0.4, 0.6, 0.6], 2, False),
        ([0.5, 0.4, 0.4, 0.6], 2, False),  # it would have stopped before; what is recorded goes on
        ([0.5, 0.4, 0.4], None, False),
    ],
)
def test_a_run_stops_after_so_many_epochs_that_were_no_better(accuracies, patience, stops):
    assert stands_still([{"validation_accuracy": accuracy} for accuracy in accuracies], patience) is stops


def test_a_better_average_keeps_a_run_going():
    rows = [{"validation_accuracy": 0.5, "validation_accuracy_ema": averaged} for averaged in (0.4, 0.5, 0.6)]
    assert not stands_still(rows, 1)
    assert [quality(row) for row in rows] == [0.5, 0.5, 0.6]


@pytest.mark.parametrize("killed_after", [1, 3, 4])
def test_an_interrupted_run_stops_early_at_the_same_epoch(dataset, tmp_path, monkeypatch, capsys, killed_after):
    # It is right at once and cannot become better.
    how = {"patience": 3, "epochs": 9, "optimizer": keras.optimizers.SGD(0.0)}
    how["learning_rate"] = lambda epoch, losses: None
    run = tmp_path / "run"
    if killed_after < 4:
        interrupted_after(killed_after, run, dataset, monkeypatch, **how)
    else:  # when all is trained, and nothing summed up

        def dying_finish(self):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "finish", dying_finish)
            with pytest.raises(Killed):
                fit_small(dataset, run, student=plain_student(), **how)
    how["optimizer"] = keras.optimizers.SGD(0.0)
    capsys.readouterr()
    fit_small(dataset, run, student=plain_student(), **how, progress=True)
    assert "no better validation accuracy for 3 epochs: stopped after 4" in capsys.readouterr().out
    assert RunDirectory(run, RECORD).summary["epochs"] == 4


# One writer at a time

HOLD = """
import pickle, sys
from distill.runs.run_directory import RunDirectory

with RunDirectory(sys.argv[1], pickle.loads(bytes.fromhex(sys.argv[2]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere(tmp_path):
    """The path of a run that another process trains, and the process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run"), pickle.dumps(RECORD).hex()]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield tmp_path / "run", process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_changes_nothing(dataset, held_elsewhere):
    run, process = held_elsewhere
    with pytest.raises(InputError, match="another process trains into .*run: wait until it has finished"):
        fit_small(dataset, run, epochs=1, student=plain_student())
    assert [path.name for path in run.iterdir()] == [LOCK]
    process.send_signal(signal.SIGKILL)
    process.wait()
    fit_small(dataset, run, epochs=1, student=plain_student())
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def test_a_run_that_another_process_finished_meanwhile_is_complete(dataset, tmp_path, monkeypatch):
    first = fit_small(dataset, tmp_path / "run", epochs=1, student=plain_student())
    monkeypatch.setattr(RunDirectory, "restore", None)  # nothing is trained
    again = fit_small(dataset, tmp_path / "run", epochs=1, student=plain_student())
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_that_another_process_began_meanwhile_with_other_settings_is_refused(tmp_path):
    late = RunDirectory(tmp_path / "run", RECORD)
    record_of(lr=0.02).write(tmp_path / "run")
    with pytest.raises(InputError, match="recipe.lr: stored 0.02, now 0.01"), late:
        pass
    with RunDirectory(tmp_path / "run", record_of(lr=0.02)):
        pass  # the one that was refused holds nothing


# Beginning anew


def test_overwriting_removes_a_run_of_any_record_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text("{damaged")
    for name in (
        "summary.json",
        "last.keras",
        "previous.keras",
        "best.keras",
        "metrics.csv",
        "curves.png",
        "README.txt",
    ):
        (run / name).write_bytes(b"old")
    (run / "events.out.tfevents.1").write_bytes(b"old")
    (run / "export").mkdir()
    directory = RunDirectory(run, RECORD, overwrite=True)
    assert not directory.complete
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {"export"}


def test_a_folder_that_is_no_run_is_not_overwritten(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds no settings.json"):
        RunDirectory(tmp_path, RECORD, overwrite=True)
    assert (tmp_path / "photo.jpg").exists()
