"""Sureness and rightness at several temperatures: by hand, by plain loops, and as published."""

import math
import pickle

import numpy as np
import pytest

from distill.data.dataset import UNLABELLED
from distill.errors import InputError
from distill.reports.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    TEMPERATURES,
    accuracy,
    calibrating_temperature,
    calibration_error,
    log_softmax,
    reliability_curve,
    temperature_table,
)
from distill.reports.metrics import evaluate_predictions
from distill.reports.plots import temperature_picture

FIELDS = ("mean_top_probability", "entropy", "calibration_error", "negative_log_likelihood")


@pytest.fixture
def logits(rng):
    return rng.normal(0, 3, (400, 5)).astype(np.float32)


@pytest.fixture
def labels(logits, rng):
    """Right in about three rows of four, absent in some."""
    labels = np.where(rng.random(len(logits)) < 0.7, logits.argmax(1), rng.integers(0, 5, len(logits)))
    labels[::9] = UNLABELLED
    return labels


def softmax_by_loops(row, temperature):
    odds = [math.exp(value / temperature) for value in row]
    return [value / sum(odds) for value in odds]


def figures_by_loops(logits, labels, temperature, bins=15):
    """The four figures, as their definitions read, one row after the other."""
    probs = [softmax_by_loops(row, temperature) for row in logits.tolist()]
    labelled = [(row, label) for row, label in zip(probs, labels.tolist(), strict=True) if label >= 0]
    error = 0.0
    for number in range(bins):
        inside = [(r, y) for r, y in labelled if number / bins < max(r) <= (number + 1) / bins]
        if inside:
            right = sum(r.index(max(r)) == y for r, y in inside) / len(inside)
            sure = sum(max(r) for r, _ in inside) / len(inside)
            error += len(inside) / len(labelled) * abs(right - sure)
    return {
        "mean_top_probability": sum(map(max, probs)) / len(probs),
        "entropy": -sum(p * math.log(p) for row in probs for p in row) / len(probs),
        "calibration_error": error,
        "negative_log_likelihood": -sum(math.log(row[label]) for row, label in labelled) / len(labelled),
    }


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_every_figure_is_that_of_plain_loops(logits, labels, temperature):
    (row,) = temperature_table(logits, labels, temperatures=[temperature])
    assert row == pytest.approx({"temperature": temperature, **figures_by_loops(logits, labels, temperature)})


def test_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 0])
    # Ten bins: two rows at 0.9, half of them right; 0.7, right; 0.55, wrong.
    by_hand = (2 * abs(0.5 - 0.9) + abs(1 - 0.7) + abs(0 - 0.55)) / 4
    assert calibration_error(probs, labels, bins=10) == pytest.approx(by_hand)
    assert calibration_error(probs, labels, bins=1) == pytest.approx(abs(2 / 4 - (0.9 + 0.9 + 0.7 + 0.55) / 4))


def test_the_edge_of_a_bin_belongs_to_the_lower_one():
    probs, labels = np.array([[0.5, 0.5], [0.4, 0.6]]), np.array([0, 1])
    # Of two bins 0.5 closes the first and 0.6 lies in the second; together they would give |1 - 0.55|.
    assert calibration_error(probs, labels, bins=2) == pytest.approx((0.5 + 0.4) / 2)
    probs = np.array([[0.5, 0.5], [0.55, 0.45]])
    assert calibration_error(probs, np.array([1, 0]), bins=2) == pytest.approx((0.5 + 0.45) / 2)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_reliability_curve_is_that_of_plain_loops(logits, labels, bins):
    probs = np.exp(log_softmax(logits))
    curve = reliability_curve(probs, labels, bins=bins)
    assert len(curve) == bins
    for number, row in enumerate(curve):
        tops, rights = [], []
        for each, label in zip(probs, labels, strict=True):
            if label != UNLABELLED and number / bins < each.max() <= (number + 1) / bins:
                tops.append(each.max())
                rights.append(each.argmax() == label)
        assert (row["low"], row["high"]) == pytest.approx((number / bins, (number + 1) / bins))
        assert row["count"] == len(tops)
        if tops:
            assert row["mean_top_probability"] == pytest.approx(np.mean(tops))
            assert row["accuracy"] == pytest.approx(np.mean(rights))
        else:
            assert (row["mean_top_probability"], row["accuracy"]) == (None, None)


