"""Where the marks of the charts stand."""

import random

import numpy as np
import pytest

from distill.reports import plots_evaluation
from distill.reports.calibration import reliability_curve
from distill.reports.plots_evaluation import RELIABILITY, SCATTER, bytes_text, reliability_marks, scatter_marks


def model(name, *, bytes=260_000, accuracy=0.5, speed=20_000):
    return {
        "name": name,
        "bytes": bytes,
        "accuracy": accuracy,
        "latency": speed and {"frames_per_second": speed},
    }


def label_box(mark):
    """Left, top, right and bottom of a label, wide enough for bold letters."""
    x, y = mark["label"]
    width = plots_evaluation._LETTER * max(map(len, mark["lines"]))
    left = {"start": x, "middle": x - width / 2, "end": x - width}[mark["anchor"]]
    top = y - 0.8 * plots_evaluation._LINE
    return left, top, left + width, top + 2 * plots_evaluation._LINE


def apart(one, other) -> bool:
    return one[2] <= other[0] + 1 or other[2] <= one[0] + 1 or one[3] <= other[1] + 1 or other[3] <= one[1] + 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_labels_touch_neither_each_other_nor_the_border(count, seed):
    rng = random.Random(seed)
    models = [
        model(
            "microexpnet-" + "x" * rng.randint(0, 16),
            bytes=round(rng.choice([65e3, 260e3, 265e3, 900e3])),
            accuracy=rng.choice([0.5, 0.501, 0.6]),
            speed=rng.choice([None, 300, 20_000]),
        )
        for _ in range(count)
    ]
    boxes = [label_box(mark) for mark in scatter_marks(models)["marks"]]
    for number, box in enumerate(boxes):
        assert all(apart(box, other) for other in boxes[:number])
        assert box[0] >= SCATTER.left - 1
        assert box[2] <= SCATTER.right + 1
        assert box[1] >= SCATTER.top - 1
        assert box[3] <= SCATTER.bottom + 1


def test_smaller_is_left_better_is_up_and_faster_is_larger():
    chart = scatter_marks(
        [model("a", bytes=1e5, accuracy=0.4, speed=40), model("b", bytes=1e6, accuracy=0.8, speed=10)]
    )
    a, b = chart["marks"]
    assert a["x"] < b["x"]
    assert a["y"] > b["y"]
    assert a["radius"] == pytest.approx(2 * b["radius"], abs=0.1)  # four times the area
    assert [text for _, text in chart["x_ticks"]] == ["100 kB", "200 kB", "500 kB", "1 MB"]


def test_a_mark_stands_where_its_numbers_say():
    first, middle, last = scatter_marks([model(str(size), bytes=size) for size in (10_000, 100_000, 1_000_000)])[
        "marks"
    ]
    assert middle["x"] - first["x"] == pytest.approx(last["x"] - middle["x"], abs=0.2)
    assert first["y"] == last["y"]


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_the_ends_of_the_scale_lie_in_the_frame(accuracy):
    chart = scatter_marks([model("one", accuracy=accuracy, speed=None)])
    assert SCATTER.top <= chart["marks"][0]["y"] <= SCATTER.bottom
    assert all(SCATTER.top <= place <= SCATTER.bottom for place, _ in chart["y_ticks"])


def test_a_long_name_loses_its_middle():
    (mark,) = scatter_marks([model("a" * 40 + "z" * 40)])["marks"]
    assert mark["lines"][0] == "a" * 16 + "…" + "z" * 16
    assert mark["name"] == "a" * 40 + "z" * 40


def test_the_bars_are_those_of_the_curve():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.45, 0.55]])
    marks = reliability_marks(reliability_curve(probs, np.array([0, 1, 1, 0]), bins=10))
    assert [mark["row"]["count"] for mark in marks] == [1, 1, 2]  # empty bins have no mark
    height = RELIABILITY.bottom - RELIABILITY.top
    assert [mark["height"] / height for mark in marks] == pytest.approx([0, 1, 0.5], abs=1e-3)
    assert marks[2]["dot"] == RELIABILITY.at(0.9, 0.5)
    assert marks[2]["count"] == 2 * marks[0]["count"]
    assert marks[0]["x"] == RELIABILITY.at(0.5, 0)[0]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (657_532, "658 kB"), (999_600, "1 MB"), (87_654_321, "87.7 MB")],
)
def test_bytes_in_three_digits(count, text):
    assert bytes_text(count) == text
