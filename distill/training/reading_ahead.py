"""`ReadAhead`: the next items are made while the last one is used, and the time spent waiting for them is counted."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
_END = object()


class ReadAhead(Generic[Item]):
    """Goes through `items` once, in a thread that is one ahead; as a context manager, so that the thread ends."""

    def __init__(self, items: Iterable[Item]):
        self._items = iter(items)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._started = time.perf_counter()
        self._waited = 0.0

    def __enter__(self) -> "ReadAhead[Item]":
        return self

    def __exit__(self, *_) -> None:
        self._reader.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Item]:
        coming = self._reader.submit(next, self._items, _END)
        while (item := self._wait_for(coming)) is not _END:
            coming = self._reader.submit(next, self._items, _END)
            yield item

    def _wait_for(self, coming) -> Item:
        started = time.perf_counter()
        item = coming.result()
        self._waited += time.perf_counter() - started
        return item

    @property
    def share(self) -> float:
        """What share of the time since this object was made was spent waiting for items, 0..1."""
        return self._waited / (time.perf_counter() - self._started)