def test_the_calibration_error_is_that_of_the_reliability_curve(logits, labels):
    probs = np.exp(log_softmax(logits))
    rows = [row for row in reliability_curve(probs, labels, bins=10) if row["count"]]
    gaps = [row["count"] * abs(row["accuracy"] - row["mean_top_probability"]) for row in rows]
    assert calibration_error(probs, labels, bins=10) == pytest.approx(sum(gaps) / (labels != UNLABELLED).sum())


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    sure = np.eye(3)[[0, 1, 2]]
    assert calibration_error(sure, np.array([0, 1, 2])) == 0
    assert calibration_error(sure, np.array([1, 2, 0])) == 1


def test_a_constant_added_to_a_row_changes_nothing(logits, labels, rng):
    shifted = logits.astype(np.float64) + rng.normal(0, 50, (len(logits), 1))
    for row, other in zip(temperature_table(logits, labels), temperature_table(shifted, labels), strict=True):
        assert row == pytest.approx(other)
    assert calibrating_temperature(shifted, labels) == pytest.approx(calibrating_temperature(logits, labels))


def test_scaling_logits_and_temperature_together_changes_nothing(logits, labels):
    for row, scaled in zip(
        temperature_table(logits, labels, temperatures=(1, 2)),
        temperature_table(logits.astype(np.float64) * 10, labels, temperatures=(10, 20)),
        strict=True,
    ):
        assert [row[name] for name in FIELDS] == pytest.approx([scaled[name] for name in FIELDS])
    tenfold = calibrating_temperature(logits.astype(np.float64) * 10, labels)
    assert tenfold == pytest.approx(10 * calibrating_temperature(logits, labels))


def test_a_high_temperature_makes_all_classes_alike(logits, labels):
    (row,) = temperature_table(logits, labels, temperatures=[HIGHEST_TEMPERATURE])
    assert row["mean_top_probability"] == pytest.approx(1 / 5, abs=1e-4)
    assert row["entropy"] == pytest.approx(math.log(5))
    assert row["negative_log_likelihood"] == pytest.approx(math.log(5), abs=1e-3)


def test_logits_of_ten_thousand_stay_finite():
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0]], np.float32)
    sharp, unit = temperature_table(logits, np.array([0, 1]), temperatures=[LOWEST_TEMPERATURE, 1])
    assert unit["negative_log_likelihood"] == pytest.approx(2e4 / 2)
    assert sharp["negative_log_likelihood"] == pytest.approx(2e7 / 2)
    for row in (sharp, unit):
        assert (row["mean_top_probability"], row["entropy"], row["calibration_error"]) == (1, 0, 0.5)
        assert math.copysign(1, row["entropy"]) == 1, "-0.000 would stand in the table"


def test_rows_without_a_label_count_where_none_is_needed(logits, labels):
    known = labels != UNLABELLED
    some, of_known = temperature_table(logits, labels)[2], temperature_table(logits[known], labels[known])[2]
    for name in ("calibration_error", "negative_log_likelihood"):
        assert some[name] == of_known[name]
    for name in ("mean_top_probability", "entropy"):
        assert some[name] != of_known[name]
    assert calibrating_temperature(logits, labels) == calibrating_temperature(logits[known], labels[known])


def test_without_any_label(logits):
    labels = np.full(len(logits), UNLABELLED)
    for row in temperature_table(logits, labels):
        assert row["calibration_error"] is None
        assert row["negative_log_likelihood"] is None
        assert 0.2 < row["mean_top_probability"] < 1
    assert accuracy(logits, labels) is None
    for wanted in (calibrating_temperature, calibration_error):
        with pytest.raises(InputError, match="none of the images has a label"):
            wanted(logits, labels)


def test_accuracy_is_that_of_an_evaluation(logits, labels):
    expected = evaluate_predictions(labels=labels, logits=logits, class_names="abcde").accuracy
    assert accuracy(logits, labels) == expected


def test_no_temperature_is_likelier_than_the_calibrating_one(logits, labels):
    found = calibrating_temperature(logits, labels)
    temperatures = np.geomspace(0.1, 100, 200).tolist()
    losses = [row["negative_log_likelihood"] for row in temperature_table(logits, labels, temperatures=temperatures)]
    (best,) = temperature_table(logits, labels, temperatures=[found])
    assert best["negative_log_likelihood"] <= min(losses)
    assert found == pytest.approx(temperatures[int(np.argmin(losses))], rel=0.04)  # the nearest of the grid


