"""The optimizer of a recipe, and its learning rate in every epoch."""

import inspect
import math
from collections.abc import Sequence

import keras

from distill.errors import InputError
from distill.refusals import check_known
from distill.training.recipe import STEPWISE_SCHEDULES, Plateau, Recipe

# What Keras' layers call their biases and the weights of their norms. TensorFlow puts the names of layers before it,
# with a slash, and any of these may be a part of those.
_NEVER_DECAY = r"(bias|beta|gamma|scale)[^/]*$"


def build_optimizer(recipe: Recipe, *, steps_per_epoch: int, replicas: int = 1) -> keras.optimizers.Optimizer:
    """Return the optimizer that Keras has under the recipe's name.

    Weight decay is decoupled (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) whichever it is, and
    leaves biases and norms alone. Where the recipe wants a moving average of the weights, the optimizer keeps it.

    Args:
        replicas: among how many copies of the network a batch is divided, see `trainer.train_step`.

    Raises:
        InputError: Keras has no optimizer of that name (near ones are offered), or it has no momentum.
    """
    kind = _optimizer_named(recipe.optimizer)
    options = {
        "weight_decay": recipe.weight_decay or None,
        # Keras clips before it adds up the gradients of replicas, of which each then has its share of them all.
        "global_clipnorm": recipe.clip_norm and recipe.clip_norm / replicas,
        "use_ema": recipe.ema is not None,
    }
    if recipe.ema is not None:
        options["ema_momentum"] = recipe.ema
    if recipe.momentum is not None:
        if "momentum" not in inspect.signature(kind).parameters:
            raise InputError(f'the optimizer "{recipe.optimizer}" takes no momentum: omit it, or give sgd')
        options["momentum"] = recipe.momentum
    optimizer = kind(learning_rate=_rate(recipe, steps_per_epoch), **options)
    optimizer.exclude_from_weight_decay(var_names=[_NEVER_DECAY])
    return optimizer


def let_one_replica_be(optimizer: keras.optimizers.Optimizer) -> None:
    """Let the optimizer of a single replica take gradients as they are.

    Keras adds them up over all replicas, over a single one as well; and TensorFlow keeps every graph that does so,
    with all that it refers to, until the process ends.
    """
    if hasattr(optimizer, "_all_reduce_sum_gradients"):  # under TensorFlow
        optimizer._all_reduce_sum_gradients = list


def optimizers() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Return Keras' optimizers by their names in lower case, but for those that only wrap another."""
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items() if inspect.isclass(kind)}
    return {
        name: kind
        for name, kind in kinds.items()
        if issubclass(kind, keras.optimizers.Optimizer)
        and kind is not keras.optimizers.Optimizer
        and "learning_rate" in inspect.signature(kind).parameters
    }


def _optimizer_named(name: str) -> type[keras.optimizers.Optimizer]:
    known = optimizers()
    check_known(name.lower(), sorted(known), what="optimizer")
    return known[name.lower()]


def epoch_learning_rate(
    recipe: Recipe, epoch: int, validation_losses: Sequence[float], *, steps_per_epoch: int
) -> float | None:
    """Return the learning rate of `epoch`, counted from 0; None where a schedule sets it step by step.

    It is a function of what the run has recorded, so that an interrupted run goes on with the same one. A warm-up
    over w epochs gives epoch e the value that a line from 0 has in the middle of it, (e + 1/2) / w of the peak.

    Args:
        validation_losses: of the `epoch` epochs before.
    """
    if recipe.schedule in STEPWISE_SCHEDULES:
        return None
    reached = [factor for first_epoch, factor in recipe.lr_steps if epoch >= first_epoch]
    factor = reached[-1] if reached else 1.0
    if recipe.warmup_epochs:
        factor *= min(1.0, (epoch + 0.5) / recipe.warmup_epochs)
    lr = recipe.lr * factor / (1 + recipe.lr_decay * epoch * steps_per_epoch)
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


def _rate(recipe: Recipe, steps_per_epoch: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate that an optimizer begins with, or that it computes in every step."""
    if recipe.schedule not in STEPWISE_SCHEDULES:
        return float(recipe.lr)
    steps = steps_per_epoch * recipe.epochs
    warmup = steps // 20 if recipe.warmup_epochs is None else math.ceil(recipe.warmup_epochs * steps_per_epoch)
    warmup = min(warmup, steps - 1)  # of few steps it may be all
    return {"cosine": _cosine, "linear": LinearDecay}[recipe.schedule](recipe.lr, steps, warmup)


def _cosine(peak: float, steps: int, warmup: int) -> keras.optimizers.schedules.LearningRateSchedule:
    if warmup == 0:
        return keras.optimizers.schedules.CosineDecay(peak, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=peak, warmup_steps=warmup)


@keras.saving.register_keras_serializable("distill")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Up from 0 to `peak` over the first `warmup` steps, and down to 0 at `steps`, on straight lines."""

    def __init__(self, peak: float, steps: int, warmup: int = 0):
        super().__init__()
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        share = (self.steps - step) / (self.steps - self.warmup)
        if self.warmup:
            share = keras.ops.minimum(share, step / self.warmup)
        return self.peak * keras.ops.maximum(share, 0.0)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}
