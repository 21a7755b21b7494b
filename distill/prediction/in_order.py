"""`in_order`: several items are worked on at the same time, and the results come in the order of the items."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item], open_worker: Callable[[], Callable[[Item], Result]], *, threads: int
) -> Iterator["Future[Result]"]:
    """Yield what becomes the result for each item; no more than two for each thread are ahead.

    Args:
        open_worker: called once in each thread, for what detectors and students need: none may be called by two
            threads at once.
    """
    own, pool = threading.local(), ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()

    def work(item: Item) -> Result:
        if not hasattr(own, "worker"):
            own.worker = open_worker()
        return own.worker(item)

    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)
