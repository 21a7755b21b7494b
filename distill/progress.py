"""Progress bars: in a terminal as they are known, elsewhere (a log, a file) a line every now and then."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_SECONDS = 30  # between two lines
_LINE = "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


def progress_bar(iterable: Iterable | None = None, **options: Any) -> tqdm:
    """Return a `tqdm` with its `options`, which writes whole lines where the standard error is not a terminal."""
    if sys.stderr.isatty() or options.get("disable"):
        return tqdm(iterable, **options)
    lines = {"file": _Lines(sys.stderr), "mininterval": _SECONDS, "maxinterval": _SECONDS, "bar_format": _LINE}
    if options.get("desc"):
        options["desc"] += ": "  # as `set_description` ends it
    return tqdm(iterable, **options | lines)


class _Lines:
    """Takes what a bar writes, with its carriage returns, and passes it on in whole lines, each once."""

    def __init__(self, stream: TextIO):
        self._stream, self._last = stream, ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line and line != self._last:
            self._stream.write(f"{line}\n")
            self._last = line

    def flush(self) -> None:
        self._stream.flush()
