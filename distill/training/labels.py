"""The labels of a dataset as probabilities, and how much each class weighs."""

import numpy as np

from distill.data.dataset import UNLABELLED, Dataset


def label_probabilities(dataset: Dataset, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the labels of some rows, or of all N, as float32 [n, C]: soft labels where there are, else one-hot.

    What is not labelled has zeros.
    """
    if dataset.label_probs is not None:
        return dataset.label_probs if rows is None else dataset.label_probs[rows]
    labels = dataset.labels if rows is None else dataset.labels[rows]
    one_hot = np.zeros((len(labels), dataset.num_classes), np.float32)
    labelled = np.flatnonzero(labels != UNLABELLED)
    one_hot[labelled, labels[labelled]] = 1
    return one_hot


def is_labelled(dataset: Dataset) -> np.ndarray:
    """Return which images have a label, hard or soft: bool [N]."""
    if dataset.label_probs is not None:
        return np.any(dataset.label_probs, axis=1)
    return dataset.labels != UNLABELLED


def balanced_weights(label_probs: np.ndarray) -> np.ndarray:
    """Return how much each example counts where all classes are to weigh the same together.

    A label of class c weighs n / (C n_c), with n the labelled examples, n_c the sum of their probabilities of c, and
    C the classes that occur; a soft label weighs the mean of its classes. So labelled examples weigh 1 on average.

    Args:
        label_probs: float [N, C]; a row of zeros is an unlabelled example, which weighs 1.

    Returns:
        float32 [N].
    """
    labelled = label_probs.any(axis=1)
    of_class = label_probs[labelled].sum(axis=0, dtype=np.float64)
    occurs = of_class > 0
    class_weights = np.where(occurs, labelled.sum() / (max(occurs.sum(), 1) * np.where(occurs, of_class, 1)), 0)
    return np.where(labelled, label_probs @ class_weights, 1).astype(np.float32)


def smoothed(label_probs: np.ndarray, smoothing: float) -> np.ndarray:
    """Spread a share of every label over all classes; unlabelled rows stay zeros."""
    labelled = label_probs.sum(axis=1, keepdims=True)
    return ((1 - smoothing) * label_probs + smoothing / label_probs.shape[1] * labelled).astype(np.float32)
