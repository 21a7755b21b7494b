"""Do logits fit their labels as they stand? Accuracy against chance, and in every other order.

A network whose classes stand in another order than was said gives predictions that look right and are not. Labels
show it: the confusion matrix of such a network is a good one with its columns exchanged.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import erf, sqrt
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from distill.data.dataset import UNLABELLED
from distill.data.expressions import ALPHABETICAL, CLASS_ORDERS
from distill.reports.metrics import confusion_matrix, wilson_interval

CERTAIN = 4.0
"""Standard errors by which one accuracy must exceed another on the same images: chance does it once in 30,000."""

_NEAR_CHANCE = 0.1  # of Cohen's kappa: a tenth of the way from chance to always right
_NOISE = 2.0  # standard errors: what stays below may be nothing


@dataclass(frozen=True)
class Diagnosis:
    """How logits fit their labels."""

    images: int
    """How many have a label; 0: nothing is known."""
    accuracy: float | None = None
    """Share of them whose largest logit is that of the label, 0..1; None without labels."""
    chance: float | None = None
    """The accuracy of answers that are as frequent and have nothing to do with the labels."""
    near_chance: bool = False
    """Whether the accuracy is hardly above chance, or so few images have labels that it cannot be known."""
    better_order: tuple[str, ...] | None = None
    """Class names in an order that fits far better, if any."""
    better_accuracy: float | None = None
    """The accuracy in that order."""

    @property
    def fit(self) -> float:
        """The accuracy in the order that fits, 0 without labels."""
        return self.better_accuracy or self.accuracy or 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return asdict(self)


def diagnose(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Diagnosis:
    """Compare logits with labels, as they stand and in every other order of the classes.

    Accuracy is near chance where Cohen's kappa, (accuracy - chance) / (1 - chance), is below a tenth, or would be for
    one that is lower by two standard errors (the lower end of Wilson's interval). The better order is the one of
    the largest accuracy, a linear assignment over the confusion matrix, or a usual one where that is as good within
    noise. It is named where it is better by four standard errors on images that it was not chosen by (each half is
    evaluated in the order that fits the other half), and is not near chance itself.

    Args:
        logits: float [N, C].
        labels: int [N], 0..C-1 in the order of `class_names`, or `UNLABELLED`.
        class_names: the C names.

    Raises:
        ValueError: shapes that do not fit together, or a label that is not a class.
    """
    labelled = np.asarray(labels) != UNLABELLED
    labels, predicted = np.asarray(labels)[labelled], np.asarray(logits)[labelled].argmax(axis=1)
    if not len(labels):
        return Diagnosis(images=0)
    confusion = confusion_matrix(labels, predicted, len(class_names))
    stated = Diagnosis(len(labels), *_accuracy_and_chance(confusion), near_chance=_is_near_chance(confusion))
    better = _better_order(labels, predicted, class_names)
    if better is None:
        return stated
    accuracy = float(np.mean(better[predicted] == labels))
    names = tuple(class_names[position] for position in better)
    return Diagnosis(stated.images, stated.accuracy, stated.chance, stated.near_chance, names, accuracy)


def exceeds(right: np.ndarray, other: np.ndarray) -> float:
    """Return by how many standard errors one accuracy exceeds another on the same images (McNemar's test).

    Args:
        right: bool [N], which images one of them has right.
        other: the same of the other.
    """
    won, lost = np.sum(right & ~other), np.sum(other & ~right)
    return float((won - lost) / sqrt(won + lost)) if won + lost else 0.0


def accuracy_text(found: Diagnosis) -> str:
    """Return the accuracy as a phrase: "34.3 % of 3,589 labelled images"."""
    if found.accuracy is None:
        return "unknown: no image has a label"
    return f"{found.accuracy:.1%} of {found.images:,} labelled images"


def warnings_of(found: Diagnosis, *, prefix: str = "", of_this_project: bool = False) -> list[str]:
    """Return what to report to the user, a sentence each, with the flags to give.

    Args:
        prefix: what the flags of the network begin with.
        of_this_project: whether it is a network of this project, whose pixels are known.
    """
    if found.better_order is not None:
        return [
            f"another order of the classes fits far better: {found.better_accuracy:.1%} instead of "
            f"{found.accuracy:.1%} of {found.images:,} labelled images with "
            f"{order_text(found.better_order).replace('--', f'--{prefix}')}"
        ]
    if found.near_chance:
        if of_this_project:
            remedy = "how long it was trained, and on how many images"
        else:
            pixels, classes = f"--{prefix}input.range 0 1, or -1 1", f"--{prefix}classes"
            remedy = f"whether it takes other pixels ({pixels}), or other classes ({classes})"
        return [f"the accuracy, {accuracy_text(found)}, is near chance, {found.chance:.1%}: see {remedy}"]
    return []


def order_text(names: Sequence[str]) -> str:
    """Return what to give as `--classes` for this order: the names, and what the order is called."""
    listed = ",".join(names)
    called = next((name for name, order in _usual_orders(names) if order == tuple(names)), None)
    return f"--classes {listed}" if called is None else f"--classes {listed} ({called})"


def _better_order(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
    """Return int [C]: the class that each output stands for, or None where the stated order fits as well."""
    count = len(class_names)
    best = _assigned(labels, predicted, count)
    halves = np.empty(len(labels), int)
    halves[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2  # half of every class
    unseen = np.empty_like(predicted)
    for half in (0, 1):
        order = _assigned(labels[halves != half], predicted[halves != half], count)
        unseen[halves == half] = order[predicted[halves == half]]
    certain = exceeds(unseen == labels, predicted == labels) >= CERTAIN
    if not certain or _is_near_chance(confusion_matrix(labels, unseen, count)):
        return None
    for _, names in _usual_orders(class_names):
        usual = np.array([class_names.index(name) for name in names])
        if exceeds(best[predicted] == labels, usual[predicted] == labels) < _NOISE:
            return None if np.array_equal(usual, np.arange(count)) else usual
    return best


def _assigned(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return int [C]: the class that each output stands for where most images are right; among equals, its own."""
    counts = confusion_matrix(labels, predicted, classes)
    _, order = linear_sum_assignment((counts + np.eye(classes) / (2 * classes)).T, maximize=True)
    return order


def _usual_orders(class_names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the orders of these very classes that are in use, with what `--classes` calls them."""
    named = [(ALPHABETICAL, tuple(sorted(class_names))), *CLASS_ORDERS.items()]
    return [(name, order) for name, order in named if set(order) == set(class_names)]


def _accuracy_and_chance(confusion: np.ndarray) -> tuple[float, float]:
    images = confusion.sum()
    chance = confusion.sum(axis=0) @ confusion.sum(axis=1) / images**2
    return float(np.trace(confusion) / images), float(chance)


def _is_near_chance(confusion: np.ndarray) -> bool:
    _, chance = _accuracy_and_chance(confusion)
    if chance == 1:  # one class, always right
        return False
    # Few images that are all right have a standard error of 0, and Wilson's interval all the same.
    lowest, _ = wilson_interval(int(np.trace(confusion)), int(confusion.sum()), confidence=erf(_NOISE / sqrt(2)))
    return (lowest - chance) / (1 - chance) <= _NEAR_CHANCE
