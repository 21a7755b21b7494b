"""The optimizer of a recipe, and its learning rate in every epoch."""

from collections.abc import Sequence

import keras

from distill.training.recipe import Plateau, Recipe


def build_optimizer(recipe: Recipe, *, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return Adam, or AdamW where weights decay; biases and norms do not."""
    lr = _cosine(recipe, steps_per_epoch * recipe.epochs) if recipe.schedule == "cosine" else recipe.lr
    if recipe.weight_decay == 0:
        return keras.optimizers.Adam(lr)
    optimizer = keras.optimizers.AdamW(lr, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def epoch_learning_rate(
    recipe: Recipe, epoch: int, validation_losses: Sequence[float], *, steps_per_epoch: int
) -> float | None:
    """Return the learning rate of `epoch`, counted from 0; None where a schedule sets it step by step.

    It is a function of what the run has recorded, so that an interrupted run goes on with the same one.

    Args:
        validation_losses: of the `epoch` epochs before.
    """
    if recipe.schedule == "cosine":
        return None
    reached = [factor for first_epoch, factor in recipe.lr_steps if epoch >= first_epoch]
    step_factor = reached[-1] if reached else 1.0
    lr = recipe.lr * step_factor / (1 + recipe.lr_decay * epoch * steps_per_epoch)
    lowered = lr * recipe.plateau.factor ** _plateaus(recipe.plateau, validation_losses)
    return max(lowered, min(lr, recipe.plateau.floor))


def _plateaus(plateau: Plateau, losses: Sequence[float]) -> int:
    """How often the loss stood still for `patience` epochs."""
    best, waited, plateaus = float("inf"), 0, 0
    for loss in losses:
        if loss < best - plateau.min_delta:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= plateau.patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def _cosine(recipe: Recipe, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    warmup = steps // 20
    if warmup == 0:
        return keras.optimizers.schedules.CosineDecay(recipe.lr, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=recipe.lr, warmup_steps=warmup)
