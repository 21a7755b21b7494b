"""Films and cameras, frame by frame, through OpenCV."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.pictures import MAX_PIXELS
from distill.errors import InputError
from distill.files import atomic_file
from distill.prediction.opencv import opencv
from distill.quiet import quiet_stderr

FILM_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
_USUAL_RATE = 25.0  # frames per second, where a film or camera does not say
_HIGHEST_RATE = 1000.0


class Frames:
    """The frames of a film or camera, to be iterated over once: pairs of a time in seconds and uint8 RGB [H, W, 3].

    Args:
        source: path of a film, or number of a camera; a camera's frames do not end.
        every: one frame is given in so many seconds, 0 gives all; the others are not decoded.

    Raises:
        InputError: there is no such film or camera, it cannot be read, its frames have too many pixels, or OpenCV is
            not installed.
    """

    def __init__(self, source: Path | int, *, every: float = 0.0):
        self.is_camera = isinstance(source, int)
        self.name = f"camera {source}" if self.is_camera else str(source)
        self._every = every
        self._cv2 = opencv(self.name)
        if not self.is_camera and not source.is_file():
            raise InputError(f"{source} does not exist")
        with quiet_stderr():  # FFmpeg writes there
            self._capture = self._cv2.VideoCapture(source if self.is_camera else str(source))
        if not self._capture.isOpened():
            what_works = "connect it, or give another number" if self.is_camera else "OpenCV knows no film in it"
            raise InputError(f"{self.name} cannot be opened: {what_works}")
        if self._says("FRAME_WIDTH") * self._says("FRAME_HEIGHT") > MAX_PIXELS:
            raise InputError(f"{self.name} has frames of more than {MAX_PIXELS // 10**6} million pixels")

    @property
    def rate(self) -> float:
        """How many frames a second are given, as far as is known."""
        says = self._says("FPS")
        rate = says if 0 < says <= _HIGHEST_RATE else _USUAL_RATE
        return min(rate, 1 / self._every) if self._every > 0 else rate

    def __len__(self) -> int:
        """How many frames there are before `every`, 0 where it is not known."""
        return max(0, round(self._says("FRAME_COUNT"))) if not self.is_camera else 0

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        started, due, given = time.monotonic(), -math.inf, 0
        with self._progress() as progress:
            while self._grab():
                at = time.monotonic() - started if self.is_camera else self._says("POS_MSEC") / 1000
                progress.update()
                if at < due - 1e-6:
                    continue
                frame = self._retrieve()
                if frame is None:
                    break
                given += 1
                if self._every > 0:
                    due = (math.floor(at / self._every + 1e-6) + 1) * self._every
                yield at, frame
        self._capture.release()
        if not given:
            raise InputError(f"{self.name} gave no frame that can be read")

    def _grab(self) -> bool:
        with quiet_stderr():
            return self._capture.grab()

    def _retrieve(self) -> np.ndarray | None:
        with quiet_stderr():
            there, frame = self._capture.retrieve()
        return self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB) if there else None

    def _says(self, what: str) -> float:
        value = self._capture.get(getattr(self._cv2, f"CAP_PROP_{what}"))
        return value if math.isfinite(value) else 0.0

    def _progress(self):
        from tqdm import tqdm

        return tqdm(total=len(self) or None, desc=self.name, unit="frame", leave=False, disable=None)


class FilmWriter:
    """Writes frames of one size into an mp4 file."""

    def __init__(self, path: Path, *, rate: float):
        self._path, self._rate, self._cv2 = path, rate, opencv(str(path))
        self._writer: Any = None

    def write(self, frame: np.ndarray) -> None:
        """Append uint8 RGB [H, W, 3].

        Raises:
            OSError: it cannot be written.
        """
        height, width = frame.shape[:2]
        if self._writer is None:
            code = self._cv2.VideoWriter_fourcc(*"mp4v")
            with quiet_stderr():
                self._writer = self._cv2.VideoWriter(str(self._path), code, self._rate, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write a film of {width}x{height} at {self._rate:g} frames per second")
        self._writer.write(self._cv2.cvtColor(frame, self._cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


@contextmanager
def film_written(path: Path, *, rate: float) -> Iterator[FilmWriter]:
    """Yield a writer; the film appears at `path` when the block ends, and vanishes when the block fails."""
    with atomic_file(path) as unfinished:
        writer = FilmWriter(unfinished, rate=rate)
        try:
            yield writer
        finally:
            writer.close()
