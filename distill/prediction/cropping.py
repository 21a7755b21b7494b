"""`FaceFolder`: the faces of photos and videos, cut out as `predict` cuts them, one picture each."""

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.errors import BusyError, InputError
from distill.files.whole_files import atomic_file, write_csv
from distill.prediction.contact_sheet import contact_sheet
from distill.prediction.crop_record import CropRecord, stamp_of
from distill.prediction.face_crops import face_pixels
from distill.prediction.face_finder import FaceFinder, Found
from distill.prediction.found_photos import files_in
from distill.prediction.opencv import opencv
from distill.prediction.photos import open_photo
from distill.prediction.videos import VIDEO_SUFFIXES, Frames, is_video_name
from distill.refusals import flag

RECORD, FACES, LEFT_OUT, SHEET = "done.jsonl", "faces.csv", "left_out.csv", "sheet.png"
NO_FACE, TINY, BLURRED = "no face was found", "the face is too small", "the face is blurred"
_SHARPNESS_SIDE = 96  # pixels at which it is measured, whatever the size of the face


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """Which faces are cut out, and how."""

    size: int = 160
    """Height and width of the pictures of faces, in pixels."""
    min_pixels: int = 32
    """Faces are left out whose box has a shorter side than this, in pixels of the photo."""
    min_sharpness: float = 0.0
    """Faces are left out that are less sharp than this: the variance of the Laplacian of the grey face at 96 x 96
    pixels. Blurred faces have less than some 50, sharp ones hundreds; faces.csv lists it. 0 leaves none out."""
    largest_only: bool = False
    """Take the largest face of each picture alone, such as where its label is about one person."""
    every: float = 1.0
    """Seconds between the frames of videos that are looked at; 0 takes every frame."""

    def __post_init__(self):
        if not 8 <= self.size <= 1024:
            raise InputError(f"--size must be 8 to 1024 pixels, received {self.size}")
        for name in ("min_pixels", "min_sharpness", "every"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"--{flag(name)} must be 0 or more, received {getattr(self, name)}")


class _InterruptedError(Exception):
    """What ends `FaceFolder.crop` in the middle."""


def sharpness(face: np.ndarray) -> float:
    """Return the variance of the Laplacian of a grey face, float [96, 96] of 0..255.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", 2000.
    """
    inner = face[1:-1, 1:-1]
    return float(np.var(face[:-2, 1:-1] + face[2:, 1:-1] + face[1:-1, :-2] + face[1:-1, 2:] - 4 * inner))


def report_of(out: Path) -> Path:
    """Return the folder of what is to be known of the faces in `out`."""
    return out.with_name(f"{out.name}-report")


