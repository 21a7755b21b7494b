"""What a student learns from: the images of a dataset, with their labels, and with a teacher's predictions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras
import numpy as np

from distill.data.dataset import UNLABELLED, Dataset, check_is_dataset
from distill.data.duplicates import copies_of
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.objective import LOGITS, Objective
from distill.scoring.online_teacher import OnlineTeacher
from distill.training.batches import TeacherOutputs, ViewBatches
from distill.training.ensemble import Logits
from distill.training.labels import balanced_weights, is_labelled, label_probabilities
from distill.training.recipe import Recipe


class Teacher(Protocol):
    """A teacher for the images that a student learns from: `CachedTeachers`, `OnlineTeacher`, your own."""

    @property
    def view_spec(self) -> ViewSpec | None:
        """How the views were drawn that it scored; None: it scores any."""

    @property
    def views(self) -> int | None:
        """V, how many of them there are for each image; None: as many as are drawn."""

    @property
    def partner_ids(self) -> np.ndarray | None:
        """str [P]: among which partners of mixed views were drawn; None: the images that the student learns from."""

    @property
    def one_temperature(self) -> bool:
        """Whether its logits are right at one temperature alone, so that a schedule may not move it."""
        ...

    def outputs(
        self, dataset: Dataset, names: Collection[str], *, temperature: float | None, columns: Sequence[str]
    ) -> TeacherOutputs:
        """Return its outputs for `dataset`, of its classes in their order.

        Args:
            names: which of its outputs are needed, such as "logits".
            temperature: T at which logits are used, in the beginning; None: the objective has none.
            columns: what the parameters of views are that it is given, see `ViewSpec.columns`.

        Raises:
            InputError: it has no such output, or does not know these images, or one of these classes.
        """
        ...

    def on_extra_data(self, name: str, logits: Logits | None) -> "Teacher":
        """Return the same teacher for extra data called `name`; it may need cached logits of it.

        Raises:
            InputError: it needs them and there are none, there are some that it does not need, or they are another's.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return JSON-able facts for a run's record: what its outputs depend on."""
        ...


def as_teacher(teacher: Any, dataset: Dataset) -> Teacher | None:
    """Return a teacher as such, and let a network be one that is online, of the classes of `dataset`.

    Raises:
        InputError: it is neither.
    """
    if isinstance(teacher, keras.Model):
        check_is_dataset(dataset)
        return OnlineTeacher(teacher, class_names=dataset.class_names)
    if teacher is not None and not hasattr(teacher, "outputs"):
        raise InputError(
            f"a teacher is a keras.Model, or a distill.OnlineTeacher, received {type(teacher).__name__}: cached "
            "logits are given as logits"
        )
    return teacher


@dataclass(frozen=True, eq=False)
class ExtraData:
    """A further dataset to learn from, such as unlabelled images, but for its test and validation splits."""

    dataset: Dataset
    """Of the classes of the run in the same order, or without any."""
    logits: Logits | None = None
    """The outputs of the run's teacher for it; None where that is online, or where there is none."""

    def taught(self, main: Dataset, teacher: Teacher | None, objective: Objective) -> tuple[Dataset, Teacher | None]:
        """Return the images to learn from, and what teaches them.

        Images that are copies, mirrored or not, of one in the validation or the test split of `main` are left out.

        Args:
            main: what the run is evaluated on.
            teacher: that of `main`.

        Raises:
            InputError: other classes than those of `main`, no logits or those of another teacher, or nothing to
                learn from.
        """
        name = f"{self.dataset.name} (extra data of {main.name})"
        if teacher is None and self.logits is not None:
            raise InputError(f"{name} has logits, but {main.name} has none: omit them, or see --logits")
        own = None if teacher is None else teacher.on_extra_data(name, self.logits)
        dataset = _with_classes_of(main, self.dataset)
        copies = copies_of(dataset, main.subset(np.isin(main.splits, ("validation", "test"))))
        if copies.any():
            print(f"note: {copies.sum()} images of {dataset.name} are left out: {main.name} is evaluated on copies")
        learned = ~copies & ~np.isin(dataset.splits, ("validation", "test"))
        if not objective.teacher_outputs:
            learned &= is_labelled(dataset)
        if not learned.any():
            raise InputError(f"{name} has nothing to learn from: omit it")
        return dataset.subset(learned), own


def source_batches(
    image_shape: tuple[int, int, int],
    objective: Objective,
    recipe: Recipe,
    taught: Dataset,
    teacher: Teacher | None,
    *,
    views: int | None,
    sample_weights: np.ndarray | None = None,
) -> ViewBatches:
    """Return the batches of one dataset.

    Args:
        image_shape: height, width and channels that the student takes.
        views: where the teacher does not prescribe it, how many views the epochs take from.
        sample_weights: float32 [len(taught)], on top of the class weights of `recipe`.

    Raises:
        InputError: a teacher that does not fit `taught`.
    """
    view_spec = recipe.view if teacher is None or teacher.view_spec is None else teacher.view_spec
    prescribed = None if teacher is None else teacher.views
    outputs = None
    if teacher is not None:
        names = {*objective.teacher_outputs, LOGITS}  # what a student agrees with is always of interest
        outputs = teacher.outputs(taught, names, temperature=objective.teacher_temperature, columns=view_spec.columns)
    return ViewBatches(
        taught,
        image_shape=image_shape,
        view_spec=view_spec,
        teacher=outputs,
        views=prescribed or views or view_spec.crop_count or None,
        view_order=recipe.view_order,
        partner_ids=getattr(teacher, "partner_ids", None) if view_spec.mixes else None,
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
