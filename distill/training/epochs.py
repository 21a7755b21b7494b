"""The loop of epochs around any way to train one: resume, learning rate, validation, records."""

import math
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.errors import InputError
from distill.training.batches import ViewBatches, label_probabilities
from distill.training.losses import cross_entropy
from distill.training.run_directory import RunDirectory
from distill.training.scoring import Scorer

TrainEpoch = Callable[[int, tqdm], Mapping[str, float]]
"""Trains epoch n, counted from 0, moves the bar, and returns means over its images: "loss", "accuracy", ..."""


def run_epochs(
    network: keras.Model,
    train_epoch: TrainEpoch,
    batches: ViewBatches,
    validation: Dataset,
    *,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    learning_rate: Callable[[int, list[float]], float | None] = lambda epoch, validation_losses: None,
    progress: bool = True,
) -> keras.Model:
    """Train `network` and leave metrics, curves and checkpoints in `run`.

    An interrupted run that is given the same arguments goes on after its last finished epoch.

    Args:
        network: compiled with `optimizer`; takes pixels 0..255 of `batches.image_shape`, returns logits.
        validation: chooses the best epoch, by accuracy in the views that `batches` prescribes for it.
        epochs: how many passes over the training images in all.
        learning_rate: that of an epoch, by its number and the validation losses before it; None leaves it
            to the optimizer's own schedule.
        progress: show a bar with loss, accuracy, images/s and time left, over the whole run.

    Returns:
        The network of the best epoch, as saved in the run directory.
    """
    first_epoch = run.restore(network, optimizer, steps_per_epoch=len(batches))
    validate = Scorer(network, validation, view_spec=batches.view_spec)
    images = len(batches.dataset)
    with tqdm(total=epochs * images, initial=first_epoch * images, unit="image", disable=not progress) as bar:
        for epoch in range(first_epoch, epochs):
            bar.set_description(f"{network.name} {epoch + 1}/{epochs}", refresh=False)
            _reseed(network, seed=batches.seed, epoch=epoch)
            if (lr := learning_rate(epoch, [row["validation_loss"] for row in run.rows])) is not None:
                optimizer.learning_rate = lr
            started = time.perf_counter()
            trained = train_epoch(epoch, bar)
            seconds = time.perf_counter() - started
            if not math.isfinite(trained["loss"]):
                raise InputError(
                    f"the loss of epoch {epoch + 1} is {trained['loss']}: try a smaller learning rate (--lr)"
                )
            row = {
                "epoch": epoch + 1,
                **{f"train_{name}": value for name, value in trained.items()},
                **_validation_metrics(validate, validation),
                "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
                "seconds": seconds,
                "images_per_second": images / seconds,
            }
            run.record_epoch(network, row)
    return run.finish()


def show_means(bar: tqdm, means: Mapping[str, float], *, images: int) -> None:
    """Move the bar by a batch, and show the epoch's means so far."""
    bar.set_postfix(loss=f"{means['loss']:.3f}", accuracy=f"{means['accuracy']:.3f}", refresh=False)
    bar.update(images)


def _reseed(network: keras.Model, *, seed: int, epoch: int) -> None:
    """Set the generators of dropout to a state that `seed` and `epoch` alone decide.

    Keras files do not hold these states; so an epoch repeated after an interruption drops the same units.
    """
    generators = [variable for variable in network.variables if variable.name == "seed_generator_state"]
    for generator, state in zip(
        generators, np.random.SeedSequence([seed, epoch]).generate_state(len(generators)), strict=True
    ):
        generator.assign([state, 0])


def _validation_metrics(scorer: Scorer, validation: Dataset) -> dict[str, float]:
    logits = scorer.score_for_evaluation()
    losses = cross_entropy(student_logits=logits, labels=label_probabilities(validation))
    return {
        "validation_loss": float(np.mean(keras.ops.convert_to_numpy(losses))),
        "validation_accuracy": float(np.mean(logits.argmax(axis=1) == validation.labels)),
    }
