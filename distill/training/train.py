"""Train a network from labels, or from labels and cached logits, into a run directory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.loss_schedule import LossSchedule
from distill.losses.schedules import Ramp, WarmedRamp
from distill.runs.run_directory import RunDirectory
from distill.runs.scope import replicas_of, scope_of
from distill.scoring.network_identity import architecture_sha256, numeric_policy
from distill.scoring.online_teacher import OnlineTeacher
from distill.training.batches import JointBatches, ViewBatches, label_probabilities
from distill.training.checks import check_can_train, check_sample_weights, check_views
from distill.training.ensemble import CachedTeachers
from distill.training.optimizer import build_optimizer, epoch_learning_rate
from distill.training.recipe import Recipe
from distill.training.sources import Beside, Logits, source_batches


def train(
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path,
    logits: Logits | None = None,
    teacher: OnlineTeacher | None = None,
    beside: Sequence[Beside] = (),
    loss: DistillationLoss | None = None,
    temperature_schedule: Ramp | None = None,
    lambda_schedule: WarmedRamp | None = None,
    views: int | None = None,
    recipe: Recipe | None = None,
    sample_weights: np.ndarray | None = None,
    provenance: Mapping | None = None,
    progress: bool = True,
) -> keras.Model:
    """Train `network` on the train split of `dataset`; keep the epoch that is best on its validation split.

    Images without a label teach through their logits alone, and choose nothing. This is the trainer of
    students: one `tf.GradientTape` step, on the TensorFlow backend.

    Args:
        network: takes pixels 0..255 at its own `input_shape`, returns raw logits. Its weights are where
            training begins; they are not part of what decides whether a run in `out` is the same.
        dataset: with a "train" and a "validation" split (see `with_splits`).
        out: the run directory. A finished run of the same settings is returned at once; an interrupted one
            goes on.
        logits: cached logits of a teacher, which also prescribe the views; or of several, which weigh the same
            unless `CachedTeachers` says otherwise. None trains from labels alone.
        teacher: instead of `logits`, a teacher that is asked in every step.
        beside: further data sets that the student learns from in the same run, labelled or not. They choose nothing.
        loss: by default MicroExpNet's with a teacher, and cross entropy without.
        temperature_schedule: how the temperature of `loss` moves over the run; by default it does not.
        lambda_schedule: likewise its lambda, or where it has explicit weights that of the soft part.
        views: without `logits`, how many views of each image the epochs go through; None draws a new one
            in every epoch, or goes through all crops.
        recipe: epochs, learning rate, batch size, seed. The seed does not reach weights that are drawn
            already: call `keras.utils.set_random_seed` before building the network.
        sample_weights: float [len(dataset)], 0 or more, in its order: how much each image counts in the loss, on
            top of the class weights of `recipe`. Only those of the train split are used.
        provenance: JSON-able facts for the run's record, such as the weights that the network begins with.

    Returns:
        The network of the best epoch.

    Raises:
        InputError: the logits are of another data set or class order, or were cached with other views than
            those asked for, or than those of another teacher; `out` holds something else; the network has
            another number of classes or ends in a softmax; a loss with lambda above 0 has no logits to use; no
            label to learn or choose by; random views are asked for where there are none to take from; a setting
            that would be ignored; weights that cannot be used; another process trains into `out`.
    """
    from distill.training.trainer import fit  # needs TensorFlow

    recipe = recipe or Recipe()
    if logits is not None and teacher is not None:
        raise InputError("cached logits and a teacher at hand are two ways to be taught: give one of them")
    teachers = teacher if logits is None else CachedTeachers.of(logits)
    schedule = LossSchedule(
        loss=loss or (DistillationLoss(lambda_=0.0) if teachers is None else DistillationLoss()),
        epochs=recipe.epochs,
        temperature=temperature_schedule or Ramp(),
        soft_weight=lambda_schedule or WarmedRamp(),
    )
    return _run(
        partial(fit, loss=schedule.loss, schedule=schedule),
        network,
        dataset,
        out=out,
        teachers=teachers,
        beside=beside,
        schedule=schedule,
        views=views,
        recipe=recipe,
        sample_weights=sample_weights,
        provenance=provenance,
        progress=progress,
    )


def train_from_labels(
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path,
    views: int | None = None,
    recipe: Recipe | None = None,
    sample_weights: np.ndarray | None = None,
    provenance: Mapping | None = None,
    progress: bool = True,
) -> keras.Model:
    """Train `network` from labels with Keras' own `fit`: the trainer of teachers, on any backend of Keras.

    Arguments, values and errors are those of `train`.
    """
    from distill.training.keras_trainer import fit_labels

    recipe = recipe or Recipe()
    return _run(
        fit_labels,
        network,
        dataset,
        out=out,
        teachers=None,
        beside=(),
        schedule=LossSchedule(loss=DistillationLoss(lambda_=0.0), epochs=recipe.epochs),
        views=views,
        recipe=recipe,
        sample_weights=sample_weights,
        provenance=provenance,
        progress=progress,
    )


def _run(
    fit: Callable[..., keras.Model],
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path,
    teachers: CachedTeachers | OnlineTeacher | None,
    beside: Sequence[Beside],
    schedule: LossSchedule,
    views: int | None,
    recipe: Recipe,
    sample_weights: np.ndarray | None,
    provenance: Mapping | None,
    progress: bool,
) -> keras.Model:
    """Open the run directory, and call `fit` unless the run is complete."""
    check_can_train(network, dataset, schedule=schedule, teachers=teachers, views=views, recipe=recipe)
    for each in beside:
        if each.logits is not None:
            check_views(CachedTeachers.of(each.logits), None, recipe.view)
    dataset.content_hashes  # noqa: B018 - read every image once, not once per split
    training, validation = dataset.split("train"), dataset.split("validation")
    taught_at = np.flatnonzero(dataset.splits == "train")
    if not schedule.loss.uses_teacher:
        taught_at = taught_at[_is_labelled(training)]
    taught = dataset.subset(taught_at)
    given_weights = None
    if sample_weights is not None:
        given_weights = check_sample_weights(sample_weights, taught_at, of=len(dataset))
    batches_of = partial(source_batches, network.input_shape[1:], schedule.loss, recipe)
    batches = batches_of(taught, teachers, views=views, sample_weights=given_weights)
    taught_beside = [each.taught(dataset, teachers, schedule.loss) for each in beside]
    further = [(batches_of(*each, views=views), each[1]) for each in taught_beside]
    if further:
        batches = JointBatches([batches, *(source for source, _ in further)])
    with scope_of(network):
        optimizer = build_optimizer(recipe, steps_per_epoch=len(batches), replicas=replicas_of(network))
    record = _record(
        network, training, validation, batches=batches, teachers=teachers, schedule=schedule, recipe=recipe
    )
    run = RunDirectory(out, record | _optional_record(further, given_weights, replicas_of(network), provenance))
    if run.complete:
        print(f"{run.path} is already complete")
        return run.best_network()
    if progress:
        print(f"{network.name} ({network.count_params():,} parameters) learns {schedule.formula}")
    return fit(
        network,
        batches,
        validation.subset(_is_labelled(validation)),
        optimizer=optimizer,
        epochs=recipe.epochs,
        learning_rate=partial(epoch_learning_rate, recipe, steps_per_epoch=len(batches)),
        patience=recipe.patience,
        run=run,
        progress=progress,
    )


def _is_labelled(dataset: Dataset) -> np.ndarray:
    return label_probabilities(dataset).any(axis=1)


def _record(
    network: keras.Model,
    training: Dataset,
    validation: Dataset,
    *,
    batches: ViewBatches | JointBatches,
    teachers: CachedTeachers | OnlineTeacher | None,
    schedule: LossSchedule,
    recipe: Recipe,
) -> dict:
    """What makes this run the run it is."""
    return {
        "settings": asdict(recipe),
        "network": {
            "name": network.name,
            "input_shape": network.input_shape[1:],
            "parameters": network.count_params(),
            "architecture_sha256": architecture_sha256(network),
            "policy": numeric_policy(network),
        },
        "class_names": training.class_names,
        "data": {"name": training.name}
        | {
            name: {"images": len(split), "fingerprint": split.fingerprint}
            for name, split in (("train", training), ("validation", validation))
        },
        "loss": schedule.describe(),
        "views": {"spec": batches.view_spec.to_dict(), "number": batches.views},
        "teacher": None if teachers is None else teachers.describe(),
    }


def _optional_record(
    further: Sequence[tuple[ViewBatches, CachedTeachers | OnlineTeacher | None]],
    given_weights: np.ndarray | None,
    replicas: int,
    provenance: Mapping | None,
) -> dict:
    """What stands in a record only where it was given."""
    known = {name: value for name, value in (provenance or {}).items() if value is not None}
    record = {"provenance": known} if known else {}
    if replicas > 1:
        record["replicas"] = replicas
    if given_weights is not None:
        record["sample_weights_sha256"] = sha256(given_weights.tobytes()).hexdigest()
    if further:
        record["beside"] = [
            {
                "images": source.images,
                "fingerprint": source.dataset.fingerprint,
                "views": {"spec": source.view_spec.to_dict(), "number": source.views},
                "teacher": None if teachers is None else teachers.describe(),
            }
            for source, teachers in further
        ]
    return record
