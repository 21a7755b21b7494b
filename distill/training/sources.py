"""What a student learns from: the images of a data set, with their labels, and with what a teacher says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.duplicates import copies_of
from distill.errors import InputError
from distill.logit_store import LogitStore
from distill.losses.distillation_loss import DistillationLoss
from distill.scoring.online_teacher import OnlineTeacher
from distill.training.batches import ViewBatches, balanced_weights, label_probabilities
from distill.training.ensemble import CachedTeachers
from distill.training.recipe import Recipe

Logits = LogitStore | Sequence[LogitStore] | CachedTeachers
Teachers = CachedTeachers | OnlineTeacher


@dataclass(frozen=True, eq=False)
class Beside:
    """A further data set to learn from, such as unlabelled faces of one's own; its test and validation splits not."""

    dataset: Dataset
    """Of the classes of the run in the same order, or without any."""
    logits: Logits | None = None
    """What the teacher of the run says of it; None where that is asked in every step, or where there is none."""

    def taught(
        self, main: Dataset, teachers: Teachers | None, loss: DistillationLoss
    ) -> tuple[Dataset, Teachers | None]:
        """Return the images to learn from, and what teaches them.

        Images that are exact copies of one in the validation or the test split of `main` are left out.

        Args:
            main: what the run is judged by.
            teachers: those of `main`.

        Raises:
            InputError: other classes than those of `main`, no logits or those of another teacher, or nothing to
                learn from.
        """
        if (self.logits is not None) != isinstance(teachers, CachedTeachers):
            wanted = "its own logits, like all data sets of the run" if self.logits is None else "no logits"
            raise InputError(f"{self.dataset.name} beside {main.name} needs {wanted}: see --beside-logits")
        own = teachers if self.logits is None else CachedTeachers.of(self.logits)
        if self.logits is not None:
            _check_same_teachers(own, teachers)
        dataset = _with_classes_of(main, self.dataset)
        copies = copies_of(dataset, main.subset(np.isin(main.splits, ("validation", "test"))))
        if copies.any():
            print(f"note: {copies.sum()} images of {dataset.name} are left out: {main.name} judges by copies of them")
        learned = ~copies & ~np.isin(dataset.splits, ("validation", "test"))
        if not loss.uses_teacher:
            learned &= label_probabilities(dataset).any(axis=1)
        if not learned.any():
            raise InputError(f"{dataset.name} has nothing to learn from beside {main.name}: leave it out")
        return dataset.subset(learned), own


def source_batches(
    image_shape: tuple[int, int, int],
    loss: DistillationLoss,
    recipe: Recipe,
    taught: Dataset,
    teachers: Teachers | None,
    *,
    views: int | None,
    sample_weights: np.ndarray | None = None,
) -> ViewBatches:
    """Return the batches of one data set.

    Args:
        image_shape: height, width and channels that the student takes.
        views: where no cached logits prescribe it, how many views the epochs take from.
        sample_weights: float32 [len(taught)], on top of the class weights of `recipe`.

    Raises:
        InputError: logits or a teacher that do not fit `taught`.
    """
    cached = isinstance(teachers, CachedTeachers)
    view_spec = teachers.view_spec if cached else recipe.view
    return ViewBatches(
        taught,
        image_shape=image_shape,
        view_spec=view_spec,
        teacher_logits=teachers.join(taught, temperature=loss.temperature) if cached else None,
        ask=teachers.asked_about(taught.image_shape, taught.class_names) if teachers and not cached else None,
        views=teachers.views if cached else views or view_spec.crop_count or None,
        view_order=recipe.view_order,
        sample_weights=_weights(taught, sample_weights, recipe),
        batch_size=recipe.batch_size,
        label_smoothing=recipe.label_smoothing,
        seed=recipe.seed,
    )


def _weights(taught: Dataset, sample_weights: np.ndarray | None, recipe: Recipe) -> np.ndarray | None:
    """Return how much each image counts; None: all the same."""
    if recipe.class_weights == "none":
        return sample_weights
    weights = balanced_weights(label_probabilities(taught))
    return weights if sample_weights is None else weights * sample_weights


def _check_same_teachers(own: CachedTeachers, teachers: CachedTeachers) -> None:
    """Refuse stores of others, or in another order, which would be weighed as others."""
    ours, theirs = ([store.header.teacher_sha256 for store in each.stores] for each in (own, teachers))
    if ours != theirs:
        named = [
            ", ".join(
                f"{store.path} of {store.header.teacher_name} {store.header.teacher_sha256[:12]}" for store in each
            )
            for each in (own.stores, teachers.stores)
        ]
        raise InputError(
            f"the stores beside are of other teachers, or in another order: {named[0]}; those of the first data set "
            f"are {named[1]}: give stores of the same teachers in the same order"
        )


def _with_classes_of(main: Dataset, dataset: Dataset) -> Dataset:
    """Return `dataset` as one of the classes of `main`, without labels where it names no classes itself."""
    if not dataset.class_names:
        unlabelled = np.full(len(dataset), UNLABELLED)
        return replace(dataset, class_names=main.class_names, labels=unlabelled, label_probs=None)
    if tuple(dataset.class_names) != tuple(main.class_names):
        raise InputError(
            f"{dataset.name} has the classes {', '.join(dataset.class_names)}, {main.name} has "
            f"{', '.join(main.class_names)}: give data of the same classes in the same order, or without labels"
        )
    return dataset
