"""`uninterrupted`: Ctrl-C waits while HDF5 works, because HDF5 does not survive an exception in the middle."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[Callable[[], None]]:
    """Keep Ctrl-C (SIGINT) until the block ends; it then does what it would have done at once.

    Yields a function to call in the block where an interruption does no harm, so that none waits long. Blocks may
    be nested, but no generator may yield inside one: the handlers would be given back in the wrong order.
    """
    previous = signal.getsignal(signal.SIGINT)
    # Python hands signals to the main thread alone; and one that is ignored, or kills, never becomes an exception.
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield lambda: None
        return
    waiting: list[tuple] = []

    def let_through() -> None:
        if waiting:
            previous(*waiting.pop())

    def keep(*received) -> None:
        waiting[:] = [received]

    signal.signal(signal.SIGINT, keep)
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, previous)
        let_through()
