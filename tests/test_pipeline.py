import threading
import time

import pytest

from ssd.pipeline import ahead, in_order


class Counted:
    """Whole numbers that know how many were taken and whether they were closed."""

    def __init__(self):
        self.taken, self.closed = 0, False

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return self.taken - 1

    def close(self):
        self.closed = True


def test_results_keep_their_order():
    def call(i):
        time.sleep(0.002 * (i % 3))
        return i * i

    assert [f.result() for f in in_order(call, range(30), 3)] == [i * i for i in range(30)]
    assert list(in_order(call, [], 3)) == []


def test_only_a_few_items_are_taken_ahead():
    items = Counted()
    futures = in_order(lambda i: i * i, items, 2)
    assert [next(futures).result() for _ in range(3)] == [0, 1, 4]
    assert items.taken <= 7
    futures.close()


def test_after_closing_no_call_starts():
    started, gate = [], threading.Event()

    def call(i):
        started.append(i)
        gate.wait()
        return i

    futures = in_order(call, range(100), 1)
    threading.Timer(0.1, gate.set).start()
    next(futures)  # three are taken; the first call holds the thread
    futures.close()
    assert started == [0]


def test_a_thread_makes_items_ahead():
    items = Counted()
    made = ahead(items, 2)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    until = time.monotonic() + 5
    while items.taken < 6 and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.02)
    assert items.taken == 6  # three given, two wait, one is in hand
    made.close()
    assert items.closed
    assert threading.active_count() == len({t.name for t in threading.enumerate()})


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("a video must be whole")

    made = ahead(items(), 5)
    assert next(made) == 1
    with pytest.raises(ValueError, match="must be whole"):
        next(made)
    assert list(ahead([], 1)) == []


def test_what_came_before_an_error_of_the_items_is_not_lost():
    def items():
        yield from (1, 2, 3)
        raise ValueError("breaks off")

    futures, seen = in_order(lambda i: i, items(), 2), []
    with pytest.raises(ValueError, match="breaks off"):
        seen.extend(future.result() for future in futures)
    assert seen == [1, 2, 3]
