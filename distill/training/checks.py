"""What is refused before anything is trained: what does not fit together, and what would be ignored."""

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.view_differences import view_differences_text
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.losses.objective import LOGITS, Objective, own_layers
from distill.runtimes.weights import leaves
from distill.scoring.network_identity import check_gives_logits
from distill.training.ensemble import NO_TEMPERATURE
from distill.training.labels import is_labelled
from distill.training.recipe import Recipe
from distill.training.sources import Teacher


def check_can_train(
    network: keras.Model,
    dataset: Dataset,
    *,
    objective: Objective,
    teacher: Teacher | None,
    views: int | None,
    recipe: Recipe,
) -> None:
    """Check that a network, a dataset, an objective, its teacher and a recipe go together.

    Raises:
        InputError: they do not; see `distill.training.train.train`.
    """
    if not isinstance(network, keras.Model):
        raise InputError(f"what is trained is a keras.Model, received {type(network).__name__}")
    if not isinstance(recipe, Recipe):
        raise InputError(f"a recipe is a distill.Recipe, received {type(recipe).__name__}: distill.Recipe(epochs=20)")
    check_gives_logits(network, dataset)
    if None in network.input_shape[1:]:
        raise InputError(
            f"{network.name} takes images of any size, {network.input_shape[1:]}: give it an Input of a fixed one"
        )
    if any(leaf.trainable_weights and leaf.compute_dtype == "float16" for leaf in leaves(network)):
        raise InputError(
            f"{network.name} computes in float16, whose gradients vanish where nobody scales the loss: build it in "
            "mixed_bfloat16"
        )
    if not network.trainable_weights and not own_layers(objective, network):
        raise InputError(f"{network.name} has nothing to train: set trainable = True on some of its layers")
    check_teacher(objective, teacher)
    check_views(teacher, views, recipe.view)
    check_labels(dataset, objective, recipe)


def check_labels(dataset: Dataset, objective: Objective, recipe: Recipe) -> None:
    """Check that there are images to learn from, with labels where the objective learns from these, and labels to
    choose the best epoch by.

    Raises:
        InputError: a split has none.
    """
    labelled = is_labelled(dataset)
    needed = {"validation": True, "train": objective.uses_labels or recipe.class_weights != "none"}
    for split, is_needed in needed.items():
        dataset.split(split)  # which says what there is instead
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


def check_teacher(objective: Objective, teacher: Teacher | None) -> None:
    """Check that there is a teacher where an objective needs one, and that its logits are right for it.

    Raises:
        InputError: they are not.
    """
    if teacher is None and objective.teacher_outputs:
        raise InputError(
            f"the objective {objective.formula} needs a teacher's {' and '.join(objective.teacher_outputs)}: give "
            "--logits, or --lambda 0 to learn from labels alone"
        )
    if teacher is not None and teacher.one_temperature:
        if LOGITS in objective.teacher_outputs and objective.teacher_temperature is None:
            raise InputError(NO_TEMPERATURE)
        if "temperature" in objective.numbers(0.0):
            raise InputError(
                "the mean of teachers' probabilities is exact at one temperature alone: omit --temperature-schedule, "
                "or give --ensemble-mean logits"
            )


def check_views(teacher: Teacher | None, views: int | None, view_spec: ViewSpec) -> None:
    """Check that the views to train on are those that the teacher scored, and that there are as many.

    Raises:
        InputError: they are not.
    """
    if views is not None and views < 1:
        raise InputError(f"views must be at least 1 (the untouched image), received {views}")
    if teacher is not None and teacher.view_spec is not None:
        _check_same_views(teacher, teacher.view_spec, views, view_spec)
    elif view_spec.crops and (views or 0) > view_spec.crop_count:
        raise InputError(f'the crops "{view_spec.crops}" are {view_spec.crop_count} views, received --views {views}')


def _check_same_views(teacher: Teacher, scored: ViewSpec, views: int | None, view_spec: ViewSpec) -> None:
    """Refuse an augmentation that the teacher never scored."""
    name = teacher.describe().get("name", "the teachers")
    if views not in (None, teacher.views):
        raise InputError(
            f"{views} views are wanted, the logits of {name} are of {teacher.views}: omit --views, or cache again"
        )
    changed = view_differences_text(scored, view_spec, "stored {}, wanted {}")
    if changed and view_spec != ViewSpec():
        raise InputError(
            f"the logits of {name} were cached with other views ({'; '.join(changed)}): omit --view, or cache again"
        )
