"""What finds faces in a photo: `DETECTORS` = {name: row}."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distill.errors import InputError
from distill.prediction.blazeface import BlazeFace
from distill.prediction.opencv import opencv
from distill.refusals import check_known

FindFaces = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""uint8 RGB [H, W, 3] -> boxes float [n, 4] (left, top, right, bottom; pixels), and scores [n] (0..1) or None."""

WITHOUT = "--face-detector blazeface needs nothing"
_LONGEST_SIDE = 1024  # of the photo in which cascades search, pixels
_SMALLEST_FACE = 1 / 25  # of the photo's longer side
_SMALLEST_PIXELS = 24
_NEIGHBOURS = 5  # how many windows must agree on a face


@dataclass(frozen=True)
class FaceDetector:
    """A row of `DETECTORS`."""

    make: Callable[..., FindFaces]
    """Takes the lowest score of a face, where it gives scores. Raises an InputError where the package that it needs
    is missing."""
    margin: float | None = None
    """Side of a face's crop, in sides of its box; None takes the box as it is, square or not."""
    lift: float = 0.0
    """How far the crop's centre lies above the box's, in sides of the box."""
    gives_scores: bool = False


def whole_photo(photo: np.ndarray) -> tuple[np.ndarray, None]:
    """Return the photo itself as the one face."""
    height, width = photo.shape[:2]
    return np.array([[0, 0, width, height]], np.float64), None


class HaarCascade:
    """Viola and Jones' detector, as OpenCV brings it: faces from the front.

    Of OpenCV's cascades, "alt2" found as many of FER2013's faces as "default" with a quarter of its false ones.

    Raises:
        InputError: OpenCV is not installed, or is a version without cascades.
    """

    def __init__(self):
        self._cv2 = cv2 = opencv("--face-detector haar", without=WITHOUT)
        if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
            raise InputError(
                f"--face-detector haar needs the cascades of OpenCV 4, this is OpenCV {cv2.__version__}: "
                f'pip install "opencv-python-headless>=4.8,<5"; {WITHOUT}'
            )
        self._cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_alt2.xml")

    def __call__(self, photo: np.ndarray) -> tuple[np.ndarray, None]:
        """Return boxes float [n, 4], and no scores.

        Args:
            photo: uint8 RGB [H, W, 3].
        """
        cv2 = self._cv2
        scale = min(1, _LONGEST_SIDE / max(photo.shape[:2]))
        grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            size = [max(1, round(side * scale)) for side in (photo.shape[1], photo.shape[0])]
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        smallest = max(_SMALLEST_PIXELS, round(_SMALLEST_FACE * max(grey.shape)))
        found = self._cascade.detectMultiScale(
            cv2.equalizeHist(grey), scaleFactor=1.1, minNeighbors=_NEIGHBOURS, minSize=(smallest, smallest)
        )
        boxes = np.array(found, np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes / scale, None


# Margins and lifts are those at which students of FER2013 were most often right on 700 labelled press photographs:
# Haar 51.5 % at a margin of 1.03, 61.4 % from 1.25 to 1.4; BlazeFace 45.6 % at 1.12, 55.5 % at 1.6.
DETECTORS = {
    "haar": FaceDetector(HaarCascade, margin=1.3),
    "blazeface": FaceDetector(BlazeFace, margin=1.6, lift=0.08, gives_scores=True),
    "none": FaceDetector(lambda: whole_photo),
}
DEFAULT_DETECTOR = "blazeface"
"""It finds more, and needs no other package."""


def detector_row(name: str) -> FaceDetector:
    """Return the row of `DETECTORS`.

    Raises:
        InputError: there is none of that name.
    """
    check_known(name, DETECTORS, what="face detector")
    return DETECTORS[name]
