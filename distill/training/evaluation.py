"""Evaluate a network on a data set."""

import keras
import numpy as np

from distill.data.dataset import Dataset
from distill.reports.metrics import EvaluationMetrics, evaluate_predictions
from distill.training.network_identity import check_classes
from distill.training.scoring import Scorer


def evaluate_model(model: keras.Model, dataset: Dataset, *, batch_size: int = 256) -> EvaluationMetrics:
    """Return accuracy, macro-F1, per-class figures and the confusion matrix on untouched images (view 0).

    Raises:
        InputError: the model has another number of classes than the data.
    """
    check_classes(model, dataset)
    logits = Scorer(model, dataset, batch_size=batch_size).score(np.arange(len(dataset)))[:, 0]
    return evaluate_predictions(labels=dataset.labels, logits=logits, class_names=dataset.class_names)
