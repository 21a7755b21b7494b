"""Evaluate a network on a data set."""

import keras

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.reports.metrics import EvaluationMetrics, evaluate_predictions
from distill.scoring.network_identity import check_classes
from distill.scoring.scorer import Scorer


def evaluate_model(
    model: keras.Model, dataset: Dataset, *, view_spec: ViewSpec | None = None, batch_size: int = 256
) -> EvaluationMetrics:
    """Return accuracy, macro-F1, per-class figures and the confusion matrix.

    Args:
        view_spec: of the network's training. Images are taken untouched (view 0), unless it is a set of
            crops: then the logits of an image are the mean over its crops.

    Raises:
        InputError: the model has another number of classes than the data.
    """
    check_classes(model, dataset)
    logits = Scorer(model, dataset, view_spec=view_spec, batch_size=batch_size).score_for_evaluation()
    return evaluate_predictions(labels=dataset.labels, logits=logits, class_names=dataset.class_names)