class FaceFolder:
    """A folder of faces, and next to it what is to be known of them: OUT-report/.

    done.jsonl  the settings, and a line for each finished photo or video: the same call goes on behind them, but for
                those that have changed since, whose faces it cuts out anew
    faces.csv   a row for each face: its picture, source, time in a video, box, score of the detector, sharpness
    left_out.csv  a row for whatever was left out, and why
    sheet.png   faces of every folder side by side, to look the result over

    Args:
        out: the folder; new, or of an earlier call with the same settings.
        root: where the sources lie, by their relative paths, which the faces keep.
        sources: all of them; those whose faces would have one name keep their suffixes in it. Of absolute paths the
            folder that all share is not part of the faces' names.
        settings: which faces are cut out.
        detector: what finds them, for the record.

    Raises:
        InputError: `out` holds something else, or faces of other settings or of another `root`.
    """

    def __init__(
        self,
        out: Path,
        root: Path,
        sources: Sequence[str],
        settings: CropSettings,
        *,
        detector: Mapping[str, Any],
    ):
        self.out, self.root, self.settings = out, root, settings
        self.report = report_of(out)
        self._sources = frozenset(sources)
        self._record = CropRecord(self.report / RECORD, out, root, {**asdict(settings), **detector})
        self._changed = self._record.take_changed(sources)
        self._shared = _shared_parts(sources)
        names = {source: self._name(source, 0.0 if is_video_name(source) else None).casefold() for source in sources}
        count = Counter(names.values())
        self._alike = {source for source, name in names.items() if count[name] > 1}
        known = [*self._record.done.values(), *self._changed.values()]
        self._taken = {row["face"].casefold() for line in known for row in line["faces"]}
        self._lock = threading.Lock()
        self._interrupted = threading.Event()

    def begin(self) -> None:
        """Write down whose faces these are, before the first one is there: the same call can go on from then on."""
        self._record.begin()

    def interrupt(self) -> None:
        """Let calls of `crop` in other threads end with an exception, after the frame that they are at."""
        self._interrupted.set()

    def is_done(self, source: str) -> bool:
        """Whether the faces of a source are there already."""
        return source in self._record.done

    @property
    def orphans(self) -> list[str]:
        """The pictures in the folder that are not faces of the sources: theirs are gone, or a call was killed."""
        ours = {
            row["face"] for source in self._sources for row in self._record.done.get(source, {"faces": ()})["faces"]
        }
        if not self.out.is_dir():
            return []
        return [name for name in files_in(self.out).pictures if name not in ours]

    def crop(self, source: str, finder: FaceFinder) -> dict[str, Any]:
        """Write the faces of a photo or video; return what `record` takes. Several threads may do so at once."""
        for row in self._changed[source]["faces"] if source in self._changed else ():
            (self.out / row["face"]).unlink(missing_ok=True)
            with self._lock:
                self._taken.discard(row["face"].casefold())
        stamp, again = stamp_of(self.root / source), False
        faces: list[dict[str, Any]] = []
        left_out: list[dict[str, Any]] = []
        try:
            for time, photo in self._photos(source):
                if self._interrupted.is_set():
                    raise _InterruptedError
                found = finder(photo)
                if not found:
                    left_out.append(_why(source, time, NO_FACE))
                for number, face in enumerate(found[:1] if self.settings.largest_only else found, 1):
                    row = self._cut(source, time, photo, face, number)
                    (left_out if "why" in row else faces).append(row)
        except InputError as error:
            left_out.append(_why(source, None, str(error)))
            again = isinstance(error, BusyError)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            left_out.append(_why(source, None, "its name is too long for those of its faces: rename it"))
        return {
            **{"source": source, "stamp": stamp, "faces": faces, "left_out": left_out},
            **({"again": True} if again else {}),
        }

    def record(self, line: dict[str, Any]) -> None:
        """Note that a source is finished."""
        self._record.add(line)

    def finish(self, sources: Sequence[str]) -> tuple[list[dict], list[dict]]:
        """Write the tables; return the rows of the faces of `sources`, and of what was left out.

        Faces that somebody deleted since, such as bad ones, are in neither.
        """
        lines = [self._record.done[source] for source in sources]
        faces = [row for line in lines for row in line["faces"] if (self.out / row["face"]).exists()]
        left_out = [row for line in lines for row in line["left_out"]]
        for name, rows in ((FACES, faces), (LEFT_OUT, left_out)):
            if rows:
                write_csv(self.report / name, rows)
            else:
                (self.report / name).unlink(missing_ok=True)
        return faces, left_out

    def write_sheet(self, faces: Sequence[Mapping[str, Any]]) -> None:
        """Write the sheet of rows that `finish` gave."""
        contact_sheet([(row["face"], self.out / row["face"]) for row in faces], self.report / SHEET)

    def _photos(self, source: str) -> Iterator[tuple[float | None, np.ndarray]]:
        path = self.root / source
        if is_video_name(source):
            try:
                opencv(source)
            except InputError as error:  # once it is installed the same call looks at the video
                raise BusyError(str(error)) from error
            yield from Frames(path, every=self.settings.every)
        else:
            yield None, open_photo(path)

    def _cut(self, source: str, time: float | None, photo: np.ndarray, face: Found, number: int) -> dict[str, Any]:
        left, top, right, bottom = face.box
        grey = face_pixels(photo, face.region, (_SHARPNESS_SIDE, _SHARPNESS_SIDE, 1))[..., 0]
        sharp = round(sharpness(grey), 1)
        if min(right - left, bottom - top) < self.settings.min_pixels:
            return _why(source, time, f"{TINY}: {right - left} x {bottom - top} pixels")
        if sharp < self.settings.min_sharpness:
            return _why(source, time, f"{BLURRED}: its sharpness is {sharp:g}")
        name = self._free_name(source, time, number)
        pixels = face_pixels(photo, face.region, (self.settings.size, self.settings.size, 3))
        with atomic_file(self.out / name) as unfinished:
            Image.fromarray(np.rint(pixels).astype(np.uint8)).save(unfinished)
        score = None if face.score is None else round(face.score, 4)
        where = dict(zip(("left", "top", "right", "bottom"), face.box, strict=True))
        return {"face": name, "source": source, "time": time, **where, "score": score, "sharpness": sharp}

    def _free_name(self, source: str, time: float | None, number: int) -> str:
        """Take the name of a face's picture, numbered where another has it, on systems that ignore case too."""
        first = path = Path(self._name(source, time, number, keep_suffix=source in self._alike))
        copy = 1
        with self._lock:
            while path.as_posix().casefold() in self._taken:
                copy += 1
                path = first.with_stem(f"{first.stem}-{copy}")
            self._taken.add(path.as_posix().casefold())
        return path.as_posix()

    def _name(self, source: str, time: float | None, number: int = 1, *, keep_suffix: bool = False) -> str:
        """Return the name of a face's picture: that of its source, so that splits and subjects in names stay."""
        path = Path(*(part for part in Path(source).parts[self._shared :] if part not in ("..", "/")))
        frame = "" if time is None else f"-{time:.2f}s"
        face = "" if number == 1 else f"-face{number}"
        # A photo of another format may have the same name but for that.
        usual = path.suffix.lower() in (".jpg", ".jpeg", ".png", *VIDEO_SUFFIXES)
        kind = "" if usual and not keep_suffix else path.suffix
        return path.with_name(f"{path.stem}{kind}{frame}{face}.png").as_posix()


def _shared_parts(sources: Sequence[str]) -> int:
    """Return how many of their first parts absolute paths share, folders alone; 0 of relative ones."""
    folders = [Path(source).parent.parts for source in sources]
    if not folders or not all(map(os.path.isabs, sources)):
        return 0
    return next(
        (place for place, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1),
        min(map(len, folders)),
    )


def _why(source: str, time: float | None, why: str) -> dict[str, Any]:
    return {"source": source, "time": time, "why": why}
