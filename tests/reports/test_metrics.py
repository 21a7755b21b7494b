"""The figures of an evaluation, against numbers worked out by hand and loops in float64."""

import json

import numpy as np
import pytest

from distill.errors import InputError
from distill.reports.metrics import (
    EvaluationMetrics,
    confusion_matrix,
    confusion_text,
    evaluate_predictions,
    per_class_table,
)

NAMES = ("happy", "sad", "angry")
# Six faces: happy, happy, happy, sad, sad, angry; taken for happy, happy, sad, sad, sad, happy.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 1, 0])
CONFUSION = [[2, 1, 0], [0, 2, 0], [1, 0, 0]]


def logits_of(predictions, classes):
    return np.eye(classes)[predictions] * 5.0 - 2.0


def evaluated(labels, predictions, names=NAMES):
    logits = logits_of(np.asarray(predictions), len(names))
    return evaluate_predictions(labels=np.asarray(labels), logits=logits, class_names=names)


@pytest.fixture
def random_case(rng):
    labels = rng.integers(0, 5, 400)
    predictions = np.where(rng.random(400) < 0.5, labels, rng.integers(0, 5, 400))
    return labels, predictions


def test_hand_worked_example():
    metrics = evaluated(LABELS, PREDICTIONS)
    assert metrics.confusion.tolist() == CONFUSION
    assert metrics.confusion.dtype == np.int64
    assert metrics.count == 6
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.precision == pytest.approx([2 / 3, 2 / 3, 0])
    assert metrics.recall == pytest.approx([2 / 3, 1, 0])
    assert metrics.f1 == pytest.approx([2 / 3, 4 / 5, 0])
    assert metrics.support.tolist() == [3, 2, 1]
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_scikit_learns_documented_example():
    """`f1_score([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], average="macro")` is given there as 0.26..."""
    metrics = evaluated([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1])
    assert metrics.macro_f1 == pytest.approx(0.8 / 3)
    assert metrics.f1 == pytest.approx([0.8, 0, 0])


def test_agrees_with_a_loop_in_float64(random_case):
    labels, predictions = random_case
    metrics = evaluated(labels, predictions, names="abcde")
    f1 = []
    for k in range(5):
        true_positives = sum(1.0 for t, p in zip(labels, predictions, strict=True) if t == p == k)
        precision = true_positives / sum(1.0 for p in predictions if p == k)
        recall = true_positives / sum(1.0 for t in labels if t == k)
        f1.append(2 * precision * recall / (precision + recall))
        assert metrics.precision[k] == pytest.approx(precision)
        assert metrics.recall[k] == pytest.approx(recall)
    assert metrics.f1 == pytest.approx(f1)
    assert metrics.macro_f1 == pytest.approx(sum(f1) / 5)
    assert metrics.accuracy == pytest.approx(np.mean(labels == predictions))


def test_order_of_images_changes_nothing(random_case, rng):
    order = rng.permutation(400)
    one = evaluated(*random_case, names="abcde")
    other = evaluated(*(column[order] for column in random_case), names="abcde")
    assert one.to_dict() == other.to_dict()


def test_renumbering_the_classes_permutes_the_figures(random_case, rng):
    new_number = rng.permutation(5)
    one = evaluated(*random_case, names="abcde")
    other = evaluated(*(new_number[column] for column in random_case), names="abcde")
    assert other.accuracy == one.accuracy
    assert other.macro_f1 == pytest.approx(one.macro_f1)
    np.testing.assert_array_equal(other.f1[new_number], one.f1)
    np.testing.assert_array_equal(other.confusion[np.ix_(new_number, new_number)], one.confusion)


def test_seeing_every_image_twice_changes_only_the_counts(random_case):
    one = evaluated(*random_case, names="abcde")
    twice = evaluated(*(np.tile(column, 2) for column in random_case), names="abcde")
    assert (twice.accuracy, twice.macro_f1) == (one.accuracy, one.macro_f1)
    np.testing.assert_array_equal(twice.support, 2 * one.support)


