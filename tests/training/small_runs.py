"""A data set and students so small that a whole run takes a second, and a run of them."""

import keras
import numpy as np

from distill.data.dataset import ArrayImages, Dataset
from distill.data.views import ViewSpec
from distill.losses.distillation_loss import DistillationLoss
from distill.runs.run_directory import RunDirectory
from distill.training.batches import ViewBatches
from distill.training.trainer import fit

RECORD = {"settings": {"lr": 0.01}, "class_names": ["dark", "bright"], "data": {}}


class Killed(BaseException):
    """Stands for a process that ends without a word."""


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
    run._draw_curves = lambda: None  # which would take half of the time
    usual = {
        "optimizer": keras.optimizers.Adam(0.01),
        # Depends on what the run recorded, which a resumed run must know, too.
        "learning_rate": lambda epoch, losses: 0.01 / (1 + sum(losses)),
    }
    if engine is fit:
        usual["loss"] = DistillationLoss(lambda_=0.0)
    shape = {"image_shape": (6, 6, 1), "view_spec": ViewSpec(), "batch_size": 8}
    return engine(
        student or dropout_student(),
        ViewBatches(dataset.split("train"), **{**shape, **(batches or {})}),
        dataset.split("validation"),
        **{**usual, **how},
        epochs=epochs,
        run=run,
        progress=False,
    )


def assert_same_weights(*runs) -> None:
    """Check that the last checkpoints of two runs hold the same, bit for bit: network and optimizer."""
    one, other = (keras.saving.load_model(run / "last.keras") for run in runs)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(one.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
