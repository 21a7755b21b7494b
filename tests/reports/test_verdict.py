"""A number is compared with what always predicting one class would give."""

import numpy as np
import pytest

from distill.reports.metrics import EvaluationMetrics
from distill.reports.verdict import verdict, worth_lines

NAMES = ("happy", "neutral", "other")


def metrics(*rows):
    return EvaluationMetrics(NAMES, np.array(rows))


ALWAYS_HAPPY = metrics([678, 0, 0], [200, 0, 0], [122, 0, 0])
USEFUL = metrics([600, 40, 38], [20, 160, 20], [12, 10, 100])
FEW_IMAGES = metrics([7, 0, 0], [1, 1, 0], [0, 0, 1])


def test_figures_against_numbers_worked_out_elsewhere():
    assert ALWAYS_HAPPY.balanced_accuracy == pytest.approx(1 / 3)
    assert ALWAYS_HAPPY.most_frequent == ("happy", 0.678)
    assert USEFUL.balanced_accuracy == pytest.approx((600 / 678 + 160 / 200 + 100 / 122) / 3)
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I: 81 of 263.
    newcombe = metrics([81, 182, 0], [0, 0, 0], [0, 0, 0]).accuracy_interval
    assert newcombe == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_class_without_images_does_not_count_in_balanced_accuracy():
    assert metrics([3, 1, 0], [0, 2, 0], [0, 0, 0]).balanced_accuracy == pytest.approx((0.75 + 1) / 2)


def test_a_model_that_always_says_one_class_is_told_so():
    said = verdict(ALWAYS_HAPPY)
    assert said.startswith('the accuracy of 67.8% is no better than always predicting "happy" (67.8%)')
    assert worth_lines(ALWAYS_HAPPY)[-1] == f"warning: {said}"


def test_few_images_tell_little():
    assert FEW_IMAGES.accuracy > FEW_IMAGES.most_frequent[1]
    assert "10 images are too few to tell" in verdict(FEW_IMAGES)


def test_a_useful_model_is_not_warned_of():
    assert verdict(USEFUL) is None
    assert worth_lines(USEFUL)[1] == 'always predicting "happy" would give 67.8%, and a balanced accuracy of 33.3%'
