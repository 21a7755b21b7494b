"""`FaceFinder`: where faces are in a photo, and what is cut out for a network: the framing of every command."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from distill.errors import InputError
from distill.prediction.face_crops import Region, square_region
from distill.prediction.face_detectors import DEFAULT_DETECTOR, detector_row

_GREY = 127
_SIDE_WITH_GREY = 1024
"""Pixels of the longer side at which a photo is searched again: what fills it needs no more."""
_CUT_OUT_SIDE, _CUT_OUT_RATIO = 256, 1.5
"""Up to these a picture looks like a face that was cut out already: longer side in pixels, longer by shorter side."""


class Found(NamedTuple):
    """Where a face is."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels, within the photo."""
    region: Region
    """What is cut out for a network: the box with its margin; it may reach beyond the photo."""
    score: float | None
    """The detector's, None where it gives none."""


class FaceFinder:
    """Finds the faces in photos.

    Args:
        face_detector: a name in `face_detectors.DETECTORS`; None is `DEFAULT_DETECTOR`.
        min_face_score: faces that the detector is less sure of, 0..1, are left out; None is the detector's usual one.

    Raises:
        InputError: there is no such detector, it gives no scores, or what it needs is not installed.
    """

    def __init__(self, face_detector: str | None = None, *, min_face_score: float | None = None):
        self.name = DEFAULT_DETECTOR if face_detector is None else face_detector
        self._row = detector_row(self.name)
        if min_face_score is not None:
            if not self._row.gives_scores:
                raise InputError(f"--face-detector {self.name} gives no scores: omit --min-face-score")
            if not 0 < min_face_score <= 1:
                raise InputError(f"--min-face-score must be above 0 and at most 1, received {min_face_score}")
        self._find_faces = self._row.make() if min_face_score is None else self._row.make(min_face_score)

    def __call__(self, photo: np.ndarray) -> list[Found]:
        """Return where faces are in a photo, uint8 RGB [H, W, 3], the largest first.

        Where none is found, it is searched again with half a side of grey around it: detectors miss faces that fill
        the picture.
        """
        found = self._placed(photo, *self._find_faces(photo))
        if found or self._row.margin is None:
            return found
        scale = min(1.0, _SIDE_WITH_GREY / max(photo.shape[:2]))
        around = round(scale * max(photo.shape[:2]) / 2)
        padded = np.pad(_scaled(photo, scale), ((around, around), (around, around), (0, 0)), constant_values=_GREY)
        boxes, scores = self._find_faces(padded)
        return self._placed(photo, (boxes - around) / scale, scores)

    def hint(self, shape: tuple[int, ...]) -> str:
        """Return what to try where no face was found in a photo of `shape` [H, W, ...]."""
        if self._row.margin is None:
            return "try another photo"
        if looks_cut_out(shape):
            return "it looks like a face that was cut out already: --face-detector none takes it as it is"
        more = "--face-detector blazeface finds more, and none" if self.name == "haar" else "--face-detector none"
        return f"{more} takes the whole photo as one face"

    def _placed(self, photo: np.ndarray, boxes: np.ndarray, scores: np.ndarray | None) -> list[Found]:
        sides = boxes[:, 2:] - boxes[:, :2]
        within = [_within(box, photo) for box in boxes]
        order = [i for i in np.argsort(-sides.prod(axis=1), kind="stable") if _is_some(within[i])]
        return [Found(within[i], self._region(boxes[i]), None if scores is None else float(scores[i])) for i in order]

    def _region(self, box: np.ndarray) -> Region:
        if self._row.margin is None:
            return tuple(box)
        return square_region(tuple(box), margin=self._row.margin, lift=self._row.lift)


def _scaled(photo: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return photo
    size = [max(1, round(scale * side)) for side in photo.shape[1::-1]]
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))


def looks_cut_out(shape: tuple[int, ...]) -> bool:
    """Whether a picture of `shape` [H, W, ...] is as small and as square as a face that was cut out already."""
    height, width = shape[:2]
    return max(height, width) <= min(_CUT_OUT_SIDE, _CUT_OUT_RATIO * min(height, width))


def _within(box: np.ndarray, photo: np.ndarray) -> tuple[int, int, int, int]:
    height, width = photo.shape[:2]
    left, top, right, bottom = np.clip(np.rint(box), 0, [width, height, width, height]).astype(int).tolist()
    return left, top, right, bottom


def _is_some(box: tuple[int, int, int, int]) -> bool:
    return box[0] < box[2] and box[1] < box[3]
