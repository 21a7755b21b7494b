"""The loop of epochs around any way to train one: resume, learning rate, validation, early stopping, records."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import numpy as np
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.errors import DivergedError, InputError
from distill.progress import progress_bar
from distill.runs.best_epoch import quality
from distill.runs.run_directory import RunDirectory
from distill.runs.scope import replicas_of
from distill.training.batches import JointBatches, ViewBatches
from distill.training.optimizer import let_one_replica_be
from distill.training.validation import SMALLER_RATE, Validation

TrainEpoch = Callable[[int, tqdm, keras.callbacks.CallbackList], Mapping[str, float]]
"""Trains epoch n, counted from 0, moves the bar, calls the callbacks for its batches, and returns columns of
metrics.csv, among them "train_loss"."""


def run_epochs(
    network: keras.Model,
    train_epoch: TrainEpoch,
    batches: ViewBatches | JointBatches,
    validation: Dataset,
    *,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    learning_rate: Callable[[int, list[float]], float | None] = lambda epoch, validation_losses: None,
    patience: int | None = None,
    agree: Callable[[str], None] = lambda what: None,
    own_layers: Sequence[keras.layers.Layer] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    remedy: str = SMALLER_RATE,
    progress: bool = True,
) -> keras.Model:
    """Train `network` and leave metrics, curves and checkpoints in `run`.

    An interrupted run that is given the same arguments goes on after its last finished epoch.

    Args:
        network: compiled with `optimizer`; takes pixels 0..255 of the size that `batches` render, returns logits.
        validation: chooses the best epoch, by what `run` says, in the views that `batches` prescribes for it. Where
            `optimizer` keeps a moving average of the weights, that is validated, too, and the better one is kept.
        epochs: how many passes over the training images in all.
        learning_rate: that of an epoch, by its number and the validation losses before it; None leaves it
            to the optimizer's own schedule.
        patience: stop after so many epochs without a better one; None never does.
        agree: where several processes train together, checks that all of them begin with the same.
        own_layers: of the objective, which are trained with `network` or hold what changes with it: the run keeps and
            resumes them, too.
        callbacks: of Keras. Their logs of an epoch are `keras_logs`, those of a batch the means of the epoch so far;
            one that sets `network.stop_training` ends the run after that epoch, and what one makes of a constant
            learning rate holds until `learning_rate` gives another (checkpoints are written before they are called).
        remedy: what to try where the loss, or a logit, is no longer finite.
        progress: show a bar with loss, accuracy, images/s and time left, over the whole run, and say why it stopped.

    Returns:
        The network of the best epoch, as saved in the run directory. Its attribute `history` is the
        `keras.callbacks.History` of all epochs, those before an interruption, too.

    Raises:
        InputError: another process trains into the same directory; a callback that the optimizer does not go with.
        DivergedError: the loss is no longer finite.
    """
    _check_callbacks(callbacks, optimizer)
    if replicas_of(network) == 1:
        let_one_replica_be(optimizer)
    with run:
        if run.complete:  # by another process, a moment ago
            return with_history(run.best_network(), run.rows)
        first_epoch = run.restore(network, optimizer, steps_per_epoch=len(batches), own_layers=own_layers)
        agree(f"{first_epoch} epochs are done of {run.identity}")
        validate = Validation(
            network,
            optimizer,
            validation,
            view_spec=batches.view_spec,
            own_layers=own_layers,
            remedy=remedy,
        )
        images = batches.images
        network.stop_training = False
        callback_list = keras.callbacks.CallbackList(
            list(callbacks), model=network, epochs=epochs, steps=len(batches), verbose=0
        )
        callback_list.on_train_begin()
        with (
            _kept_on_interrupt(run, epochs),
            progress_bar(
                total=epochs * images, initial=first_epoch * images, unit="image", disable=not progress
            ) as bar,
        ):
            for epoch in range(first_epoch, epochs):
                if stands_still(run.rows, patience, run.chosen_by):
                    if progress:
                        metric = run.chosen_by.replace("-", " ")
                        bar.write(f"no better validation {metric} for {patience} epochs: stopped after {epoch}")
                    break
                bar.set_description(f"{network.name} {epoch + 1}/{epochs}", refresh=False)
                _set_learning_rate(optimizer, learning_rate, epoch, [row["validation_loss"] for row in run.rows])
                _reseed([network, *own_layers], seed=batches.seed, epoch=epoch)
                callback_list.on_epoch_begin(epoch)
                row = _timed_epoch(train_epoch, epoch, bar, callback_list, images=images)
                if not math.isfinite(row["train_loss"]):
                    raise DivergedError(f"the loss of epoch {epoch + 1} is {row['train_loss']}: {remedy}")
                row |= validate()
                row["learning_rate"] = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
                run.record_epoch(network, row, averaged=validate.averaged)
                callback_list.on_epoch_end(epoch, keras_logs(row))
                if network.stop_training:
                    break
        callback_list.on_train_end(keras_logs(run.rows[-1]) if run.rows else None)
        return with_history(run.finish(), run.rows)


def keras_logs(row: Mapping[str, float]) -> dict[str, float]:
    """Return a row of metrics.csv under the names that Keras gives them: "loss", "accuracy", "val_loss", ..."""
    logs = {}
    for name, value in row.items():
        if name != "epoch":
            logs[name.removeprefix("train_").replace("validation_", "val_", 1)] = value
    return logs


def with_history(network: keras.Model, rows: Sequence[Mapping[str, float]]) -> keras.Model:
    """Return `network` with the `history` of the epochs in `rows`, as `fit` leaves it."""
    history = keras.callbacks.History()
    history.set_model(network)
    history.on_train_begin()
    for row in rows:
        history.on_epoch_end(row["epoch"] - 1, keras_logs(row))
    return network


def stands_still(rows: Sequence[Mapping[str, float]], patience: int | None, choose_by: str = "accuracy") -> bool:
    """Return whether the last `patience` epochs of `rows` were no better than one before; never where it is None.

    It is a function of what the run has recorded, so that an interrupted run stops after the same epoch.
    """
    if patience is None or not rows:
        return False
    worth = [quality(row, choose_by) for row in rows]
    return len(rows) - 1 - worth.index(max(worth)) >= patience


def show_means(bar: tqdm, means: Mapping[str, float], *, images: int) -> None:
    """Move the bar by a batch, and show the epoch's means so far."""
    shown = {name: f"{means[name]:.3f}" for name in ("loss", "accuracy") if name in means}
    bar.set_postfix(shown, refresh=False)
    bar.update(images)


