"""BlazeFace, Google's face detector for phones, run by LiteRT.

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019,
https://arxiv.org/abs/1907.05047. The network is that of MediaPipe, and comes with this package (blazeface_network/).
"""

import math
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from distill.prediction.litert_file import litert_interpreter

_NETWORK = Path(__file__).parent / "blazeface_network" / "face_detection_back.tflite"
_GRIDS = ((16, 2), (8, 6))  # cells along a side, and how many boxes the network proposes in each
MIN_SCORE = 0.6
_MORE_IN_PART = 0.1  # of ten looks, more go wrong than of one
_OVERLAP = 0.3  # intersection over union above which two boxes are of one face
_WITHIN = 0.6  # share of the smaller box in the larger above which they are of one face


class BlazeFace:
    """Finds faces from the front and turned or tilted a little.

    The network sees 256 x 256 pixels, in which it misses half of the faces of 32. So larger photos are searched
    twice: as a whole, and in squares of half their longer side.

    Args:
        min_score: faces of lower scores are left out, 0..1.
    """

    def __init__(self, min_score: float = MIN_SCORE):
        self._min_score = min_score
        self._interpreter = litert_interpreter(_NETWORK.read_bytes(), str(_NETWORK))
        details = self._interpreter.get_input_details()[0]
        self._input, self._side = details["index"], int(details["shape"][1])
        self._outputs = [details["index"] for details in self._interpreter.get_output_details()]
        self._centres = _centres()

    def __call__(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes float [n, 4] (left, top, right, bottom; pixels) and scores [n] (0..1), the most confident
        first.

        Args:
            photo: uint8 RGB [H, W, 3].
        """
        boxes, scores = self._search(photo)
        found = [(boxes, scores)]
        half = max(photo.shape[:2]) // 2
        if half >= self._side:
            for top, left in product(_starts(photo.shape[0], half), _starts(photo.shape[1], half)):
                boxes, scores = self._search(photo[top : top + half, left : left + half])
                whole = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) <= half / 2  # others may be cut off
                sure = whole & (scores >= min(1, self._min_score + _MORE_IN_PART))
                found.append((boxes[sure] + [left, top, left, top], scores[sure]))
        return merged(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _search(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the network proposes in a part of a photo, in pixels of that part, and the scores."""
        side = self._side
        pixels, scale = _letterboxed(part, side)
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        regressions, logits = (self._interpreter.get_tensor(index)[0] for index in self._outputs)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -80, 80)))
        likely = (scores >= self._min_score) & (regressions[:, 2:4] > 0).all(axis=1)
        centres = self._centres[likely] + regressions[likely, :2] / side
        halves = regressions[likely, 2:4] / side / 2
        return np.concatenate([centres - halves, centres + halves], axis=1) * side / scale, scores[likely]


def merged(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one box for each group that overlaps its best one: the mean, weighted by score; with the best score.

    A box that lies within the best one, or about it, is of the same face, and counts for nothing.
    """
    faces, best = [], []
    left = np.argsort(-scores)
    while len(left):
        union, smaller = _overlaps(boxes[left[0]], boxes[left])
        group = left[union > _OVERLAP]
        faces.append(np.average(boxes[group], axis=0, weights=scores[group]))
        best.append(scores[left[0]])
        left = left[(union <= _OVERLAP) & (smaller <= _WITHIN)]
    return np.array(faces, np.float64).reshape(-1, 4), np.array(best, np.float64)


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `box` [4] shares with each of `boxes` [n, 4], over their union and over the smaller of both."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / (area + areas - shared), shared / np.minimum(area, areas)


def _starts(length: int, part: int) -> list[int]:
    """Where parts begin that cover `length` in steps of at most half a part."""
    steps = max(0, math.ceil((length - part) / (part / 2)))
    return np.linspace(0, max(0, length - part), steps + 1).round().astype(int).tolist()


def _letterboxed(photo: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """Return `photo` in the corner of a black square, float32 [side, side, 3] of -1..1, and its scale."""
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    square = Image.new("RGB", (side, side))
    square.paste(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))
    return np.asarray(square, np.float32) / 127.5 - 1, scale


def _centres() -> np.ndarray:
    """Where each proposed box starts from: float [896, 2], x and y as fractions of the side."""
    grids = []
    for cells, boxes in _GRIDS:
        centres = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), boxes, axis=0))
    return np.concatenate(grids)
