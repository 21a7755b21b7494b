"""The evaluation of a network: its logits compared with labels and teachers, and on copies, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.data.dataset import UNLABELLED, Dataset
from distill.data.duplicates import copies_of
from distill.data.views import ViewSpec
from distill.logit_store import LogitStore
from distill.reports.calibration import (
    accuracy,
    calibrating_temperature,
    calibration_error,
    log_softmax,
    reliability_curve,
    temperature_table,
)
from distill.reports.metrics import evaluate_predictions

_SHOWN_DIGITS = 12  # of a fingerprint


@dataclass(frozen=True, eq=False)
class TeacherPredictions:
    """The logits of a teacher for the images of an evaluation."""

    name: str
    """Of the teacher."""
    sha256: str
    """Of its weights."""
    logits: np.ndarray
    """float32 [N, C], raw, of the classes and in the order of the data: the mean over the views that evaluate it."""


def teacher_predictions(store: LogitStore, dataset: Dataset) -> TeacherPredictions:
    """Return the stored logits of a teacher for `dataset`; its classes are found by their names.

    Raises:
        InputError: the store lacks an image or a class, or knows other pixels.
    """
    views = ViewSpec.for_evaluation(store.view_spec).evaluation_views[: store.header.views]
    logits = store.join(dataset, class_match="names")[:, views].mean(axis=1)
    return TeacherPredictions(store.header.teacher_name, store.header.teacher_sha256, logits)


def copied_from_training(dataset: Dataset, split: str) -> np.ndarray | None:
    """Return which images of a split are copies of training images, mirrored or not: bool [N], in the split's order.

    None where that says nothing: there are no training images, or `split` is them.
    """
    if split == "train" or "train" not in dataset.splits:
        return None
    return copies_of(dataset.split(split), dataset.split("train"))


def report_on(
    logits: np.ndarray,
    dataset: Dataset,
    *,
    teachers: Sequence[TeacherPredictions] = (),
    copies: np.ndarray | None = None,
    mistakes: int = 24,
) -> dict[str, Any]:
    """Evaluate the logits of a network; return JSON-able values.

    Args:
        logits: float [N, C], raw at temperature 1, or the logarithms of probabilities, which is the same up to a
            constant for each image.
        dataset: the N images.
        copies: of `copied_from_training`.
        mistakes: the most that are listed.

    Returns:
        What `EvaluationMetrics.to_dict` holds, and `calibration`, `teachers`, `copies` and `mistakes`.

    Raises:
        InputError: no image has a label, or a logit is not finite.
    """
    metrics = evaluate_predictions(labels=dataset.labels, logits=logits, class_names=dataset.class_names)
    log_probs = log_softmax(logits)
    return {
        **metrics.to_dict(),
        "calibration": _calibration(logits, np.exp(log_probs), dataset.labels),
        "teachers": [_compared_with_teacher(log_probs, teacher, dataset.labels) for teacher in teachers],
        "copies": None if copies is None else copies_and_others(logits, dataset.labels, copies),
        "mistakes": worst_mistakes(np.exp(log_probs), dataset, most=mistakes),
    }


def _calibration(logits: np.ndarray, probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    labelled = labels != UNLABELLED
    (row,) = temperature_table(logits[labelled], labels[labelled], temperatures=[1])
    return {
        "error": calibration_error(probs, labels),
        "mean_top_probability": row["mean_top_probability"],
        "negative_log_likelihood": row["negative_log_likelihood"],
        "calibrating_temperature": calibrating_temperature(logits, labels),
        "bins": reliability_curve(probs, labels),
    }


def _compared_with_teacher(log_probs: np.ndarray, teacher: TeacherPredictions, labels: np.ndarray) -> dict[str, Any]:
    """Compare a network with a teacher, on all images, those without a label, too."""
    teacher_log_probs = log_softmax(teacher.logits)
    return {
        "name": teacher.name,
        "sha256": teacher.sha256[:_SHOWN_DIGITS],
        "accuracy": accuracy(teacher.logits, labels),
        "agreement": float((teacher_log_probs.argmax(1) == log_probs.argmax(1)).mean()),
        "divergence": float((np.exp(teacher_log_probs) * (teacher_log_probs - log_probs)).sum(1).mean()),
    }


def copies_and_others(logits: np.ndarray, labels: np.ndarray, copies: np.ndarray) -> dict[str, Mapping | None]:
    """Return count and accuracy of the labelled images that are copies of training images, and of the others.

    Args:
        logits: float [N, C].
        labels: int [N].
        copies: bool [N].

    Returns:
        `copies` and `others`, each `count` (at least 1) and `accuracy` (0..1), or None where there is no such image.
    """
    found: dict[str, Mapping | None] = {}
    for name, chosen in (("copies", copies), ("others", ~copies)):
        chosen = chosen & (labels != UNLABELLED)
        right = accuracy(logits[chosen], labels[chosen])
        found[name] = None if right is None else {"count": int(chosen.sum()), "accuracy": right}
    return found


def worst_mistakes(probs: np.ndarray, dataset: Dataset, *, most: int) -> list[dict[str, Any]]:
    """Return the labelled images that were taken for another class, those with the highest probability of it first.

    Args:
        probs: float [N, C], rows of probabilities.
        most: how many at most.

    Returns:
        `id`, `true` and `predicted` (names of the true and the predicted class), and the probabilities of these:
        `probability_of_true` and `probability`.
    """
    labels, predicted = dataset.labels, probs.argmax(1)
    wrong = np.flatnonzero((labels != UNLABELLED) & (predicted != labels))
    worst = wrong[np.argsort(-probs[wrong, predicted[wrong]], kind="stable")][:most]
    return [
        {
            "id": str(dataset.ids[row]),
            "true": dataset.class_names[labels[row]],
            "predicted": dataset.class_names[predicted[row]],
            "probability": float(probs[row, predicted[row]]),
            "probability_of_true": float(probs[row, labels[row]]),
        }
        for row in worst
    ]
