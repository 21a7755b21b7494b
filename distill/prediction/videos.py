"""Videos, cameras and streams, frame by frame, through OpenCV."""

import errno
import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.pictures import MAX_PIXELS
from distill.errors import InputError
from distill.files.busy_files import cannot_read_now, reading
from distill.files.whole_files import atomic_file
from distill.prediction.captures import Capture, Live, Source, check_name, is_stream, name_of
from distill.prediction.opencv import opencv
from distill.quiet import quiet_stderr

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2"),
    *(".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".ogv"),
    *(".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
)
_USUAL_RATE = 25.0  # frames per second, where a video or camera does not say
_HIGHEST_RATE = 1000.0
_NEARLY_ALL = 0.95
_MISSES = 1000
"""How many frames in a row may fail before a video counts as ended: OpenCV fails at one that is damaged, too."""


def is_video_name(name: str) -> bool:
    """Whether a file of this name is taken for a video."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


class Frames:
    """The frames of a video, camera or stream, to be iterated over once: times in seconds and uint8 RGB [H, W, 3].

    A stream that knows its length is a video. Any other has no end, as a camera has none: where it breaks off, it is
    reached again, and where that fails, the iteration ends in an error. So does that of a damaged video, after all of
    its frames that can be read.

    Args:
        source: path of a video, number of a camera, or address of a stream, rtsp:// or http://.
        every: one frame is given in so many seconds, 0 gives all; the others are not decoded.
        reconnect: seconds within which a stream that broke off must be back; 0 ends where it breaks off.

    Raises:
        InputError: there is no such video, camera or stream, it cannot be read, it ended as above, its frames have
            too many pixels, or OpenCV is not installed.
    """

    def __init__(self, source: Source, *, every: float = 0.0, reconnect: float = 30.0):
        self.name = name_of(source)
        self._source, self._every, self._reconnect = source, every, reconnect
        self._cv2 = opencv(self.name)
        if isinstance(source, Path) and not source.is_file():
            raise InputError(f"{source} does not exist")
        self._capture = Capture(source, self._cv2)
        self.has_end = isinstance(source, Path) or (is_stream(source) and self._capture.count > 0)
        refusal = _refusal(self._capture, source, self.name)
        if refusal is not None:
            self._capture.close()
            raise refusal

    @property
    def rate(self) -> float:
        """How many frames a second are given, as far as is known."""
        return min(self._own_rate, 1 / self._every) if self._every > 0 else self._own_rate

    @property
    def _own_rate(self) -> float:
        says = self._capture.says("FPS")
        return says if 0 < says <= _HIGHEST_RATE else _USUAL_RATE

    def __len__(self) -> int:
        """How many frames there are before `every`, 0 where it is not known."""
        return self._capture.count if self.has_end else 0

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        due, given = -math.inf, 0
        with self._progress() as progress, closing(self._video() if self.has_end else self._live()) as frames:
            for at, capture in frames:
                progress.update()
                if at < due - 1e-6:
                    continue
                frame = capture.retrieve()
                if frame is None:
                    continue
                given += 1
                if self._every > 0:
                    due = (math.floor(at / self._every + 1e-6) + 1) * self._every
                yield at, frame
        if not given:
            raise InputError(f"{self.name} gave no frame that can be read")

    def _video(self) -> Generator[tuple[float, Capture]]:
        """Yield the time of each frame, while it is the present one; report at the end whether some are damaged."""
        seen, missed, lost, at = 0, 0, False, 0.0
        with closing(self._capture) as capture:
            count, step = capture.count, 1 / self._own_rate
            while missed < _MISSES:
                if not capture.grab():
                    missed += 1
                    continue
                says = capture.says("POS_MSEC") / 1000
                at = at + step if says < at else says  # the last frame of an MPEG video says 0
                lost, seen, missed = lost or missed > 0, seen + 1, 0
                yield at, capture
            ends_early = _counts_frames(self._source) and at + step < _NEARLY_ALL * count * step
            # A video may be trimmed by a list of what to show, or only be odd: either alone is not damage.
            if seen and (lost or seen < count and (capture.complained or ends_early)):
                part = f"{seen} of {count}" if count else str(seen)
                raise InputError(f"{self.name} is damaged, or breaks off: {part} frames could be read; copy it anew")

    def _live(self) -> Generator[tuple[float, Capture]]:
        """As `_video`, of what has no end of its own."""
        started, seen = time.monotonic(), 0
        live = Live(self._source, self._capture, self._cv2, within=self._reconnect)
        try:
            while live.grab():
                seen += 1
                yield time.monotonic() - started, live.capture
        finally:
            live.capture.close()
        seconds = time.monotonic() - started
        raise InputError(f"{self.name} ended after {seen} frames and {seconds:.0f} s: {live.ended_because}")

    def _progress(self):
        from tqdm import tqdm

        return tqdm(total=len(self) or None, desc=self.name, unit="frame", leave=False, disable=None)


def _counts_frames(source: Source) -> bool:
    """Whether a video says exactly how many frames it shows, as an AVI does: one that ends before is damaged."""
    if not isinstance(source, Path):
        return False
    with reading(source), open(source, "rb") as file:
        return file.read(4) == b"RIFF"


def _refusal(capture: Capture, source: Source, name: str) -> InputError | None:
    """Return what to raise where a source cannot be used."""
    if capture.opened:
        if capture.says("FRAME_WIDTH") * capture.says("FRAME_HEIGHT") > MAX_PIXELS:
            return InputError(f"{name} has frames of more than {MAX_PIXELS // 10**6} million pixels")
        return None
    if isinstance(source, int):
        return InputError(f"{name} cannot be opened: connect it, or give another number")
    if is_stream(source):
        return InputError(f"{name} cannot be opened: nothing answers there, or it sends no video that OpenCV knows")
    unknown = InputError(f"{name} cannot be opened: OpenCV knows no video in it")
    return cannot_read_now(None, source) or unknown


class VideoWriter:
    """Writes frames into an mp4 file, all in the size of the first."""

    def __init__(self, path: Path, *, rate: float):
        self._path, self._rate, self._cv2 = path, rate, opencv(str(path))
        self._writer: Any = None
        self._size, self._written = (0, 0), 0

    def write(self, frame: np.ndarray) -> None:
        """Append uint8 RGB [H, W, 3].

        Raises:
            OSError: it cannot be written.
        """
        height, width = frame.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            code = self._cv2.VideoWriter_fourcc(*"mp4v")
            with quiet_stderr():
                self._writer = self._cv2.VideoWriter(str(self._path), code, self._rate, self._size)
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write a video of {width}x{height} at {self._rate:g} frames per second")
        if (width, height) != self._size:  # a camera that came back otherwise: OpenCV would drop it in silence
            frame = self._cv2.resize(frame, self._size)
        self._writer.write(self._cv2.cvtColor(frame, self._cv2.COLOR_RGB2BGR))

        self._written += 1

    def close(self) -> None:
        """End the video.

        Raises:
            OSError: not all of it could be written, such as on a full disk, which OpenCV does not say.
        """
        if self._writer is None:
            return
        self._writer.release()
        written = Capture(self._path, self._cv2)
        whole = written.count == self._written
        written.close()
        if not whole:
            raise OSError(
                errno.EIO, f"not all {self._written} frames could be written, is the disk full?", str(self._path)
            )


@contextmanager
def video_written(path: Path, *, rate: float) -> Iterator[VideoWriter]:
    """Yield a writer; the video appears at `path` when the block ends, and vanishes when the block fails."""
    check_name(path)
    with atomic_file(path) as unfinished, closing(VideoWriter(unfinished, rate=rate)) as writer:
        yield writer
