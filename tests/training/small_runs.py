"""A dataset and students so small that a whole run takes a second, and a run of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.data.dataset import ArrayImages, Dataset
from distill.data.views import ViewSpec
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import Batch, DistillationObjective, as_objective
from distill.runs.run_directory import RunDirectory
from distill.runs.run_record import DataRecord, NetworkRecord, RunRecord, SplitRecord, ViewsRecord
from distill.training import epochs
from distill.training.batches import ViewBatches
from distill.training.trainer import compiled_render, fit

LABELS_ALONE = DistillationObjective(loss=DistillationLoss(lambda_=0.0))


def record_of(**recipe) -> RunRecord:
    """The record of a small run."""
    split = SplitRecord(images=1, fingerprint="0")
    return RunRecord(
        recipe={"lr": 0.01, **recipe},
        data=DataRecord(name="bright and dark", class_names=("dark", "bright"), train=split, validation=split),
        views=ViewsRecord(spec=ViewSpec().to_dict()),
        objective={"formula": "CE(y, s)"},
        network=NetworkRecord(name="small", input_shape=(6, 6, 1), parameters=1, architecture_sha256="0"),
    )


RECORD = record_of()


class Killed(BaseException):
    """Stands for a process that ends without a word."""


@contextmanager
def killed_before(epoch: int) -> Iterator[None]:
    """Let the training in the block be killed before an epoch, counted from 0."""
    reseed = epochs._reseed

    def dying(*args, **how):
        if how["epoch"] == epoch:
            raise Killed
        reseed(*args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "_reseed", dying)
        with pytest.raises(Killed):
            yield


def bright_and_dark() -> Dataset:
    """Two classes, bright and dark images: 40 to learn from, 10 to validate on."""
    labels = np.arange(50) % 2
    noise = np.random.default_rng(0).integers(-50, 50, (50, 6, 6, 1))
    return Dataset(
        name="bright and dark",
        ids=np.array([f"face{i}" for i in range(50)]),
        labels=labels,
        class_names=("dark", "bright"),
        images=ArrayImages(((labels * 120 + 60)[:, None, None, None] + noise).astype(np.uint8)),
        splits=np.array(["train"] * 40 + ["validation"] * 10),
    )


def dropout_student() -> keras.Model:
    """A student whose dropout, batch norm and weights all have a state to keep."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(2),
        ],
        name="small",
    )


def plain_student() -> keras.Model:
    """A student that computes the same in training as after it."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)], name="plain"
    )


def fit_small(dataset, path, *, epochs=4, student=None, engine=fit, batches=None, **how) -> keras.Model:
    """Train for `epochs` in batches of 8, or what else `batches` say; `how` are arguments of the trainer."""
    run = RunDirectory(path, RECORD)
    usual = {
        "optimizer": keras.optimizers.Adam(0.01),
        # Depends on what the run recorded, which a resumed run must know, too.
        "learning_rate": lambda epoch, losses: 0.01 / (1 + sum(losses)),
        "progress": False,
    }
    if engine is fit:
        usual["objective"] = LABELS_ALONE
    shape = {"image_shape": (6, 6, 1), "view_spec": ViewSpec(), "batch_size": 8}
    if "loss" in how:
        how["objective"] = as_objective(how.pop("loss"))
    return engine(
        student or dropout_student(),
        ViewBatches(dataset.split("train"), **{**shape, **(batches or {})}),
        dataset.split("validation"),
        **{**usual, **how},
        epochs=epochs,
        run=run,
    )


def rendered_epoch(batches: ViewBatches, epoch: int) -> Iterator[Batch]:
    """Yield the batches of one epoch as the student sees them."""
    draw = compiled_render(batches.image_shape, batches.columns)
    for rows in batches.epoch(epoch):
        rows = tf.nest.map_structure(tf.constant, rows)
        yield Batch(draw(rows.images_uint8, rows.parameters), rows.label_probs, rows.teacher, rows.sample_weights)


def assert_same_weights(*runs) -> None:
    """Check that the last checkpoints of two runs hold the same, bit for bit: network and optimizer."""
    one, other = (keras.saving.load_model(run / "last.keras") for run in runs)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(one.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
