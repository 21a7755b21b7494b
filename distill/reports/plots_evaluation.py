"""Where the marks of the evaluation page's charts stand; `evaluation_charts.html` draws them as inline SVG.

SVG takes its colours from the page, in light and dark, and stays sharp on paper. Lengths are in units of the
charts' view boxes, y downwards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

_LETTER, _LINE = 7.4, 15.0  # of a label, on average
_LONGEST_LABEL = 34  # letters
_GAP = 5.0  # between a mark and its label
_SMALLEST_RADIUS, _LARGEST_RADIUS = 4.0, 15.0
_STEP, _DOTS = 5, 12  # of places that are tried, and of a leader
_FACTOR = 1.6  # between the largest size and the end of the axis
_MOST_TICKS = 6


@dataclass(frozen=True)
class Frame:
    """The view box of a chart, and the rectangle in it that the data fill."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    def at(self, across: float, up: float) -> tuple[float, float]:
        """Return the point at two shares, 0..1, of the rectangle, from its lower left corner."""
        x = self.left + across * (self.right - self.left)
        return round(x, 1), round(self.bottom - up * (self.bottom - self.top), 1)


RELIABILITY = Frame(width=360, height=330, left=64, right=338, top=12, bottom=250)
SCATTER = Frame(width=440, height=330, left=64, right=424, top=14, bottom=278)
_COUNTS_HEIGHT = 30.0  # of the strip below the reliability diagram
# A box is (left, top, right, bottom), the last axis of an array of boxes.


