"""What commands print, in which names of files and classes stand: no name gives the terminal a command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from distill.printable import printable_lines


@contextmanager
def harmless_output() -> Iterator[None]:
    """Escape control characters, but for ends of lines, in whatever is printed within the block."""
    before = sys.stdout
    sys.stdout = _Harmless(before)
    try:
        yield
    finally:
        sys.stdout = before


class _Harmless:
    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