def test_a_class_without_labels_or_predictions_is_left_out_of_macro_f1():
    assert evaluated([0, 1, 0], [0, 1, 1]).macro_f1 == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert evaluated([0, 1, 0], [0, 1, 2]).macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_perfect_and_hopeless():
    assert evaluated(LABELS, LABELS).macro_f1 == 1
    assert evaluated(LABELS, (LABELS + 1) % 3).macro_f1 == 0


def test_unlabelled_images_are_left_out_and_counted():
    metrics = evaluated([*LABELS, -1, -1], [*PREDICTIONS, 0, 1])
    assert metrics.unlabelled == 2
    assert metrics.count == 6
    assert metrics.confusion.tolist() == CONFUSION


def test_only_the_order_of_the_logits_matters(rng):
    logits = rng.normal(size=(50, 3))
    labels = rng.integers(0, 3, 50)
    one, other = (
        evaluate_predictions(labels=labels, logits=values, class_names=NAMES)
        for values in (logits, 10 * logits + rng.normal(size=(50, 1)))
    )
    assert one.to_dict() == other.to_dict()


def test_the_dictionary_survives_json():
    content = json.loads(json.dumps(evaluated(LABELS, PREDICTIONS).to_dict(), allow_nan=False))
    assert content["accuracy"] == pytest.approx(4 / 6)
    assert content["confusion"]["counts"] == CONFUSION
    assert content["classes"]["sad"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2})


def test_texts_are_aligned():
    metrics = evaluated(LABELS, PREDICTIONS)
    assert per_class_table(metrics).splitlines() == [
        "class  precision  recall     F1  images",
        "happy      0.667   0.667  0.667       3",
        "sad        0.667   1.000  0.800       2",
        "angry      0.000   0.000  0.000       1",
    ]
    assert confusion_text(metrics).splitlines() == [
        "true \\ predicted  happy  sad  angry",
        "happy                 2    1      0",
        "sad                   0    2      0",
        "angry                 1    0      0",
    ]


def test_large_counts_keep_the_columns_aligned():
    metrics = EvaluationMetrics(class_names=("a", "b"), confusion=np.array([[12_345, 1], [0, 7]]))
    assert len({len(line) for line in confusion_text(metrics).splitlines()}) == 1
    assert "12,345" in confusion_text(metrics)


def test_diverged_logits_are_refused():
    logits = logits_of(PREDICTIONS, 3)
    logits[2, 1] = np.nan
    with pytest.raises(InputError, match="1 of 6 rows of logits are not finite: the network has diverged"):
        evaluate_predictions(labels=LABELS, logits=logits, class_names=NAMES)


def test_no_label_at_all_is_refused():
    with pytest.raises(InputError, match="none of the 2 images has a label"):
        evaluated([-1, -1], [0, 1])


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 3], [0, 1], r"Every label must be 0\.\.2. Received: \[0 3\]"),
        ([0, -2], [0, 1], r"Every label must be 0\.\.2. Received: \[-2  0\]"),
        ([0, 1], [0, 3], r"Every prediction must be 0\.\.2"),
        ([0, 1], [0], r"Labels and predictions must be \[N\]"),
    ],
)
def test_numbers_that_are_no_class_are_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(labels), np.array(predictions), 3)


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"Logits must be \[6, 3\]"):
        evaluate_predictions(labels=LABELS, logits=np.zeros((6, 4)), class_names=NAMES)


def test_metrics_survive_json():
    confusion = np.array([[3, 1], [0, 2]])
    metrics = EvaluationMetrics(class_names=("a", "b"), confusion=confusion, unlabelled=4)
    again = EvaluationMetrics.from_dict(json.loads(json.dumps(metrics.to_dict())))
    assert again.to_dict() == metrics.to_dict()
    assert again.confusion.dtype == np.int64
