"""The best epoch is the best by what was asked for, and an older run goes on by what it began with."""

import json

import pytest

from distill.runs.best_epoch import CHOICES, best_accuracy, best_epoch, chosen_by, quality
from distill.runs.run_record import parse_record


def row(epoch, **metrics):
    return {"epoch": epoch, **{f"validation_{name}": value for name, value in metrics.items()}}


# Each epoch is best by one metric.
ROWS = [
    row(1, accuracy=0.9, macro_f1=0.3, balanced_accuracy=0.2, loss=2.0),
    row(2, accuracy=0.6, macro_f1=0.8, balanced_accuracy=0.3, loss=2.1),
    row(3, accuracy=0.7, macro_f1=0.4, balanced_accuracy=0.9, loss=2.2),
    row(4, accuracy=0.8, macro_f1=0.5, balanced_accuracy=0.4, loss=0.5),
]


@pytest.mark.parametrize(("choose_by", "epoch"), [*zip(CHOICES, (1, 2, 3, 4), strict=True)])
def test_every_choice_finds_its_best_epoch(choose_by, epoch):
    assert best_epoch(ROWS, choose_by)["epoch"] == epoch
    assert quality(ROWS[epoch - 1], choose_by) == max(quality(each, choose_by) for each in ROWS)


def test_the_accuracy_is_that_of_the_weights_that_are_kept():
    averaged = row(1, accuracy=0.9, loss=2.0, accuracy_ema=0.7, loss_ema=1.0)
    assert best_accuracy(averaged) == 0.9
    assert best_accuracy(averaged, "loss") == 0.7  # the averaged weights have the lower loss, and are kept


def test_balanced_class_weights_choose_by_balanced_accuracy():
    assert chosen_by({}) == chosen_by({"class_weights": "none", "choose_by": None}) == "accuracy"
    assert chosen_by({"class_weights": "balanced", "choose_by": None}) == "balanced-accuracy"
    assert chosen_by({"class_weights": "balanced", "choose_by": "loss"}) == "loss"


def test_a_run_from_before_this_could_be_chosen_goes_on_by_accuracy(tmp_path):
    document = {
        "version": 2,
        "recipe": {"class_weights": "balanced"},
        "data": {
            "name": "faces",
            "class_names": ["happy", "sad"],
            "train": {"images": 1, "fingerprint": "1"},
            "validation": {"images": 1, "fingerprint": "2"},
        },
        "views": {"spec": {}},
        "objective": {"formula": "ce"},
        "network": {"name": "small", "input_shape": [8, 8, 1], "parameters": 1, "architecture_sha256": "3"},
        "command": {"name": "train_student", "settings": {"class_weights": "balanced"}},
    }
    record = parse_record(json.loads(json.dumps(document)), tmp_path / "settings.json")
    assert chosen_by(record.recipe) == chosen_by(record.command.settings) == "accuracy"
