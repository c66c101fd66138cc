"""Work that overlaps: calls by threads with their results in order, and items made ahead of their use.

Both hold only a few items at a time, so memory is the same after an hour as after a minute.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def in_order(call: Callable, items: Iterable, workers: int) -> Iterator[Future]:
    """Futures of `call` on each item, in order, computed by threads a few items ahead.

    Args:
        call: takes an item.
        items: taken by the caller's thread, as the futures are asked for; an error that they end with
            is raised after the futures of those before it.
        workers: threads; one item more than these waits.
    Returns:
        a generator; closing it lets running calls end and starts no more.
    """
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for kind, item in _entries(items):
            if kind is not _ITEM:
                break
            waiting.append(pool.submit(call, item))
            if len(waiting) > workers + 1:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        if kind is _ERROR:
            raise item
    finally:
        pool.shutdown(cancel_futures=True)  # nobody will ask for these


def ahead(items: Iterable, count: int) -> Iterator:
    """The items, made by a thread of its own while the caller uses earlier ones.

    Args:
        items: an error that they end with is raised here, after the items before it.
        count: that may wait.
    Returns:
        a generator; closing it ends the thread and closes `items`.
    """
    ready: queue.Queue = queue.Queue(count)
    closed = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, ready, closed), daemon=True)
    thread.start()
    try:
        while (entry := ready.get())[0] is _ITEM:
            yield entry[1]
        if entry[0] is _ERROR:
            raise entry[1]
    finally:
        closed.set()
        thread.join()


_ITEM, _ERROR, _END = "item", "error", "end"
_PATIENCE_S = 0.05  # between looks at whether anybody still wants items


def _entries(items: Iterable) -> Iterator[tuple]:
    """The items, then how they end: with an error, or just so."""
    try:
        for item in items:
            yield _ITEM, item
    except Exception as error:
        yield _ERROR, error
    else:
        yield _END, None


def _fill(items: Iterable, ready: queue.Queue, closed: threading.Event) -> None:
    for entry in _entries(items):
        if not _put(ready, entry, closed):
            break
    if close := getattr(items, "close", None):
        close()


def _put(ready: queue.Queue, entry: tuple, closed: threading.Event) -> bool:
    while not closed.is_set():
        try:
            ready.put(entry, timeout=_PATIENCE_S)
            return True
        except queue.Full:
            continue
    return False
