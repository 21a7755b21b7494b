"""What is refused before anything is trained: what does not fit together, and what would be ignored."""

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.loss_schedule import LossSchedule
from distill.scoring.network_identity import check_gives_logits
from distill.scoring.online_teacher import OnlineTeacher
from distill.training.batches import label_probabilities
from distill.training.ensemble import CachedTeachers
from distill.training.recipe import Recipe


def check_can_train(
    network: keras.Model,
    dataset: Dataset,
    *,
    schedule: LossSchedule,
    teachers: CachedTeachers | OnlineTeacher | None,
    views: int | None,
    recipe: Recipe,
) -> None:
    """Check that a network, a data set, a loss, its teachers and a recipe go together.

    Raises:
        InputError: they do not; see `distill.training.train.train`.
    """
    check_gives_logits(network, dataset)
    _check_teachers(schedule, teachers)
    check_views(teachers, views, recipe.view)
    check_labels(dataset, schedule, recipe)


def check_labels(dataset: Dataset, schedule: LossSchedule, recipe: Recipe) -> None:
    """Check that there are labels to choose the best epoch by, and to learn from where that is asked for.

    Raises:
        InputError: a split has none.
    """
    labelled = label_probabilities(dataset).any(axis=1)
    needed = {"validation": True, "train": schedule.uses_labels or recipe.class_weights != "none"}
    for split, is_needed in needed.items():
        if is_needed and not labelled[dataset.splits == split].any():
            raise InputError(f"the {split} split of {dataset.name} has no labels: give labelled images")


def check_sample_weights(sample_weights: np.ndarray, taught_at: np.ndarray, *, of: int) -> np.ndarray:
    """Return the weights at the positions `taught_at` of all `of` images, as float32.

    Raises:
        InputError: another number of weights, one that is negative or not finite, or all of them 0.
    """
    weights = np.asarray(sample_weights, np.float32)
    if weights.shape != (of,):
        raise InputError(f"sample weights must be one number for each of the {of} images, received {weights.shape}")
    weights = weights[taught_at]
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() > 0):
        raise InputError(
            "sample weights must be 0 or more, and one of them above 0, received "
            f"{weights.min()}..{weights.max()} for the images to learn from"
        )
    return weights


def _check_teachers(schedule: LossSchedule, teachers: CachedTeachers | OnlineTeacher | None) -> None:
    loss = schedule.loss
    if teachers is None and loss.uses_teacher:
        raise InputError(f"lambda {loss.term_weights[1]:g} needs a teacher's logits: give --logits, or --lambda 0")
    if teachers is not None and schedule.temperature.moves and teachers.mean == "probabilities":
        raise InputError(
            "the mean of teachers' probabilities is exact at one temperature alone: leave --temperature-schedule "
            "out, or give --teacher-mean logits"
        )


def check_views(teachers: CachedTeachers | OnlineTeacher | None, views: int | None, view_spec: ViewSpec) -> None:
    """Check that views which are asked for are those that the teachers scored, and that there are as many.

    Raises:
        InputError: they are not.
    """
    if views is not None and views < 1:
        raise InputError(f"views must be at least 1 (the untouched image), received {views}")
    cached = isinstance(teachers, CachedTeachers)
    if not cached and view_spec.crops and (views or 0) > view_spec.crop_count:
        raise InputError(f'the crops "{view_spec.crops}" are {view_spec.crop_count} views, received --views {views}')
    if cached:
        _check_same_views(teachers, views, view_spec)


def _check_same_views(teachers: CachedTeachers, views: int | None, view_spec: ViewSpec) -> None:
    """Refuse an augmentation that the teachers never scored."""
    path = teachers.stores[0].path
    if views not in (None, teachers.views):
        raise InputError(
            f"{views} views are asked for, {path} holds {teachers.views}: leave --views out, or cache again"
        )
    stored = teachers.view_spec.to_dict()
    changed = [
        f"{name}: stored {stored.get(name)}, asked for {value}"
        for name, value in view_spec.to_dict().items()
        if value != stored.get(name)
    ]
    if changed and view_spec != ViewSpec():
        raise InputError(
            f"{path} was cached with other views ({'; '.join(changed)}): leave --view out, or cache again"
        )
