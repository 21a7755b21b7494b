"""`Predictor`: faces in a photo, and the expression of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.errors import InputError
from distill.prediction.exported_model import DEFAULT_STUDENT, open_exported
from distill.prediction.face_crops import face_pixels
from distill.prediction.face_finder import FaceFinder, Found
from distill.prediction.photos import open_photo, rgb_pixels

_DIGITS = 6


@dataclass(frozen=True)
class Face:
    """A face in a photo."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom, in pixels of the photo, within it."""
    score: float | None
    """How sure the detector is that it is a face, 0..1; None where it does not say."""
    probabilities: Mapping[str, float]
    """Class -> probability, in the order of the model's classes."""

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of `box`, as OpenCV and the package fer have it."""
        left, top, right, bottom = self.box
        return left, top, right - left, bottom - top

    @property
    def expression(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """Of `expression`."""
        return self.probabilities[self.expression]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; scores and probabilities are rounded to 6 digits."""
        return {
            "box": list(self.box),
            "score": None if self.score is None else round(self.score, _DIGITS),
            "expression": self.expression,
            "probability": round(self.probability, _DIGITS),
            "probabilities": {name: round(value, _DIGITS) for name, value in self.probabilities.items()},
        }


class Predictor:
    """Says which faces a photo shows, and with which expressions.

    Args:
        model: an exported file, the folder of its card, or the name of a student that comes with this package; None
            is the usual one of these.
        face_detector: a name in `distill.prediction.face_detectors.DETECTORS`; None is BlazeFace, which
            comes with this package.
        min_face_score: faces that the detector is less sure of, 0..1, are left out; None is its usual one.
        threads: among how many threads many faces are divided.
        flip_average: predict from the mean of the logits of each face and of its mirror image: small students are
            right more often so, and take twice as long.

    Raises:
        InputError: the model cannot be used, there is no such detector, or what it needs is not installed.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        face_detector: str | None = None,
        min_face_score: float | None = None,
        threads: int = 1,
        flip_average: bool = False,
    ):
        if threads < 1:
            raise InputError(f"threads must be 1 or more, received {threads}")
        self.faces = FaceFinder(face_detector, min_face_score=min_face_score)
        """Finds the faces in a photo."""
        self.model = open_exported(DEFAULT_STUDENT if model is None else model, threads=threads)
        self.flip_average = flip_average

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C classes, in the order of all probabilities."""
        return self.model.description.class_names

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> list[Face]:
        """Return the faces in `image`, the largest first.

        Args:
            image: path of a file, Pillow's image, or uint8 [H, W] or [H, W, 1 or 3] (grey or RGB).

        Raises:
            InputError: the file cannot be used, and the message names it; or Pillow's image cannot.
            ValueError: the array is none of these.
        """
        photo = _photo(image)
        found = self.find(photo)
        shape = self.model.description.input_shape
        pixels = [face_pixels(photo, each.region, shape) for each in found]
        rows = self._probabilities(np.array(pixels).reshape(-1, *shape))
        return [Face(each.box, each.score, self._named(row)) for each, row in zip(found, rows, strict=True)]

    def find(self, photo: np.ndarray) -> list[Found]:
        """Return where faces are in a photo, uint8 RGB [H, W, 3], the largest first."""
        return self.faces(photo)

    def predict_faces(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities of faces that were cut out already: float32 [B, C], in the order of `class_names`.

        Args:
            images: uint8 [B, H, W, 1 or 3] (grey or RGB), each a face alone.

        Raises:
            ValueError: another shape or dtype.
        """
        if images.ndim != 4:
            raise ValueError(f"Faces must be uint8 [B, H, W, 1 or 3]. Received: {images.dtype} {list(images.shape)}")
        shape = self.model.description.input_shape
        height, width = images.shape[1:3]
        pixels = [face_pixels(_photo(image), (0, 0, width, height), shape) for image in images]
        return self._probabilities(np.array(pixels, np.float32).reshape(-1, *shape))

    def _probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 [B, C] of pixels 0..255 [B, h, w, c]."""
        given = self.model.probabilities(pixels)
        if not self.flip_average:
            return given
        # The softmax of a mean of logits is the geometric mean of their softmaxes, normalised.
        pair = np.array([given, self.model.probabilities(pixels[:, :, ::-1])], np.float64)
        mean = np.sqrt(np.maximum(pair, np.finfo(np.float32).tiny).prod(axis=0))
        return (mean / mean.sum(axis=1, keepdims=True)).astype(np.float32)

    def _named(self, row: np.ndarray) -> dict[str, float]:
        return dict(zip(self.class_names, row.tolist(), strict=True))


def _photo(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Return uint8 RGB [H, W, 3]."""
    if isinstance(image, Image.Image):
        return rgb_pixels(image)
    if not isinstance(image, np.ndarray):
        return open_photo(image)
    pixels = image[..., None] if image.ndim == 2 else image
    if image.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not image.size:
        raise ValueError(
            f"An image must be uint8 [H, W] or [H, W, 1 or 3]. Received: {image.dtype} {list(image.shape)}"
        )
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
