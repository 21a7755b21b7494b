"""Ten classes of small pictures, drawn here: what is true for faces is true for any pictures.

`--data ten_shapes:draw`, in a command that is given in this folder, draws 6,000 pictures of 32x32: a bright or dark
shape of any size, place and turn on a background of noise and stripes, with a tenth of the training labels wrong.
"""

import cv2
import numpy as np

from distill import Dataset

CLASSES = ("circle", "ring", "square", "frame", "triangle", "star", "cross", "crescent", "bar", "arrow")
SIDE, LARGE = 32, 128  # drawn large and made small, so that edges are smooth
COUNTS = {"train": 4000, "validation": 1000, "test": 1000}
WRONG = 0.1


def draw() -> Dataset:
    """Return the dataset, the same on every machine with one version of OpenCV."""
    rng = np.random.default_rng(0)
    splits = np.repeat(list(COUNTS), list(COUNTS.values()))
    labels = rng.permutation(np.arange(len(splits)) % len(CLASSES))
    images = np.stack([_picture(CLASSES[label], rng) for label in labels])
    wrong = (splits == "train") & (rng.random(len(splits)) < WRONG)
    labels[wrong] = rng.integers(0, len(CLASSES), wrong.sum())
    return Dataset.from_arrays(images, labels, class_names=CLASSES, splits=splits, name="ten shapes")


def _picture(name: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 [SIDE, SIDE]."""
    mask = np.zeros((LARGE, LARGE), np.uint8)
    centre, radius, turn = rng.uniform(40, 88, 2), rng.uniform(22, 42), rng.uniform(0, 2 * np.pi)
    _SHAPES[name](mask, centre, radius, turn)
    x, y = np.meshgrid(np.arange(LARGE), np.arange(LARGE))
    direction, width = rng.uniform(0, np.pi), rng.uniform(8, 30)
    stripes = np.sin((x * np.cos(direction) + y * np.sin(direction)) / width * 2 * np.pi)
    background = rng.uniform(70, 180) + rng.uniform(0, 40) * stripes
    bright = background + rng.choice([-1, 1]) * rng.uniform(25, 75)
    picture = np.where(mask > 0, bright, background).astype(np.float32)
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.clip(small + rng.normal(0, 18, small.shape), 0, 255).astype(np.uint8)


def _polygon(mask, centre, radius, turn, points) -> None:
    """Fill a polygon of points (angle, share of the radius)."""
    corners = [
        centre + radius * share * np.array([np.cos(turn + angle), np.sin(turn + angle)]) for angle, share in points
    ]
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 255)


def _regular(corners: int, inner: float | None = None):
    shares = [1.0] if inner is None else [1.0, inner]
    count = corners * len(shares)
    points = [(2 * np.pi * i / count, shares[i % len(shares)]) for i in range(count)]
    return lambda mask, centre, radius, turn: _polygon(mask, centre, radius, turn, points)


def _hollow(shape, share: float, shift: float = 0.0):
    """The shape without a smaller one of it, moved by a share of the radius."""

    def draw_hollow(mask, centre, radius, turn):
        inner = np.zeros_like(mask)
        shape(mask, centre, radius, turn)
        moved = centre + shift * radius * np.array([np.cos(turn), np.sin(turn)])
        shape(inner, moved, share * radius, turn)
        mask[inner > 0] = 0

    return draw_hollow


def _points(*xy: tuple[float, float]):
    points = [(np.arctan2(y, x), np.hypot(x, y)) for x, y in xy]
    return lambda mask, centre, radius, turn: _polygon(mask, centre, radius, turn, points)


_circle, _square = _regular(40), _regular(4)
_SHAPES = {
    "circle": _circle,
    "ring": _hollow(_circle, 0.6),
    "square": _square,
    "frame": _hollow(_square, 0.6),
    "triangle": _regular(3),
    "star": _regular(5, inner=0.4),
    "cross": _regular(4, inner=0.35),
    "crescent": _hollow(_circle, 0.85, shift=0.45),
    "bar": _points((1, 0.25), (1, -0.25), (-1, -0.25), (-1, 0.25)),
    "arrow": _points((1, 0), (0.1, 0.7), (0.1, 0.25), (-1, 0.25), (-1, -0.25), (0.1, -0.25), (0.1, -0.7)),
}
