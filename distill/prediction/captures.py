"""`Capture`: OpenCV's reader of a video, camera or stream, kept quiet; `Live`: one that is reached again."""

import math
import os
import re
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from distill.errors import InputError
from distill.printable import is_utf8
from distill.quiet import quiet_stderr

Source = Path | int | str
"""A video's path, a camera's number, or a stream's address."""
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")
_HOST = re.compile(r"([^@:?#\[\]]*|\[[^\]]*\])(:\d*)?")
_TIMEOUT_MS = 10_000
_TRIES = 5
_PAUSE = 1.0
"""Seconds before a stream is tried again; twice as long after each try."""
_STEADY = 10.0
"""Seconds that a stream must last for the tries before it to be forgotten."""


def is_stream(source: object) -> bool:
    """Whether `source` is the address of a stream."""
    scheme, separator, _ = str(source).partition("://") if isinstance(source, str) else ("", "", "")
    return bool(separator) and scheme.lower() in STREAM_SCHEMES


def name_of(source: Source) -> str:
    """Return what messages call a source; a stream's address goes without user and password."""
    if isinstance(source, int):
        return f"camera {source}"
    if is_stream(source):  # cut as text: a password may hold what an address may not
        scheme, _, rest = str(source).partition("://")
        host, slash, path = rest.partition("/")
        if _HOST.fullmatch(host):  # an @ in the path is not a password's end
            return f"{scheme}://{host}{slash}{path}"
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return str(source)


class Capture:
    """Frames of a source, one by one. What FFmpeg writes of them to the standard error is only noted."""

    def __init__(self, source: Source, cv2: ModuleType):
        self._cv2 = cv2
        self._written = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.complained = False
        """Whether FFmpeg wrote anything, which it does where a video is damaged, and also where it is unusual."""
        with quiet_stderr(self._written):
            self._capture = cv2.VideoCapture(*_how_to_open(source, cv2))
        self.opened: bool = self._capture.isOpened()

    @property
    def count(self) -> int:
        """How many frames the source says that it has, 0 where it does not say."""
        return max(0, round(self.says("FRAME_COUNT")))

    def grab(self) -> bool:
        """Move to the next frame, if there is one."""
        with quiet_stderr(self._written):
            grabbed = self._capture.grab()
        self._note()
        return grabbed

    def retrieve(self) -> np.ndarray | None:
        """Return the present frame, uint8 RGB [H, W, 3], None where it cannot be decoded."""
        with quiet_stderr(self._written):
            there, frame = self._capture.retrieve()
        self._note()
        return self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB) if there else None

    def says(self, what: str) -> float:
        """Return a property by its name in OpenCV, without "CAP_PROP_"; 0 where it is not finite."""
        value = self._capture.get(getattr(self._cv2, f"CAP_PROP_{what}"))
        return value if math.isfinite(value) else 0.0

    def close(self) -> None:
        self._capture.release()
        self._written.close()

    def _note(self) -> None:
        if os.fstat(self._written.fileno()).st_size:
            self.complained = True
            self._written.seek(0)
            self._written.truncate()  # it may be a line for every block of every frame


def _how_to_open(source: Source, cv2: ModuleType) -> tuple:
    """What `cv2.VideoCapture` is given."""
    if isinstance(source, int):
        return (source,)
    check_name(source)
    # Threads of a decoder would write between two calls, when the standard error is that of the user again.
    options = [cv2.CAP_PROP_N_THREADS, 1]
    if is_stream(source):
        options += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
    return str(source), cv2.CAP_FFMPEG, options


def check_name(source: Path | str) -> None:
    """Refuse a name that is not UTF-8, at which OpenCV ends the process.

    Raises:
        InputError: it is one.
    """
    if not is_utf8(str(source)):
        raise InputError(f"{source} has a name that is not UTF-8, which OpenCV cannot open: rename it")


class Live:
    """A camera or stream, which has no end of its own; a stream that breaks off is reached again.

    Args:
        within: seconds in which it must be back; 0 tries nothing.
    """

    def __init__(self, source: Source, capture: Capture, cv2: ModuleType, *, within: float):
        self._source, self._cv2, self._within = source, cv2, within
        self.capture = capture
        self._tries, self._since = 0, time.monotonic()
        self.ended_because = "it gives no further frame"

    def grab(self) -> bool:
        """Move to the next frame, whatever it takes; False where the source is given up."""
        return self.capture.grab() or (is_stream(self._source) and self._within > 0 and self._reach_again())

    def _reach_again(self) -> bool:
        broke_off = time.monotonic()
        if broke_off - self._since > _STEADY:
            self._tries = 0
        while self._tries < _TRIES:
            pause = _PAUSE * 2**self._tries
            if time.monotonic() + pause - broke_off > self._within:
                break
            time.sleep(pause)
            self._tries += 1
            self.capture.close()
            self.capture = Capture(self._source, self._cv2)
            if self.capture.opened and self.capture.grab():
                self._since = time.monotonic()
                return True
        self.ended_because = f"it broke off, and could not be reached again for good ({self._tries} tries)"
        return False
