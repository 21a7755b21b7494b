"""`in_order`: several items are worked on at the same time, and the results come in the order of the items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item],
    open_worker: Callable[[], Callable[[Item], Result]],
    *,
    threads: int,
    interrupt: Callable[[], None] = lambda: None,
) -> Iterator["Future[Result]"]:
    """Yield what becomes the result for each item; no more than two for each thread are ahead.

    Args:
        open_worker: opens what detectors and students need: no two threads call one worker at once. It is called for
            each item that comes, up to `threads` times, in the thread that iterates: opening may mute the standard
            error, and what that thread prints is to be seen.
        interrupt: called where not all results are wanted any more, before what workers have begun is waited for.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    idle: SimpleQueue[Callable[[Item], Result]] = SimpleQueue()

    def work(item: Item) -> Result:
        worker = idle.get()
        try:
            return worker(item)
        finally:
            idle.put(worker)

    try:
        for number, item in enumerate(items):
            if number < threads:
                idle.put(open_worker())
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft()
        yield from waiting
    except BaseException:  # Ctrl-C among them, and the end of who iterates
        interrupt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
