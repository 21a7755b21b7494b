"""Evaluate a network on a dataset."""

import keras
import numpy as np

from distill.data.dataset import Dataset, check_is_dataset
from distill.data.expressions import class_columns
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.reports.metrics import EvaluationMetrics, evaluate_predictions
from distill.runtimes.image_model import ImageModel
from distill.scoring.network_identity import check_classes
from distill.scoring.scorer import Scorer


def evaluate_model(
    model: keras.Model | ImageModel, dataset: Dataset, *, view_spec: ViewSpec | None = None, batch_size: int = 256
) -> EvaluationMetrics:
    """Return accuracy, macro-F1, per-class figures (all 0..1) and the confusion matrix.

    Args:
        model: takes pixels 0..255, and returns raw logits [B, C] of the classes of `dataset` in their order, or of
            those that it names (`ImageModel.class_names`), where they are found by their names.
        dataset: images without a label are counted, and otherwise left out.
        view_spec: of the network's training. Images are taken untouched (view 0), unless it is a set of
            crops: then the logits of an image are the mean over its crops.

    Raises:
        InputError: the model has another number of classes than the data, or lacks one of them; no image has a label;
            a logit is not finite.
    """
    own = evaluation_logits(model, dataset, view_spec=view_spec, batch_size=batch_size)
    logits = in_data_order(own, model, dataset)
    return evaluate_predictions(labels=dataset.labels, logits=logits, class_names=dataset.class_names)


def evaluation_logits(
    model: keras.Model | ImageModel, dataset: Dataset, *, view_spec: ViewSpec | None = None, batch_size: int = 256
) -> np.ndarray:
    """Return the logits that evaluate a network: float32 [N, C], of one view or the mean over an image's crops.

    The logits of a model that names its classes (`ImageModel.class_names`) are of these, in its own order.

    Raises:
        InputError: the model names no classes, and has another number of them than the data; there are no images.
    """
    check_is_dataset(dataset)
    if not len(dataset):
        raise InputError(f"{dataset.name} has no images: give some to evaluate on")
    if isinstance(model, keras.Model):
        check_classes(model, dataset)
    elif not model.class_names and model.classes != dataset.num_classes:
        raise InputError(f"{model.name} gives {model.classes} classes, {dataset.name} has {dataset.num_classes}")
    return Scorer(model, dataset, view_spec=view_spec, batch_size=batch_size).score_for_evaluation()


def in_data_order(logits: np.ndarray, model: keras.Model | ImageModel, dataset: Dataset) -> np.ndarray:
    """Return the logits of the classes of `dataset` in their order, float [N, C], of those that `model` gave.

    Raises:
        InputError: the model names its classes, and lacks one of the data.
    """
    own = getattr(model, "class_names", ())
    return logits[:, class_columns(own, dataset.class_names)] if own else logits
