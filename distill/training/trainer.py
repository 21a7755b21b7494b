"""The trainer: one `tf.GradientTape` step, several of them in one call, and an epoch of those."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.data.rendering import render, warp_anywhere
from distill.data.view_columns import PARAMETERS
from distill.errors import InputError
from distill.losses.objective import LOGITS, Batch, Objective, own_layers
from distill.refusals import reason
from distill.runs.run_directory import RunDirectory
from distill.runs.scope import scope_of
from distill.training.batches import JointBatches, Rows, ViewBatches
from distill.training.epochs import run_epochs, show_means
from distill.training.reading_ahead import ReadAhead
from distill.training.replicas import Replicas, average_statistics, check_agreement
from distill.training.student_outputs import StudentOutputs, build_objective, trained_variables
from distill.training.validation import SMALLER_RATE

Sums = dict[str, tf.Tensor]
# What is divided by a count rather than by weights.
_COUNTED = {"correct": ("accuracy", "labelled"), "agreeing": ("agreement", "images")}

# How TensorFlow reports that another process is gone.
_OF_LOST_WORKERS = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    *(tf.errors.DeadlineExceededError, tf.errors.InternalError),
)

# What is done between two looks at the progress bar: the less, the more time Python takes; the more, the more memory.
_STEPS_PER_CALL = 16
_BYTES_PER_CALL = 32 * 2**20


def train_step(
    student: StudentOutputs,
    optimizer: keras.optimizers.Optimizer,
    objective: Objective,
    batch: Batch,
    progress: tf.Tensor,
) -> Sums:
    """Move the student, and the layers of the objective, one step down the loss.

    The loss is the mean over the batch weighted by `sample_weights`, plus the regularisers of the student and of the
    objective's layers. Nothing else changes. Among several replicas `batch` is the share of one: the mean is
    that over the whole batch, and every replica takes the same step. What a network or an objective computes over a
    batch, such as the statistics of batch norms, is over the share.

    Args:
        progress: scalar 0..1, how much of the run is done.

    Returns:
        Scalars: "loss" and its parts, each a sum over the batch of weight times value, and "weight" to divide them
        by; and how many "images" there are, how many of them are "labelled", how many of those "correct", and with a
        teacher's logits how many are "agreeing" with it. Sums rather than means, so that a short batch counts for as
        many examples as it has.
    """
    replica = tf.distribute.get_replica_context()
    weight = tf.reduce_sum(batch.sample_weights)
    weight_of_all = _sum_of_all(replica, weight)
    with tf.GradientTape() as tape:
        outputs = student(batch.images)
        parts = objective(outputs, batch, progress)
        sums = {name: tf.reduce_sum(batch.sample_weights * tf.cast(part, tf.float32)) for name, part in parts.items()}
        of_layers = (loss for layer in own_layers(objective, student.network) for loss in layer.losses)
        regularisers = [tf.cast(loss, tf.float32) for loss in (*student.losses, *of_layers)]
        regularisation = tf.add_n(regularisers) if regularisers else 0.0
        share = tf.math.divide_no_nan(sums["loss"], weight_of_all) + regularisation / replica.num_replicas_in_sync
    variables = trained_variables(student.network, objective)
    gradients = tape.gradient(share, variables)
    if optimizer.global_clipnorm and replica.num_replicas_in_sync > 1:  # it is the norm of all together
        gradients = [gradient / replica.num_replicas_in_sync for gradient in _sum_of_all(replica, gradients)]
    optimizer.apply(gradients, variables)  # which adds up those of all replicas
    return {**sums, "weight": weight, **_counts(outputs[LOGITS], batch)}


def _sum_of_all(replica: tf.distribute.ReplicaContext, value: Any) -> Any:
    # TensorFlow keeps every graph with an `all_reduce`, and all it refers to, until the process ends.
    return value if replica.num_replicas_in_sync == 1 else replica.all_reduce(tf.distribute.ReduceOp.SUM, value)


def _counts(student_logits: tf.Tensor, batch: Batch) -> Sums:
    predicted = tf.argmax(student_logits, axis=-1)
    labelled = tf.reduce_any(batch.label_probs > 0, axis=-1)
    hits = {"labelled": labelled, "correct": labelled & (predicted == tf.argmax(batch.label_probs, axis=-1))}
    if LOGITS in batch.teacher:
        hits["agreeing"] = predicted == tf.argmax(batch.teacher[LOGITS], axis=-1)
    counts = {name: tf.reduce_sum(tf.cast(hit, tf.float32)) for name, hit in hits.items()}
    return {**counts, "images": tf.cast(tf.shape(predicted)[0], tf.float32)}


class CompiledSteps:
    """`train_step` of a student, as a graph that renders the views and takes several steps in one call.

    A graph is traced at the first call, and for images of another size again: for any number of steps, and batches
    of any size.
    """

    def __init__(
        self,
        student: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        columns: Sequence[str] = PARAMETERS,
    ):
        self.student, self._optimizer, self._objective = student, optimizer, objective
        self._outputs = StudentOutputs(student, objective.student_layers)
        self._strategy = student.distribute_strategy
        self.replicas = Replicas.of(self._strategy)
        self._columns = tuple(columns)
        self._render = compiled_render(student.input_shape[1:], self._columns)
        self._graphs: dict[tuple[int, ...], Callable[[Rows, np.ndarray], Sums]] = {}

    def __call__(self, rows: Rows, progress: Sequence[float] | np.ndarray) -> dict[str, np.ndarray]:
        """Take a step for each batch in `rows`, [steps, B, ...].

        Args:
            rows: of every batch the part that the replicas of this process take.
            progress: of each step, how much of the run is done before it, 0..1.

        Returns:
            What `train_step` returned, added up over all replicas, a row for each step: float32 [steps].
        """
        done = np.array(progress, np.float32)
        image_shape = rows.images_uint8.shape[2:]
        if image_shape not in self._graphs:
            self._check_render(rows)
            signature = tf.nest.map_structure(_of_any_length, (rows, done))
            self._graphs[image_shape] = tf.function(self._steps, input_signature=signature, autograph=False)
        return {name: values.numpy() for name, values in self._graphs[image_shape](rows, done).items()}

    def _check_render(self, rows: Rows) -> None:
        """Let views be drawn without XLA where it cannot compile an operation from outside."""
        if self._columns == PARAMETERS:
            return
        try:
            self._render(rows.images_uint8[0, :1], rows.parameters[0, :1])
        except tf.errors.OpError as error:
            print(f"note: XLA cannot compile these views, so that drawing them takes longer: {reason(error)}")
            self._render = drawn(self.student.input_shape[1:], self._columns)

    def _steps(self, rows: Rows, progress: tf.Tensor) -> Sums:
        step = tf.function(self._step, autograph=False)
        one = tf.nest.map_structure(lambda all_: tf.TensorSpec(all_.shape[1:], all_.dtype), (rows, progress))
        names = step.get_concrete_function(*one).structured_outputs
        return tf.map_fn(
            lambda rows_and_progress: step(*rows_and_progress),
            (rows, progress),
            fn_output_signature=dict.fromkeys(names, tf.float32),
            parallel_iterations=1,
        )

    def _step(self, rows: Rows, progress: tf.Tensor) -> Sums:
        add_up = partial(self._strategy.reduce, tf.distribute.ReduceOp.SUM, axis=None)
        sums = self._strategy.run(self._replica_step, args=(rows, progress))
        return {name: add_up(of_each_replica) for name, of_each_replica in sums.items()}

    def _replica_step(self, rows: Rows, progress: tf.Tensor) -> Sums:
        if self.replicas.here > 1:
            rows = self._share(rows, tf.distribute.get_replica_context().replica_id_in_sync_group)
        images = self._render(rows.images_uint8, rows.parameters)
        batch = Batch(images, rows.label_probs, rows.teacher, rows.sample_weights)
        return train_step(self._outputs, self._optimizer, self._objective, batch, progress)

    def _share(self, rows: Rows, replica: int) -> Rows:
        """What one of the replicas of this process takes of `rows`, [B, ...]."""
        size, place = tf.shape(rows.sample_weights)[0], replica - self.replicas.first
        start, end = (size * at // self.replicas.here for at in (place, place + 1))
        return tf.nest.map_structure(lambda column: column[start:end], rows)


def compiled_render(
    image_shape: tuple[int, int, int], columns: Sequence[str] = PARAMETERS
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return `render` at that size as one loop over the pixels, which XLA makes of it.

    TensorFlow keeps what XLA made until the process ends, so that of built-in operations is made once for each size.
    """
    own = tuple(columns) == PARAMETERS
    return _compiled_once(image_shape, PARAMETERS) if own else _compiled(image_shape, columns)


