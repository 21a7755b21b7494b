"""`SideBySide`: the predictions of a student, and of a teacher, for the faces in a photo."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from distill.data.class_order import KNOWN
from distill.data.expressions import class_columns
from distill.evaluation.open_network import open_network
from distill.keras_import import import_keras_quietly
from distill.prediction.drawing import annotated
from distill.prediction.exported_model import is_exported
from distill.prediction.face_crops import face_pixels
from distill.prediction.face_finder import Found
from distill.prediction.photos import open_photo
from distill.prediction.predictor import Face, Predictor
from distill.reports.calibration import log_softmax
from distill.runtimes.foreign_network import ForeignNetwork

Result = TypeVar("Result")

FINDING, STUDENT, TEACHER = "finding faces", "student", "teacher"
"""What takes time, in that order."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that gives probabilities in the order of the student's classes."""

    name: str
    input_shape: tuple[int, int, int]
    """Height, width and channels of the pixels 0..255 that it takes."""
    probabilities: Callable[[np.ndarray], np.ndarray]
    """float32 pixels [B, height, width, channels] -> float32 [B, C]."""
    class_order: str = KNOWN
    """How the order of its own classes is known, "known", "given" or "assumed"."""


@dataclass(frozen=True, eq=False)
class Row:
    """The predictions for one face."""

    crop: np.ndarray
    """The face in its box: uint8 RGB [h, w, 3]."""
    student: Mapping[str, float]
    """Class -> probability."""
    teacher: Mapping[str, float] | None
    """The same of the teacher; None without one."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is to be shown of a photo."""

    picture: np.ndarray
    """The photo with its faces marked: uint8 RGB [H, W, 3]."""
    rows: Sequence[Row]
    """One for each face, the largest first."""
    milliseconds: Mapping[str, float]
    """What takes time -> how long it took for all faces."""
    message: str
    """How many faces there are, or what to do where there is none."""


class SideBySide:
    """Classifies the faces in photos.

    Args:
        model: an exported file, or the folder of its card; None is the student that comes with this package.
        teacher: the same, a run of this project, or an external network, of the student's classes; by
            default none.
        foreign: the description of an external teacher.
        face_detector, min_face_score: as `Predictor` takes them.

    Raises:
        InputError: a network cannot be used, or what it or the detector needs is not installed; the teacher has other
            classes than the student.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        teacher: str | Path | None = None,
        foreign: ForeignNetwork | None = None,
        face_detector: str | None = None,
        min_face_score: float | None = None,
    ):
        self._predictor = Predictor(model, face_detector=face_detector, min_face_score=min_face_score)
        exported = self._predictor.model
        self.class_names = exported.description.class_names
        self.student = Classifier(exported.description.name, exported.description.input_shape, exported.probabilities)
        self.teacher = None
        if teacher is not None:
            self.teacher = open_teacher(teacher, self.class_names, foreign=foreign)
        elif foreign is not None:
            foreign.refuse("describes an external --teacher, and none is named: omit it")
        for network in filter(None, (self.student, self.teacher)):
            network.probabilities(np.zeros((1, *network.input_shape), np.float32))  # the first call is slow

    def look(self, source: str | Path | np.ndarray) -> Look:
        """Return what is to be shown of a photo.

        Args:
            source: path of a file, or uint8 RGB [H, W, 3].

        Raises:
            InputError: the file cannot be used.
        """
        photo = source if isinstance(source, np.ndarray) else open_photo(source)
        found, finding = _timed(lambda: self._predictor.find(photo))
        if not found:
            hint = self._predictor.faces.hint(photo.shape)
            return Look(photo, (), {FINDING: finding}, f"No face was found in this photo; {hint}.")
        milliseconds = {FINDING: finding}
        ours, milliseconds[STUDENT] = _timed(lambda: self._predict(self.student, photo, found))
        theirs: Sequence[Mapping[str, float] | None] = [None] * len(found)
        if (teacher := self.teacher) is not None:
            theirs, milliseconds[TEACHER] = _timed(lambda: self._predict(teacher, photo, found))
        faces = [Face(each.box, each.score, probs) for each, probs in zip(found, ours, strict=True)]
        rows = [Row(_cut(photo, each.box), one, other) for each, one, other in zip(found, ours, theirs, strict=True)]
        message = "One face was found." if len(rows) == 1 else f"{len(rows)} faces were found, the largest first."
        return Look(annotated(photo, faces), rows, milliseconds, message)

    def _predict(self, network: Classifier, photo: np.ndarray, found: Sequence[Found]) -> list[dict[str, float]]:
        """Return the probabilities of each face, by class; one face at a time, as a new batch size compiles anew."""
        rows = [
            network.probabilities(face_pixels(photo, each.region, network.input_shape)[None])[0] for each in found
        ]
        return [dict(zip(self.class_names, row.tolist(), strict=True)) for row in rows]


def open_teacher(
    source: str | Path, class_names: Sequence[str], *, foreign: ForeignNetwork | None = None
) -> Classifier:
    """Open a teacher of the classes `class_names`, which it may have in another order where it names them.

    Args:
        source: an exported file or folder; the directory of a run or its best.keras; an external Keras or ONNX
            file, SavedModel or function.
        foreign: the description of an external one.

    Raises:
        InputError: it cannot be used, or has other classes; `foreign` describes a teacher that is not external.
    """
    if not is_exported(source):
        import_keras_quietly()
    opened = open_network(source, class_names, name_of_classes="the student", foreign=foreign or ForeignNetwork())
    model, columns = opened.model, class_columns(opened.model.class_names, class_names)

    def probabilities(pixels: np.ndarray) -> np.ndarray:
        if opened.exported is not None and len(columns) == model.classes:
            return opened.exported.probabilities(pixels)[:, columns]
        return _softmax(model.predict(pixels)[:, columns])

    return Classifier(model.name, model.input_shape, probabilities, model.class_order)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return float32 [B, C], rows that sum to 1."""
    return np.exp(log_softmax(logits)).astype(np.float32)


def _cut(photo: np.ndarray, box: tuple[int, ...]) -> np.ndarray:
    left, top, right, bottom = box
    return photo[top:bottom, left:right]


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Return what `call` returns, and the milliseconds that it took."""
    started = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - started)
