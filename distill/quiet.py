"""Silence for libraries that greet the user on the standard error, where one line of ours may have to stand alone."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

_ONE_BY_ONE = threading.RLock()  # the descriptor is that of the whole process


def without_retracing_warnings() -> None:
    """Let TensorFlow not warn of functions that are traced again.

    It counts the traces of all objects of a class together, and a program that opens many networks traces each once.
    """
    logging.getLogger("tensorflow").addFilter(_is_not_of_retracing)  # the same function is added once


def _is_not_of_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


@contextmanager
def quiet_stderr(into: IO | None = None) -> Iterator[None]:
    """Drop whatever is written to the file descriptor of the standard error, or keep it; exceptions pass.

    One thread does so at a time, others wait: each would take the silence of another for what is to be restored.

    Args:
        into: an open file that takes it.
    """
    with _ONE_BY_ONE:
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
