"""The trainer: one `tf.GradientTape` step, and an epoch of them."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import keras
import tensorflow as tf
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.data.views import PARAMETERS
from distill.training.batches import Batch, Rows, ViewBatches
from distill.training.distillation_loss import DistillationLoss
from distill.training.epochs import run_epochs, show_means
from distill.training.loss_schedule import LossSchedule
from distill.training.run_directory import RunDirectory

Sums = dict[str, tf.Tensor]
_COUNTED = {"correct": "accuracy", "agreeing": "agreement"}  # what is divided by images rather than by weights


def train_step(
    student: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: DistillationLoss,
    batch: Batch,
    **loss_numbers: tf.Tensor | tuple[tf.Tensor, tf.Tensor],
) -> Sums:
    """Move the student one step down the loss.

    The loss is the mean over the batch weighted by `sample_weights`, plus the student's own regularisers.
    Only the student's trainable variables change.

    Args:
        loss_numbers: scalars in place of the loss' constants, such as `temperature`.

    Returns:
        Scalars: "loss" and its parts, each a sum over the batch of weight times value, and "weight" to divide them
        by; and how many "images" there are, how many are "correct", and with a teacher how many are "agreeing" with
        it. Sums rather than means, so that a short batch counts for as many examples as it has.
    """
    with tf.GradientTape() as tape:
        student_logits = student(batch.images, training=True)
        parts = loss(
            student_logits=student_logits,
            labels=batch.label_probs,
            teacher_logits=batch.teacher_logits,
            **loss_numbers,
        )
        weight = tf.reduce_sum(batch.sample_weights)
        sums = {name: tf.reduce_sum(batch.sample_weights * part) for name, part in parts.items()}
        regularisation = tf.add_n(student.losses) if student.losses else 0.0
        total = tf.math.divide_no_nan(sums["loss"], weight) + regularisation
    gradients = tape.gradient(total, student.trainable_variables)
    optimizer.apply(gradients, student.trainable_variables)
    return {**sums, "weight": weight, **_counts(student_logits, batch)}


def _counts(student_logits: tf.Tensor, batch: Batch) -> Sums:
    predicted = tf.argmax(student_logits, axis=-1)
    labelled = tf.reduce_any(batch.label_probs > 0, axis=-1)
    hits = {"correct": labelled & (predicted == tf.argmax(batch.label_probs, axis=-1))}
    if batch.teacher_logits.shape[-1]:
        hits["agreeing"] = predicted == tf.argmax(batch.teacher_logits, axis=-1)
    counts = {name: tf.reduce_sum(tf.cast(hit, tf.float32)) for name, hit in hits.items()}
    return {**counts, "images": tf.cast(tf.shape(predicted)[0], tf.float32)}


def compiled_step(
    student: keras.Model, optimizer: keras.optimizers.Optimizer, loss: DistillationLoss
) -> Callable[..., Sums]:
    """Return `train_step` of these three as a graph that takes a batch of any size, and the loss' numbers."""
    return tf.function(partial(train_step, student, optimizer, loss), reduce_retracing=True, autograph=False)


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
    render = tf.autograph.experimental.do_not_convert(batches.render)  # it is traced anew in every epoch
    return rows.map(render).prefetch(2)


def fit(
    student: keras.Model,
    batches: ViewBatches,
    validation: Dataset,
    *,
    loss: DistillationLoss,
    schedule: LossSchedule | None = None,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    **how,
) -> keras.Model:
    """Train `student` on `loss` with `train_step`; arguments, values and files left are those of `run_epochs`.

    Args:
        schedule: how the numbers of `loss` move over the run; None leaves them as they are.
    """
    student.compile(optimizer=optimizer)  # so that both are saved in one file
    schedule = schedule or LossSchedule(loss=loss, epochs=epochs)
    train_epoch = partial(_train_epoch, compiled_step(student, optimizer, loss), schedule, batches)
    return run_epochs(student, train_epoch, batches, validation, optimizer=optimizer, epochs=epochs, run=run, **how)


def _train_epoch(
    step: Callable[..., Sums], schedule: LossSchedule, batches: ViewBatches, epoch: int, bar: tqdm
) -> dict[str, float]:
    """Run one epoch; return its columns: means over its examples, and the numbers of the loss at its end."""
    totals: dict[str, float] = {}
    started = time.perf_counter()
    rendered = _Awaited(rendered_epoch(batches, epoch))
    for done, batch in enumerate(rendered):
        numbers = schedule.numbers(epoch + done / len(batches))
        arguments = tf.nest.map_structure(tf.constant, schedule.arguments(numbers))  # a number would be a new graph
        for name, value in step(batch, **arguments).items():
            totals[name] = totals.get(name, 0.0) + float(value)
        means = _means(totals)
        show_means(bar, means, images=len(batch.label_probs))
    columns = {f"train_{name}": value for name, value in means.items()}
    return {**columns, **numbers, "input_share": rendered.seconds / (time.perf_counter() - started)}


class _Awaited:
    """Goes through `items`, and adds up the `seconds` for which they were waited for."""

    def __init__(self, items: Iterable[Batch]):
        self._items, self.seconds = iter(items), 0.0

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - asked


def _means(totals: Mapping[str, float]) -> dict[str, float]:
    sums = dict(totals)
    weight, images = sums.pop("weight"), sums.pop("images")
    counted = {mean: sums.pop(count) / images for count, mean in _COUNTED.items() if count in sums}
    return {**{name: value / (weight or 1.0) for name, value in sums.items()}, **counted}
