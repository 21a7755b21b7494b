"""What a temperature does to given logits: how sure they become, and how often they are right to be.

A temperature means something only together with a scale of logits: divide both by two and nothing has changed. With
NumPy alone, in float64.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.data.dataset import UNLABELLED
from distill.errors import InputError

TEMPERATURES = (1, 2, 4, 8, 16)
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e5
"""Of what is taken and of what is found."""

_HALVINGS = 50  # of a range whose logarithm is 18: more digits than a temperature can mean


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the share of labelled rows whose largest logit is that of the label, the same at every temperature.

    Args:
        logits: float [N, C].
        labels: int [N], 0..C-1 or `UNLABELLED` (-1).

    Returns:
        0..1; None where no row has a label.

    Raises:
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    logits, labels = _labelled(logits, labels)
    return float((logits.argmax(1) == labels).mean()) if len(labels) else None


def calibration_error(probs: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """Return the expected calibration error: how far the top probability is from the share of right answers.

    It is the sum over the bins of `reliability_curve` of n_b / n |accuracy_b - mean top probability_b|.
    Guo et al., "On Calibration of Modern Neural Networks", 2017, https://arxiv.org/abs/1706.04599, equation 3.

    Args:
        probs: float [N, C], rows of probabilities.
        labels: int [N], 0..C-1; `UNLABELLED` (-1) rows are left out.
        bins: number of bins, at least one.

    Returns:
        0..1.

    Raises:
        InputError: no row has a label.
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    filled = [row for row in reliability_curve(probs, labels, bins=bins) if row["count"]]
    gaps = sum(row["count"] * abs(row["accuracy"] - row["mean_top_probability"]) for row in filled)
    return gaps / sum(row["count"] for row in filled)


def reliability_curve(probs: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> list[dict[str, Any]]:
    """Return how often the answers of each degree of sureness are right.

    Rows are sorted into bins of equal width by their top probability. Bin b holds the values above b / bins, up to
    (b + 1) / bins.

    Args:
        probs: float [N, C], rows of probabilities.
        labels: int [N], 0..C-1; `UNLABELLED` (-1) rows are left out.
        bins: number of bins, at least one.

    Returns:
        A row for each bin: `low` and `high`, its edges; `count`; `mean_top_probability` and `accuracy`, 0..1, which
        are None in an empty bin.

    Raises:
        InputError: no row has a label.
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    probs, labels = _labelled(probs, labels)
    _check_some(labels)
    top, right, edges = probs.max(1), probs.argmax(1) == labels, np.linspace(0, 1, bins + 1)
    bin_of_row = np.clip(np.searchsorted(edges, top) - 1, 0, bins - 1)
    counts, tops, rights = (np.bincount(bin_of_row, weights, bins) for weights in (None, top, right))
    return [
        {
            "low": float(edges[number]),
            "high": float(edges[number + 1]),
            "count": int(count),
            "mean_top_probability": float(tops[number] / count) if count else None,
            "accuracy": float(rights[number] / count) if count else None,
        }
        for number, count in enumerate(counts)
    ]


def temperature_table(
    logits: np.ndarray, labels: np.ndarray, *, temperatures: Sequence[float] = TEMPERATURES
) -> list[dict[str, Any]]:
    """Return one row per temperature T, about softmax(logits / T). `accuracy` is the same for all, and not in it.

    Args:
        logits: float [N, C], N >= 1, finite, raw, at temperature 1.
        labels: int [N], 0..C-1; `UNLABELLED` (-1) rows count only where no label is needed.
        temperatures: in `LOWEST_TEMPERATURE`..`HIGHEST_TEMPERATURE`.

    Returns:
        Rows of `temperature`, `mean_top_probability` (1/C..1) and `entropy` (mean, in nats, 0..ln C) of all rows,
        `calibration_error` (0..1) and `negative_log_likelihood` (mean, in nats) of the labelled rows. The last two
        are None where no row has a label.

    Raises:
        InputError: a temperature out of range.
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    labels = np.asarray(labels)
    any_label = len(_labelled(logits, labels)[1]) > 0
    rows = []
    for temperature in temperatures:
        log_probs = log_softmax(logits, temperature)
        probs = np.exp(log_probs)
        row = {
            "temperature": float(temperature),
            "mean_top_probability": float(probs.max(1).mean()),
            "entropy": float((probs * -log_probs).sum(1).mean()),
            "calibration_error": calibration_error(probs, labels) if any_label else None,
            "negative_log_likelihood": _negative_log_likelihood(log_probs, labels) if any_label else None,
        }
        rows.append(row)
    return rows


def calibrating_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature at which softmax(logits / T) gives the labels the highest likelihood.

    "Temperature scaling" of Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2. The negative log
    likelihood is convex in 1/T, so the sign of its slope, mean(expected logit - logit of the label), says on which
    side the minimum lies, and the range is halved until it is found.

    Args:
        logits: float [N, C], finite, raw, at temperature 1.
        labels: int [N], 0..C-1; `UNLABELLED` (-1) rows are left out.

    Returns:
        `LOWEST_TEMPERATURE` (0.001) to `HIGHEST_TEMPERATURE` (100,000): the lowest for logits that are always
        right, the highest for logits that say nothing about the labels, or the contrary.

    Raises:
        InputError: no row has a label.
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    logits, labels = _labelled(logits, labels)
    _check_some(labels)
    beyond = logits - logits[np.arange(len(labels)), labels][:, None]
    if not beyond.any():  # all classes alike: no temperature is better than another
        return HIGHEST_TEMPERATURE
    low, high = np.log([LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = (np.exp(log_softmax(logits, np.exp(middle))) * beyond).sum(1).mean()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(np.exp(low))


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the logarithm of softmax(logits / T): float64 [N, C].

    Raises:
        InputError: a temperature out of range.
    """
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise InputError(
            f"a temperature must lie in {LOWEST_TEMPERATURE:g}..{HIGHEST_TEMPERATURE:,.0f}, received {temperature}"
        )
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))


def _labelled(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that have a label, as float64 [M, C], and their labels, int64 [M]."""
    values, labels = np.asarray(values), np.asarray(labels)
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(f"Expected [N, C] and labels [N]. Received: {values.shape} and {labels.shape}")
    known = labels != UNLABELLED
    labels = labels[known].astype(np.int64)
    if np.any((labels < 0) | (labels >= values.shape[1])):
        raise ValueError(
            f"Every label must be 0..{values.shape[1] - 1} or {UNLABELLED}. Received: {np.unique(labels)}"
        )
    return values[known].astype(np.float64), labels


def _check_some(labels: np.ndarray) -> None:
    if not len(labels):
        raise InputError("none of the images has a label: calibration compares probabilities with labels")


def _negative_log_likelihood(log_probs: np.ndarray, labels: np.ndarray) -> float:
    log_probs, labels = _labelled(log_probs, labels)
    return float(-log_probs[np.arange(len(labels)), labels].mean())