def _timed_epoch(
    train_epoch: TrainEpoch, epoch: int, bar: tqdm, callback_list: keras.callbacks.CallbackList, *, images: int
) -> dict[str, float]:
    """Train one epoch; return its columns, with how long it took."""
    started = time.perf_counter()
    trained = train_epoch(epoch, bar, callback_list)
    seconds = time.perf_counter() - started
    return {"epoch": epoch + 1, **trained, "seconds": seconds, "images_per_second": images / seconds}


def _set_learning_rate(
    optimizer: keras.optimizers.Optimizer,
    learning_rate: Callable[[int, list[float]], float | None],
    epoch: int,
    validation_losses: list[float],
) -> None:
    """Set the learning rate of `epoch` where it is not that of the epoch before: callbacks may have changed that."""
    rate = learning_rate(epoch, validation_losses)
    if rate is not None and (epoch == 0 or rate != learning_rate(epoch - 1, validation_losses[:-1])):
        optimizer.learning_rate = rate


def _check_callbacks(callbacks: Sequence[keras.callbacks.Callback], optimizer: keras.optimizers.Optimizer) -> None:
    """Refuse callbacks that set a learning rate which a schedule computes: Keras fails in the middle of the run.

    Raises:
        InputError: there is such a callback.
    """
    if not isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return
    setters = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
    for callback in callbacks:
        if isinstance(callback, setters):
            raise InputError(
                f"{type(callback).__name__} sets a learning rate that a schedule computes in every step: give the "
                'recipe schedule="constant", or omit the callback'
            )


@contextmanager
def _kept_on_interrupt(run: RunDirectory, epochs: int) -> Iterator[None]:
    """Say how much of the run is kept where the user interrupts it."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{run.saved_epochs} of {epochs} epochs are kept in {run.path}")
        raise


def _reseed(trained: Sequence[keras.Layer], *, seed: int, epoch: int) -> None:
    """Set the generators of dropout to a state that `seed` and `epoch` alone decide.

    Keras files do not hold these states; so an epoch repeated after an interruption drops the same units.
    """
    variables = [variable for layer in trained for variable in layer.variables]
    generators = [variable for variable in variables if variable.name == "seed_generator_state"]
    for generator, state in zip(
        generators, np.random.SeedSequence([seed, epoch]).generate_state(len(generators)), strict=True
    ):
        generator.assign([state, 0])
