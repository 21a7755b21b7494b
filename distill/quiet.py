"""Silence for libraries that greet the user on the standard error, where one line of ours may have to stand alone."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO


@contextmanager
def quiet_stderr(into: IO | None = None) -> Iterator[None]:
    """Drop whatever is written to the file descriptor of the standard error, or keep it; exceptions pass.

    Args:
        into: an open file that takes it.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w")) if into is None else into
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
