"""Train a network on an objective, or from labels with Keras' own `fit`, into a run directory."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distill.data.dataset import Dataset, check_is_dataset
from distill.errors import InputError
from distill.losses.distillation_loss import DistillationLoss
from distill.losses.objective import DistillationObjective, Objective, as_objective
from distill.runs.run_directory import RunDirectory
from distill.runs.run_record import (
    CommandRecord,
    DataRecord,
    NetworkRecord,
    RunRecord,
    SplitRecord,
    ViewsRecord,
)
from distill.runs.scope import replicas_of, scope_of
from distill.runs.training_images import TrainingImages
from distill.scoring.network_identity import architecture_sha256, numeric_policy, wiring_sha256
from distill.training.batches import JointBatches, ViewBatches
from distill.training.checks import check_can_train, check_sample_weights, check_views
from distill.training.ending import complete_text, ending_text
from distill.training.ensemble import CachedTeachers, Logits
from distill.training.epochs import with_history
from distill.training.labels import is_labelled
from distill.training.optimizer import build_optimizer, epoch_learning_rate
from distill.training.recipe import Recipe
from distill.training.sources import ExtraData, Teacher, as_teacher, source_batches


def train(
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path | None = None,
    logits: Logits | None = None,
    teacher: Teacher | keras.Model | None = None,
    extra_data: Sequence[ExtraData] = (),
    objective: Objective | DistillationLoss | Callable | str | None = None,
    views: int | None = None,
    recipe: Recipe | None = None,
    sample_weights: np.ndarray | None = None,
    begins_with_sha256: str | None = None,
    command: CommandRecord | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
    overwrite: bool = False,
) -> keras.Model:
    """Train `network` on the train split of `dataset`; keep the epoch that is best on its validation split.

    Images without a label teach through their teacher alone, and choose nothing. This is the trainer of
    students: one `tf.GradientTape` step, on the TensorFlow backend.

    Args:
        network: any model that takes pixels 0..255 at its own `input_shape` and returns raw logits. Its weights are
            where training begins; they are not part of what decides whether a run in `out` is the same.
        dataset: with a "train" and a "validation" split (see `with_splits`).
        out: the run directory. A finished run of the same settings is returned at once; an interrupted one
            goes on. None makes a new one among the system's temporary files, and prints where.
        logits: cached logits of a teacher, or the path of their file, which also prescribe the views; or of several,
            which weigh the same unless `CachedTeachers` says otherwise. None trains from labels alone.
        teacher: instead of `logits`, a `keras.Model` of the classes of `dataset` in their order, which computes its
            logits for every batch, an `OnlineTeacher`, or whatever keeps the protocol `Teacher`.
        extra_data: further datasets that the student learns from in the same run, labelled or not. They choose
            nothing.
        objective: what is learned: an `Objective`, or anything that `as_objective` takes, such as a function of
            student_logits and teacher_logits. By default Hinton's loss (T = 4, lambda = 0.9) with a teacher, cross
            entropy without.
        views: without `logits`, how many views of each image the epochs go through; None draws a new one
            in every epoch, or goes through all crops.
        recipe: epochs, learning rate, batch size, seed. The seed does not reach weights that are drawn
            already: call `keras.utils.set_random_seed` before building the network.
        sample_weights: float [len(dataset)], 0 or more, in its order: how much each image counts in the loss, on
            top of the class weights of `recipe`. Only those of the train split are used.
        begins_with_sha256: of the weights of a trained network that `network` begins with, for the run's record.
        command: that called this, for the run's record.
        callbacks: of Keras, with the logs of an epoch that `fit` gives ("loss", "val_loss", ...). They are no part
            of what decides whether a run in `out` is the same.
        progress: show a bar, and say in the end what came out.
        overwrite: delete the run in `out`, if there is one, and train anew. Other files in that folder stay.

    Returns:
        The network of the best epoch; its attribute `history` is Keras' own.

    Raises:
        InputError: the logits are of another dataset or class order, or were cached with other views than
            those of `recipe`, or than those of another teacher; `out` holds something else; the network has
            another number of classes or ends in a softmax; the objective has no teacher to learn from; no
            label to learn or choose by; random views where there are none to take from; a setting
            that would be ignored; weights that cannot be used; another process trains into `out`.
    """
    from distill.training.trainer import fit  # needs TensorFlow

    if logits is not None and teacher is not None:
        raise InputError("cached logits and an online teacher are two ways to be taught: give one of them")
    teacher = as_teacher(teacher, dataset) if logits is None else CachedTeachers.of(logits)
    if objective is None:
        objective = DistillationLoss(lambda_=0.0) if teacher is None else DistillationLoss()
    job = _Job(
        network=network,
        dataset=dataset,
        out=None if out is None else Path(out),
        teacher=teacher,
        extra_data=tuple(extra_data),
        objective=as_objective(objective),
        views=views,
        recipe=recipe or Recipe(),
        sample_weights=sample_weights,
        begins_with_sha256=begins_with_sha256,
        command=command,
        callbacks=tuple(callbacks),
        progress=progress,
        overwrite=overwrite,
    )
    return job.run(partial(fit, objective=job.objective))


def train_from_labels(
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path | None = None,
    views: int | None = None,
    recipe: Recipe | None = None,
    sample_weights: np.ndarray | None = None,
    begins_with_sha256: str | None = None,
    command: CommandRecord | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
    overwrite: bool = False,
) -> keras.Model:
    """Train `network` from labels with Keras' own `fit`: the trainer of teachers, on any backend of Keras.

    Arguments, values and errors are those of `train`.
    """
    from distill.training.keras_trainer import fit_labels

    job = _Job(
        network=network,
        dataset=dataset,
        out=None if out is None else Path(out),
        objective=DistillationObjective(loss=DistillationLoss(lambda_=0.0)),
        views=views,
        recipe=recipe or Recipe(),
        sample_weights=sample_weights,
        begins_with_sha256=begins_with_sha256,
        command=command,
        callbacks=tuple(callbacks),
        progress=progress,
        overwrite=overwrite,
    )
    return job.run(fit_labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """What `train` was called with."""

    network: keras.Model
    dataset: Dataset
    out: Path | None
    teacher: Teacher | None = None
    extra_data: tuple[ExtraData, ...] = ()
    objective: Objective
    views: int | None
    recipe: Recipe
    sample_weights: np.ndarray | None
    begins_with_sha256: str | None
    command: CommandRecord | None
    callbacks: tuple[keras.callbacks.Callback, ...]
    progress: bool
    overwrite: bool

    def run(self, fit: Callable[..., keras.Model]) -> keras.Model:
        """Open the run directory, and call `fit` unless the run is complete."""
        check_is_dataset(self.dataset)
        self._check()
        self.dataset.content_hashes  # noqa: B018 - read every image once, not once per split
        main, further = self._main_source(), self._further_sources()
        batches = JointBatches([main, *(source for source, _ in further)]) if further else main
        with scope_of(self.network):
            optimizer = build_optimizer(self.recipe, steps_per_epoch=len(batches), replicas=replicas_of(self.network))
        directory = RunDirectory(
            self.out or tempfile.mkdtemp(prefix="distill-run-"),
            self._record(batches, further),
            training_images=TrainingImages.of(main.dataset, *(source.dataset for source, _ in further)),
            neutral_recipe=asdict(Recipe()),
            overwrite=self.overwrite,
        )
        if directory.complete:
            print(complete_text(directory))
            return with_history(directory.best_network(), directory.rows)
        if self.progress:
            parameters = f"{self.network.name} ({self.network.count_params():,} parameters)"
            print(f"{parameters} learns {self.objective.formula}")
        validation = self.dataset.split("validation")
        validation = validation.subset(is_labelled(validation))
        best = fit(
            self.network,
            batches,
            validation,
            optimizer=optimizer,
            epochs=self.recipe.epochs,
            learning_rate=partial(epoch_learning_rate, self.recipe, steps_per_epoch=len(batches)),
            patience=self.recipe.patience,
            callbacks=self.callbacks,
            run=directory,
            progress=self.progress,
        )
        if self.progress and directory.writes:
            print(ending_text(directory, validation))
        return best

    def _check(self) -> None:
        check_can_train(
            self.network,
            self.dataset,
            objective=self.objective,
            teacher=self.teacher,
            views=self.views,
            recipe=self.recipe,
        )
        for each in self.extra_data:
            if each.logits is not None:
                check_views(CachedTeachers.of(each.logits), None, self.recipe.view)

    def _main_source(self) -> ViewBatches:
        taught_at = np.flatnonzero(self.dataset.splits == "train")
        if not self.objective.teacher_outputs:
            taught_at = taught_at[is_labelled(self.dataset.split("train"))]
        taught, weights = self.dataset.subset(taught_at), self._weights(taught_at)
        return self._batches(taught, self.teacher, views=self.views, sample_weights=weights)

    def _further_sources(self) -> list[tuple[ViewBatches, Teacher | None]]:
        """Return the batches of each of the extra data, with its teacher."""
        of_each = [each.taught(self.dataset, self.teacher, self.objective) for each in self.extra_data]
        return [(self._batches(images, teacher, views=self.views), teacher) for images, teacher in of_each]

    def _batches(self, images: Dataset, teacher: Teacher | None, **options: Any) -> ViewBatches:
        return source_batches(self.network.input_shape[1:], self.objective, self.recipe, images, teacher, **options)

    def _weights(self, taught_at: np.ndarray) -> np.ndarray | None:
        if self.sample_weights is None:
            return None
        return check_sample_weights(self.sample_weights, taught_at, of=len(self.dataset))

    def _record(
        self, batches: ViewBatches | JointBatches, further: Sequence[tuple[ViewBatches, Teacher | None]]
    ) -> RunRecord:
        weights = None if self.sample_weights is None else np.asarray(self.sample_weights, np.float32)
        return RunRecord(
            recipe={each.name: asdict(self.recipe)[each.name] for each in fields(Recipe)},
            data=_data_record(self.dataset, learned=batches.dataset),
            extra_data=tuple(_extra_record(source, teacher) for source, teacher in further),
            views=ViewsRecord(spec=batches.view_spec.to_dict(), number=batches.views),
            objective=self.objective.describe(),
            network=NetworkRecord(
                name=self.network.name,
                input_shape=tuple(self.network.input_shape[1:]),
                parameters=self.network.count_params(),
                architecture_sha256=architecture_sha256(self.network),
                wiring_sha256=wiring_sha256(self.network),
                policy=numeric_policy(self.network),
            ),
            teacher=None if self.teacher is None else self.teacher.describe(),
            begins_with_sha256=self.begins_with_sha256,
            sample_weights_sha256=None if weights is None else sha256(weights.tobytes()).hexdigest(),
            replicas=replicas_of(self.network),
            command=self.command,
        )


def _data_record(dataset: Dataset, *, learned: Dataset) -> DataRecord:
    all_learned = len(learned) == np.count_nonzero(dataset.splits == "train")  # else some have no label
    return DataRecord(
        name=dataset.name,
        class_names=tuple(dataset.class_names),
        class_map=dict(dataset.class_map),
        splits=dataset.split_policy,
        train=_split_record(learned if all_learned else dataset.split("train")),
        validation=_split_record(dataset.split("validation")),
        image_shape=dataset.image_shape,
    )


def _split_record(part: Dataset) -> SplitRecord:
    return SplitRecord(images=len(part), fingerprint=part.fingerprint)


def _extra_record(source: ViewBatches, teacher: Teacher | None) -> dict[str, Any]:
    return {
        "images": source.images,
        "fingerprint": source.dataset.fingerprint,
        "views": {"spec": source.view_spec.to_dict(), "number": source.views},
        "teacher": None if teacher is None else teacher.describe(),
    }
