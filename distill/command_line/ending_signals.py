"""Ctrl-C and SIGTERM end a command in one way, whenever they come."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

INTERRUPTED = 130


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, by which systems and schedulers end a program, do what Ctrl-C does: nothing unfinished is left."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or not callable(signal.getsignal(signal.SIGINT)):  # ignored: nobody would hear it
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say_interrupted_while_loading() -> None:
    """Say in a line that Ctrl-C came while modules were loaded, before there was a command that could catch it.

    Only where this process is a command, `python -m distill.NAME`: of other programs nothing is changed.
    """
    program = getattr(sys.modules.get("__main__"), "__spec__", None)
    if program is None or not program.name.startswith("distill."):
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)
            return
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)  # modules that are half loaded do not take their leave well

    sys.excepthook = hook
