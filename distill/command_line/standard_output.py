"""What commands print, in which names of files and classes stand: no name gives the terminal a command."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from distill.printable import printable_lines


def open_closed_streams() -> None:
    """Let standard streams that the user closed lead nowhere, else the next files to be opened get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


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
