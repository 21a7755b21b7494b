from threading import Lock, current_thread
from time import sleep

from distill.prediction.in_order import in_order


def test_workers_are_opened_by_the_caller_and_no_more_than_have_work():
    openers = []

    def open_worker():
        openers.append(current_thread())
        return lambda item: 2 * item

    for items, count in (range(2), 2), (range(20), 3):
        openers.clear()
        assert [result.result() for result in in_order(items, open_worker, threads=3)] == [2 * item for item in items]
        assert openers == [current_thread()] * count


def test_no_two_threads_call_one_worker_at_once():
    def open_worker():
        lock = Lock()

        def work(item):
            assert lock.acquire(blocking=False)
            sleep(0.001)
            lock.release()
            return item

        return work

    assert [result.result() for result in in_order(range(40), open_worker, threads=4)] == list(range(40))


def test_a_worker_that_fails_takes_the_next_item():
    first, second = (result.exception() for result in in_order([0, 1], lambda: lambda item: 1 // item, threads=1))
    assert isinstance(first, ZeroDivisionError)
    assert second is None