def _compiled(
    image_shape: tuple[int, int, int], columns: Sequence[str]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return tf.function(drawn(image_shape, columns), jit_compile=True, autograph=False)


def drawn(image_shape: tuple[int, int, int], columns: Sequence[str]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return `render` at that size, as it is."""
    return partial(render, image_shape=image_shape, columns=columns, warp=warp_anywhere)


_compiled_once = cache(_compiled)


def fit(
    student: keras.Model,
    batches: ViewBatches | JointBatches,
    validation: Dataset,
    *,
    objective: Objective,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    progress: bool = True,
    **how,
) -> keras.Model:
    """Train `student` on `objective` with `train_step`; arguments, values and files left are those of `run_epochs`.

    Raises:
        InputError: see `run_epochs`; a batch too small for the replicas that it is divided among; another worker is
            gone.
    """
    replicas = Replicas.of(student.distribute_strategy)
    replicas.check_batch(batches.smallest_batch)
    run.writes = replicas.writes
    student.compile(optimizer=optimizer)  # so that both are saved in one file
    with scope_of(student):
        layers = build_objective(objective, student, batches)
    take_steps = CompiledSteps(student, optimizer, objective, batches.columns)
    train_epoch = partial(_train_epoch, take_steps, objective, layers, batches, epochs)
    how |= {"own_layers": layers}
    how |= {"agree": partial(check_agreement, student.distribute_strategy), "optimizer": optimizer}
    how |= {"progress": progress and replicas.writes}
    if not objective.tested:
        finite = "is finite for all logits, and so is its gradient (a root, logarithm or quotient at 0 is not)"
        how |= {"remedy": f"see whether the objective {objective.formula} {finite}, or {SMALLER_RATE}"}
    try:
        return run_epochs(student, train_epoch, batches, validation, epochs=epochs, run=run, **how)
    except _OF_LOST_WORKERS as error:
        if replicas.here == replicas.number:
            raise
        raise InputError(
            f"the other workers cannot be reached any more ({reason(error)}); {run.saved_epochs} of {epochs} epochs "
            f"are kept in {run.path}: repeat the command of each of them to resume"
        ) from error


def _train_epoch(
    take_steps: CompiledSteps,
    objective: Objective,
    layers: Sequence[keras.layers.Layer],
    batches: ViewBatches | JointBatches,
    epochs: int,
    epoch: int,
    bar: tqdm,
    callbacks: keras.callbacks.CallbackList,
) -> dict[str, float]:
    """Run one epoch; return its columns: means over its examples, and the numbers of the objective at its end."""
    totals: dict[str, float] = {}
    done = 0
    steps_per_call = _steps_per_call(batches)
    with ReadAhead(batches.blocks(epoch, steps=steps_per_call, part=take_steps.replicas.part)) as blocks:
        for rows in blocks:
            steps = done + np.arange(len(rows.sample_weights))
            progress = (epoch + steps / len(batches)) / epochs
            callbacks.on_train_batch_begin(done)
            sums = take_steps(rows, progress)
            for name, values in sums.items():
                totals[name] = totals.get(name, 0.0) + float(values.sum(dtype=np.float64))
            done += len(steps)
            means = _means(totals)
            callbacks.on_train_batch_end(done - 1, means)
            show_means(bar, means, images=int(sums["images"].sum()))
    average_statistics(take_steps.student, layers)
    columns = {f"train_{name}": value for name, value in means.items()}
    numbers = {name: float(value) for name, value in objective.numbers(float(progress[-1])).items()}
    return columns | numbers | {"input_share": blocks.share}


def _steps_per_call(batches: ViewBatches | JointBatches) -> int:
    if batches.online:
        return 1  # its teacher takes longer by far than what several steps in a call could save
    return max(1, min(_STEPS_PER_CALL, _BYTES_PER_CALL // (batches.batch_size * batches.bytes_per_image)))


def _of_any_length(column: np.ndarray) -> tf.TensorSpec:
    """The signature of a column [steps, ...] or [steps, B, ...], whatever their number and B."""
    return tf.TensorSpec([None] * min(2, column.ndim) + list(column.shape[2:]), column.dtype)


def _means(totals: Mapping[str, float]) -> dict[str, float]:
    # Without a label there is no accuracy: 0 would be a measurement.
    counted = {hits: row for hits, row in _COUNTED.items() if hits in totals and totals[row[1]]}
    counts = {mean: totals[hits] / totals[of] for hits, (mean, of) in counted.items()}
    parts = totals.keys() - {"weight", "images", "labelled", *_COUNTED}
    weight = totals["weight"] or 1.0
    return {name: totals[name] / weight for name in totals if name in parts} | counts
