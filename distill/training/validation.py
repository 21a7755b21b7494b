"""What a network in training is worth: its metrics on the validation split, with and without averaged weights."""

from collections.abc import Sequence

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import DivergedError
from distill.losses.formulas import cross_entropy
from distill.reports.calibration import temperature_table
from distill.reports.metrics import evaluate_predictions
from distill.runs.best_epoch import AVERAGED
from distill.runs.scope import clone
from distill.runtimes.weights import set_weights
from distill.scoring.scorer import Scorer
from distill.training.labels import label_probabilities

SMALLER_RATE = "try a smaller learning rate (--lr)"


class Validation:
    """Scores a network, and the same network with the moving average of its weights.

    Args:
        network: the one in training.
        optimizer: that of `network`, which keeps the average, or does not.
        dataset: labelled images.
        view_spec: how views are drawn, see `Scorer`.
        own_layers: further layers that `optimizer` trains with the network, and which are not validated.
        remedy: what to try where the network has diverged.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        dataset: Dataset,
        *,
        view_spec: ViewSpec,
        own_layers: Sequence[keras.layers.Layer] = (),
        remedy: str = SMALLER_RATE,
    ):
        self.averaged = clone(network) if optimizer.use_ema else None
        own = [variable for layer in own_layers for variable in layer.trainable_variables]
        # The optimizer hands out all of its averages or none: these take those that nobody validates.
        self._spare = [keras.Variable(variable.value) for variable in own] if optimizer.use_ema else []
        self._network, self._optimizer, self._dataset = network, optimizer, dataset
        self._remedy = remedy
        self._scorers = {"": Scorer(network, dataset, view_spec=view_spec)}
        if self.averaged is not None:
            self._scorers[AVERAGED] = Scorer(self.averaged, dataset, view_spec=view_spec)

    def __call__(self) -> dict[str, float]:
        """Return the columns "validation_...", and those of the averaged weights, which end in "_ema"."""
        if self.averaged is not None:
            self._take_average(self.averaged)
        return {
            f"validation_{name}{suffix}": value
            for suffix, scorer in self._scorers.items()
            for name, value in self._metrics(scorer).items()
        }

    def _metrics(self, scorer: Scorer) -> dict[str, float]:
        logits = scorer.score_for_evaluation()
        if not np.isfinite(logits).all():
            raise DivergedError(f"the network has diverged, its logits are not finite: {self._remedy}")
        return validation_metrics(logits, self._dataset)

    def _take_average(self, averaged: keras.Model) -> None:
        set_weights(averaged, self._network.get_weights())  # statistics of batch norms are averages already
        self._optimizer.finalize_variable_values([*averaged.trainable_variables, *self._spare])
        # JAX now shares memory with the optimizer, and would give it away in the next call of this network.
        averaged.set_weights([np.array(weight) for weight in averaged.get_weights()])


def validation_metrics(logits: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Return "loss" (cross entropy with the labels, in nats), "accuracy", "balanced_accuracy", "macro_f1" and
    "calibration_error" (0..1).

    Args:
        logits: float32 [N, C] of the images of `dataset`, finite.

    Raises:
        InputError: no image has a label.
    """
    losses = cross_entropy(student_logits=logits, labels=label_probabilities(dataset))
    metrics = evaluate_predictions(labels=dataset.labels, logits=logits, class_names=dataset.class_names)
    (at_temperature_1,) = temperature_table(logits, dataset.labels, temperatures=(1,))
    return {
        "loss": float(np.mean(keras.ops.convert_to_numpy(losses))),
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "calibration_error": at_temperature_1["calibration_error"],
    }
