"""The trainer: one `tf.GradientTape` step, and the loop of epochs around it."""

import math
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.errors import InputError
from distill.training.batches import Batch, ViewBatches, label_probabilities
from distill.training.losses import DistillationLoss, cross_entropy
from distill.training.run_directory import RunDirectory
from distill.training.scoring import Scorer

Sums = dict[str, tf.Tensor]


def train_step(
    student: keras.Model, optimizer: keras.optimizers.Optimizer, loss: DistillationLoss, batch: Batch
) -> Sums:
    """Move the student one step down the loss.

    The loss is the mean over the batch weighted by `sample_weights`, plus the student's own regularisers.
    Only the student's trainable variables change.

    Returns:
        Scalars, each a sum over the batch of weight times value: "loss" and its parts, "correct", and
        "weight" to divide them by. Sums rather than means, so that a short batch counts for as many
        examples as it has.
    """
    with tf.GradientTape() as tape:
        student_logits = student(batch.images, training=True)
        parts = loss(student_logits=student_logits, labels=batch.label_probs, teacher_logits=batch.teacher_logits)
        weight = tf.reduce_sum(batch.sample_weights)
        sums = {name: tf.reduce_sum(batch.sample_weights * part) for name, part in parts.items()}
        regularisation = tf.add_n(student.losses) if student.losses else 0.0
        total = sums["loss"] / weight + regularisation
    gradients = tape.gradient(total, student.trainable_variables)
    optimizer.apply(gradients, student.trainable_variables)
    correct = tf.argmax(student_logits, axis=-1) == tf.argmax(batch.label_probs, axis=-1)
    labelled = tf.reduce_any(batch.label_probs > 0, axis=-1)
    sums["correct"] = tf.reduce_sum(batch.sample_weights * tf.cast(correct & labelled, tf.float32))
    return {**sums, "weight": weight}


def compiled_step(
    student: keras.Model, optimizer: keras.optimizers.Optimizer, loss: DistillationLoss
) -> Callable[[Batch], Sums]:
    """Return `train_step` of these three as a graph that takes a batch of any size."""
    return tf.function(
        lambda batch: train_step(student, optimizer, loss, batch), reduce_retracing=True, autograph=False
    )


def fit(
    student: keras.Model,
    batches: ViewBatches,
    validation: Dataset,
    *,
    loss: DistillationLoss,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    progress: bool = True,
) -> keras.Model:
    """Train `student` and leave metrics, curves and checkpoints in `run`.

    An interrupted run that is given the same arguments goes on after its last finished epoch.

    Args:
        student: takes pixels 0..255 of `batches.image_shape`, returns logits.
        validation: chooses the best epoch, by accuracy on the untouched images (view 0).
        epochs: how many passes over the training images in all.
        progress: show a bar with loss, accuracy, images/s and time left, over the whole run.

    Returns:
        The student of the best epoch, as saved in the run directory.
    """
    first_epoch = run.restore(student, optimizer, steps_per_epoch=len(batches))
    step = compiled_step(student, optimizer, loss)
    validate = Scorer(student, validation)
    images = len(batches.dataset)
    with tqdm(total=epochs * images, initial=first_epoch * images, unit="image", disable=not progress) as bar:
        for epoch in range(first_epoch, epochs):
            bar.set_description(f"{student.name} {epoch + 1}/{epochs}", refresh=False)
            _reseed(student, seed=batches.seed, epoch=epoch)
            started = time.perf_counter()
            trained = _train_epoch(step, batches, epoch, bar)
            seconds = time.perf_counter() - started
            if not math.isfinite(trained["loss"]):
                raise InputError(
                    f"the loss of epoch {epoch + 1} is {trained['loss']}: try a smaller learning rate (--lr)"
                )
            row = {
                "epoch": epoch + 1,
                **{f"train_{name}": value for name, value in trained.items()},
                **_validation_metrics(validate, validation),
                "learning_rate": float(optimizer.learning_rate),
                "seconds": seconds,
                "images_per_second": images / seconds,
            }
            run.record_epoch(student, row)
    return run.finish()


def _reseed(network: keras.Model, *, seed: int, epoch: int) -> None:
    """Set the generators of dropout to a state that `seed` and `epoch` alone decide.

    Keras files do not hold these states; so an epoch repeated after an interruption drops the same units.
    """
    generators = [variable for variable in network.variables if variable.name == "seed_generator_state"]
    for generator, state in zip(
        generators, np.random.SeedSequence([seed, epoch]).generate_state(len(generators)), strict=True
    ):
        generator.assign([state, 0])


def _train_epoch(step: Callable[[Batch], Sums], batches: ViewBatches, epoch: int, bar: tqdm) -> dict[str, float]:
    """Run one epoch; return means over its examples."""
    totals: dict[str, float] = {}
    for batch in batches.epoch(epoch):
        for name, value in step(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
        means = _means(totals)
        bar.set_postfix(loss=f"{means['loss']:.3f}", accuracy=f"{means['accuracy']:.3f}", refresh=False)
        bar.update(len(batch.label_probs))
    return means


def _means(totals: Mapping[str, float]) -> dict[str, float]:
    sums = dict(totals)
    weight = sums.pop("weight")
    sums["accuracy"] = sums.pop("correct")
    return {name: value / weight for name, value in sums.items()}


def _validation_metrics(scorer: Scorer, validation: Dataset) -> dict[str, float]:
    logits = scorer.score(np.arange(len(validation)))[:, 0]
    losses = cross_entropy(student_logits=tf.constant(logits), labels=tf.constant(label_probabilities(validation)))
    return {
        "validation_loss": float(tf.reduce_mean(losses)),
        "validation_accuracy": float(np.mean(logits.argmax(axis=1) == validation.labels)),
    }
