"""Every network of both tables on a real sample: does its loss fall, and is it the same after it was saved?

    python benchmarks/every_network.py --data fer2013.csv --out networks [--networks NAME...]

A teacher learns for some hundred steps, and its logits are cached and joined; a student learns, is saved, loaded,
and must predict the same. Prints a line of Markdown per network; finished ones are not trained again.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands have it

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset
from distill.data.splits import with_splits
from distill.runs.networks import load_network
from distill.runs.run_directory import read_metrics
from distill.scoring.caching import cache_logits
from distill.scoring.scorer import Scorer
from distill.training.recipe import RECIPES, Recipe
from distill.training.train import train, train_from_labels
from students import STUDENTS
from teachers import TEACHERS

TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 60, 10
TEACHER_EPOCHS, STUDENT_EPOCHS = 5, 10  # of 27 steps
# Smaller than published, where that would take minutes a step; networks without a row take their own.
SIZES = {"dexpression": (96, 96, 3), "densenet": (32, 32, 1), "resnet": (32, 32, 1), "xception": (32, 32, 1)}
SIZES |= dict.fromkeys(("vgg", "inception"), (48, 48, 1))


def sample(dataset: Dataset) -> Dataset:
    """The first images of every class of the train and the validation split."""
    picked = []
    for split, count in (("train", TRAIN_PER_CLASS), ("validation", VALIDATION_PER_CLASS)):
        for label in range(dataset.num_classes):
            picked += np.flatnonzero((dataset.splits == split) & (dataset.labels == label))[:count].tolist()
    return dataset.subset(np.array(picked))


def train_teacher(name: str, faces: Dataset, out: Path) -> keras.Model:
    recipe = Recipe(epochs=TEACHER_EPOCHS, lr=3e-4, schedule="constant", batch_size=16, view=RECIPES["fer_cnn"].view)
    builder = TEACHERS[name]
    teacher = builder(input_shape=SIZES.get(name), classes=faces.num_classes, name=name)
    teacher = train_from_labels(teacher, faces, out=out, recipe=recipe)
    store = cache_logits(teacher, faces, out / "logits.h5", views=2, view_spec=recipe.view)
    turned = faces.subset(np.arange(len(faces))[::-1])
    if not np.array_equal(store.join(turned)[::-1], store.logits):
        raise SystemExit(f"{name}: logits joined to the wrong faces")
    return teacher


def train_student(name: str, faces: Dataset, out: Path) -> keras.Model:
    student = STUDENTS[name](classes=faces.num_classes, name=name, pixel_scale=1 / 16, keep_prob=1.0)
    return train(student, faces, out=out, recipe=Recipe(epochs=STUDENT_EPOCHS, batch_size=16), views=1)


def check(kind: str, name: str, faces: Dataset, out: Path) -> str:
    keras.utils.set_random_seed(0)
    started = time.perf_counter()
    network = {"teacher": train_teacher, "student": train_student}[kind](name, faces, out)
    seconds = time.perf_counter() - started
    logits = Scorer(network, faces).score_for_evaluation()
    difference = np.abs(Scorer(load_network(out), faces).score_for_evaluation() - logits).max()
    losses = [row["train_loss"] for row in read_metrics(out)]
    shape = "x".join(map(str, network.input_shape[1:]))
    return f"| {kind} | {name} | {shape} | {losses[0]:.3f} | {losses[-1]:.3f} | {difference:g} | {seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--networks", nargs="+", choices=[*TEACHERS, *STUDENTS], default=[*TEACHERS, *STUDENTS], metavar="NAME"
    )
    arguments = parser.parse_args()
    faces = sample(with_splits(open_dataset(arguments.data)))
    rows = ["| | network | input | first epoch's loss | last epoch's loss | saved and loaded | s |", "|" + "---|" * 7]
    for kind, table in (("teacher", TEACHERS), ("student", STUDENTS)):
        for name in (name for name in table if name in arguments.networks):
            rows.append(check(kind, name, faces, arguments.out / name))
            print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