def reliability_marks(bins: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a mark for each bin with images.

    Args:
        bins: of `distill.reports.calibration.reliability_curve`.

    Returns:
        `x` and `width` of its bar, `y` and `height` of the accuracy, `dot` (x, y) at the mean top probability,
        `count` (0..`_COUNTS_HEIGHT`, the height of its share of the images), and `row`, the bin itself.
    """
    most = max(row["count"] for row in bins)
    marks = []
    for row in bins:
        if not row["count"]:
            continue
        x, y = RELIABILITY.at(row["low"], row["accuracy"])
        marks.append(
            {
                "x": x,
                "y": y,
                "width": round(RELIABILITY.at(row["high"], 0)[0] - x, 1),
                "height": round(RELIABILITY.bottom - y, 1),
                "dot": RELIABILITY.at(row["mean_top_probability"], row["accuracy"]),
                "count": round(max(_COUNTS_HEIGHT * row["count"] / most, 1.0), 1),
                "row": row,
            }
        )
    return marks


def scatter_marks(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the chart of size (log axis) and accuracy, whose marks have areas in proportion to frames/s.

    Args:
        models: at least one, as in `evaluation.json`, each of at least one byte.

    Returns:
        `x_ticks` and `y_ticks`, each (place, text); `marks`, each `x`, `y`, `radius` and `speed` (frames/s or None),
        `lines` (what is written next to it), `name` (whole), and where that stands: `label` (x, y), `anchor` and
        `leader` (the end of a line from the mark, or None where the label is next to it).
    """
    x_axis = _Axis(*_log_range([model["bytes"] for model in models]))
    y_axis = _Axis(*_accuracy_range([model["accuracy"] for model in models]))
    marks = []
    for model, radius in zip(models, _radii(models), strict=True):
        x, y = SCATTER.at(x_axis.share(math.log10(model["bytes"])), y_axis.share(model["accuracy"]))
        mark = {"x": x, "y": y, "radius": radius, "speed": _speed(model), "name": model["name"]}
        marks.append({**mark, "lines": [_shortened(model["name"]), _facts(model)]})
    _place_labels(marks)
    return {"x_ticks": _size_ticks(x_axis), "y_ticks": _accuracy_ticks(y_axis), "marks": marks}


def bytes_text(count: float) -> str:
    """Return a number of bytes in three digits: 657532 -> "658 kB"."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB" if count < 999.5 else f"{count:,.0f} GB"


class _Axis(NamedTuple):
    """The values at its two ends."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value stands, 0..1."""
        return (value - self.low) / (self.high - self.low)


def _log_range(sizes: Sequence[int]) -> tuple[float, float]:
    return math.log10(min(sizes) / _FACTOR), math.log10(max(sizes) * _FACTOR)


def _accuracy_range(accuracies: Sequence[float]) -> tuple[float, float]:
    room = max(0.02, 0.35 * (max(accuracies) - min(accuracies)))
    return max(0.0, min(accuracies) - room), min(1.0, max(accuracies) + room)


def _size_ticks(axis: _Axis) -> list[tuple[float, str]]:
    """Return place and text of at most `_MOST_TICKS` sizes."""
    ends = 10**axis.low, 10**axis.high
    sizes = [size for size in LogLocator(subs=(1, 2, 5)).tick_values(*ends) if ends[0] <= size <= ends[1]]
    sizes = sizes[:: math.ceil(len(sizes) / _MOST_TICKS) or 1]
    return [(SCATTER.at(axis.share(math.log10(size)), 0)[0], bytes_text(size)) for size in sizes]


def _accuracy_ticks(axis: _Axis) -> list[tuple[float, str]]:
    shares = [share for share in MaxNLocator(5).tick_values(*axis) if axis.low <= share <= axis.high]
    return [(SCATTER.at(0, axis.share(share))[1], f"{100 * share:.3g} %") for share in shares]


def _speed(model: Mapping[str, Any]) -> float | None:
    return model["latency"] and model["latency"]["frames_per_second"]


def _radii(models: Sequence[Mapping[str, Any]]) -> list[float]:
    fastest = max((_speed(model) or 0 for model in models), default=0) or 1
    radii = [_LARGEST_RADIUS * math.sqrt((_speed(model) or 0) / fastest) for model in models]
    return [round(max(_SMALLEST_RADIUS, radius), 1) for radius in radii]


def _facts(model: Mapping[str, Any]) -> str:
    facts = f"{100 * model['accuracy']:.1f} %, {bytes_text(model['bytes'])}"
    speed = _speed(model)
    return facts if speed is None else f"{facts}, {speed:,.0f}/s"


def _shortened(name: str) -> str:
    """Leave the middle of a long name out: what differs mostly stands at its ends."""
    half = (_LONGEST_LABEL - 1) // 2
    return name if len(name) <= _LONGEST_LABEL else f"{name[:half]}…{name[-half:]}"


def _place_labels(marks: list[dict[str, Any]]) -> None:
    """Give every mark the nearest place for its label that touches no label, mark or leader, and no border.

    What is far from its mark is joined to it by a leader.
    """
    taken = np.array([_disc(mark) for mark in marks])
    for mark in marks:
        boxes = _boxes_around(mark)
        box = boxes[np.argmin(_costs(mark, boxes, taken))]  # the first of equals
        left, top, right, _ = map(float, box)
        mark["anchor"] = "start" if left >= mark["x"] else "end" if right <= mark["x"] else "middle"
        x = {"start": left, "end": right, "middle": (left + right) / 2}[mark["anchor"]]
        mark["label"] = (round(x, 1), round(top + 0.8 * _LINE, 1))
        far = _distances(mark, box) > 2 * _GAP
        mark["leader"] = tuple(_nearest(mark, box).tolist()) if far else None
        taken = np.concatenate([taken, box[None], _leaders(mark, box) if far else taken[:0]])


def _boxes_around(mark: Mapping[str, Any]) -> np.ndarray:
    """Return places for a label: right, left, below and above the mark, then all over the frame."""
    width, height = _LETTER * max(map(len, mark["lines"])), _LINE * len(mark["lines"])
    away, x, y = mark["radius"] + _GAP, mark["x"], mark["y"]
    adjacent = [(x + away, y - height / 2), (x - away - width, y - height / 2)]
    adjacent += [(x - width / 2, y + away), (x - width / 2, y - away - height)]
    everywhere = product(
        np.arange(SCATTER.left, SCATTER.right - width, _STEP), np.arange(SCATTER.top, SCATTER.bottom - height, _STEP)
    )
    corners = np.array([*adjacent, *everywhere])
    return np.concatenate([corners, corners + (width, height)], axis=1)


def _costs(mark: Mapping[str, Any], boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return how bad every place is: its distance, and a lot for whatever it or its leader would touch."""
    distances = _distances(mark, boxes)
    touched = _overlaps(boxes[:, None], taken).sum(axis=1) + _outside(boxes)
    others = taken[_overlaps(taken, _disc(mark)) == 0]
    crossed = (_overlaps(_leaders(mark, boxes)[:, :, None], others) > 0).sum(axis=(1, 2))
    return distances + 10 * (touched + (distances > 2 * _GAP) * (20 * crossed + 1))


def _disc(mark: Mapping[str, Any]) -> np.ndarray:
    x, y, radius = mark["x"], mark["y"], mark["radius"]
    return np.array([x - radius, y - radius, x + radius, y + radius])


def _nearest(mark: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Return the point of every box that is nearest to a mark, (..., 2)."""
    return np.clip((mark["x"], mark["y"]), boxes[..., :2], boxes[..., 2:]).round(1)


def _distances(mark: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Return how far every box is from the edge of a mark."""
    x, y = np.moveaxis(_nearest(mark, boxes) - (mark["x"], mark["y"]), -1, 0)
    return abs(np.hypot(x, y) - mark["radius"])


def _leaders(mark: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Return small boxes along the line from a mark to the label in every box, (..., `_DOTS`, 4)."""
    centre = np.array([mark["x"], mark["y"]])
    shares = np.linspace(0, 0.95, _DOTS)[:, None]
    dots = centre + shares * (_nearest(mark, boxes) - centre)[..., None, :]
    return np.concatenate([dots - 1, dots + 1], axis=-1)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the areas that boxes share."""
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    return sides.clip(0).prod(axis=-1)


def _outside(boxes: np.ndarray) -> np.ndarray:
    """Return a cost of what lies beyond the frame."""
    before = (SCATTER.left, SCATTER.top) - boxes[..., :2]
    beyond = boxes[..., 2:] - (SCATTER.right, SCATTER.bottom)
    return 100 * (before.clip(0) + beyond.clip(0)).sum(axis=-1)
