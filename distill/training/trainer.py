"""The trainer: one `tf.GradientTape` step, and an epoch of them."""

from collections.abc import Callable, Mapping
from functools import partial

import keras
import tensorflow as tf
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.data.views import PARAMETERS
from distill.training.batches import Batch, Rows, ViewBatches
from distill.training.epochs import run_epochs, show_means
from distill.training.losses import DistillationLoss
from distill.training.run_directory import RunDirectory

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


def rendered_epoch(batches: ViewBatches, epoch: int) -> tf.data.Dataset:
    """Return the batches of one epoch as a `tf.data.Dataset` of `Batch`, rendered ahead of the step."""
    classes = batches.dataset.num_classes
    signature = Rows(
        images_uint8=tf.TensorSpec([None, *batches.dataset.image_shape], tf.uint8),
        parameters=tf.TensorSpec([None, len(PARAMETERS)], tf.float32),
        label_probs=tf.TensorSpec([None, classes], tf.float32),
        teacher_logits=tf.TensorSpec([None, 0 if batches.teacher_logits is None else classes], tf.float32),
        sample_weights=tf.TensorSpec([None], tf.float32),
    )
    rows = tf.data.Dataset.from_generator(lambda: batches.epoch(epoch), output_signature=signature)
    return rows.map(batches.render).prefetch(2)


def fit(
    student: keras.Model,
    batches: ViewBatches,
    validation: Dataset,
    *,
    loss: DistillationLoss,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    **how,
) -> keras.Model:
    """Train `student` on `loss` with `train_step`; arguments, values and files left are those of `run_epochs`."""
    student.compile(optimizer=optimizer)  # so that both are saved in one file
    train_epoch = partial(_train_epoch, compiled_step(student, optimizer, loss), batches)
    return run_epochs(student, train_epoch, batches, validation, optimizer=optimizer, epochs=epochs, run=run, **how)


def _train_epoch(step: Callable[[Batch], Sums], batches: ViewBatches, epoch: int, bar: tqdm) -> dict[str, float]:
    """Run one epoch; return means over its examples."""
    totals: dict[str, float] = {}
    for batch in rendered_epoch(batches, epoch):
        for name, value in step(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
        means = _means(totals)
        show_means(bar, means, images=len(batch.label_probs))
    return means


def _means(totals: Mapping[str, float]) -> dict[str, float]:
    sums = dict(totals)
    weight = sums.pop("weight")
    sums["accuracy"] = sums.pop("correct")
    return {name: value / weight for name, value in sums.items()}