def test_logits_that_say_nothing_are_calibrated_by_the_highest_temperature():
    labels = np.arange(10) % 3
    assert calibrating_temperature(np.ones((10, 3)), labels) == HIGHEST_TEMPERATURE
    one_class = np.tile([1.0, 0.0, 0.0], (9, 1))
    assert calibrating_temperature(one_class, np.arange(9) % 3) == pytest.approx(HIGHEST_TEMPERATURE, rel=1e-3)


def test_the_calibrating_temperature_is_the_one_that_labels_were_drawn_at(rng):
    logits = rng.normal(0, 8, (20_000, 4))
    drawn = np.argmax(logits / 2.5 + rng.gumbel(size=logits.shape), axis=1)  # from softmax(logits / 2.5)
    assert calibrating_temperature(logits, drawn) == pytest.approx(2.5, rel=0.03)


def test_the_calibrating_temperature_of_two_classes_in_closed_form():
    """Right in 3 of 4 rows, a gap of 6 between the logits: softmax is 3/4 where 6 / T = ln 3."""
    logits = np.array([[6.0, 0.0]] * 4)
    assert calibrating_temperature(logits, np.array([0, 0, 1, 0])) == pytest.approx(6 / math.log(3))


@pytest.mark.parametrize(
    ("right", "expected"), [(True, LOWEST_TEMPERATURE), (False, HIGHEST_TEMPERATURE)], ids=["right", "wrong"]
)
@pytest.mark.parametrize("scale", [1e-3, 1, 1e4])
def test_the_ends_of_the_range(right, expected, scale):
    logits = np.eye(3) * scale
    labels = np.arange(3) if right else np.array([1, 2, 0])
    assert calibrating_temperature(logits, labels) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf, 1e-4])
def test_a_temperature_out_of_range_is_refused(logits, labels, temperature):
    with pytest.raises(InputError, match=r"a temperature must lie in 0.001..100,000, received"):
        temperature_table(logits, labels, temperatures=[temperature])


@pytest.mark.parametrize("labels", [[5], [-2], [0, 1], [[0]]])
def test_labels_that_do_not_fit(labels):
    with pytest.raises(ValueError, match="Received"):
        temperature_table(np.zeros((1, 5)), np.array(labels))


def test_the_published_teacher_is_as_sure_as_published(shared):
    path = shared / "microexpnet" / "ResNet50_CK_SoftmaxIn.pickle"
    logits = np.array(list(pickle.loads(path.read_bytes(), encoding="latin1").values()))
    rows = temperature_table(logits, np.full(len(logits), UNLABELLED), temperatures=(1, 4, 8, 16))
    assert [row["mean_top_probability"] for row in rows] == pytest.approx([0.997, 0.905, 0.605, 0.332], abs=5e-4)


class TestPicture:
    @pytest.fixture
    def axes_of(self, tmp_path, monkeypatch):
        """A function that draws rows and returns what stands in the picture."""
        from matplotlib.figure import Figure

        figures = []
        save = Figure.savefig
        monkeypatch.setattr(
            Figure, "savefig", lambda self, *args, **options: (figures.append(self), save(self, *args, **options))
        )

        def draw(rows):
            temperature_picture(rows, tmp_path / "t.png", title="facenet")
            assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
            return figures[-1].axes[0]

        return draw

    def test_both_curves_are_drawn_and_named(self, axes_of, logits, labels):
        rows = temperature_table(logits, labels)
        axes = axes_of(rows[::-1])
        drawn = {text.get_text(): line for text, line in zip(axes.texts, axes.lines, strict=True)}
        for name in ("mean top probability", "calibration error"):
            points = [[row["temperature"], row[name.replace(" ", "_")]] for row in rows]
            assert drawn[name].get_xydata().tolist() == points
        assert (axes.get_xscale(), axes.get_xlabel(), axes.get_title()) == ("log", "temperature", "facenet")
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8", "16"]

    def test_without_labels_only_the_probability_is_drawn(self, axes_of, logits):
        axes = axes_of(temperature_table(logits, np.full(len(logits), UNLABELLED)))
        assert [text.get_text() for text in axes.texts] == ["mean top probability"]

    @pytest.mark.parametrize("count", [1, 30])
    def test_few_and_many_temperatures(self, axes_of, logits, labels, count):
        axes = axes_of(temperature_table(logits, labels, temperatures=np.geomspace(0.5, 64, count).tolist()))
        shown = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        assert 1 <= len(shown) <= 10
