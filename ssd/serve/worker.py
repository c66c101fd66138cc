"""One bounded queue before the network: who finds it full is told so at once."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from ssd.serve.limits import RefusalError


class Worker:
    """Threads that take calls from a queue.

    Args:
        threads: more than the network has streams, so that one decodes while others are in the network.
        most: calls that may wait.
    """

    def __init__(self, threads: int, most: int) -> None:
        self._calls: queue.Queue = queue.Queue(most)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._calls.qsize()

    async def do(self, call: Callable, seconds: float) -> object:
        """What a call returns.

        Raises:
            RefusalError: 429 the queue is full, or nobody came to it in `seconds`; or what the call raises.
        """
        future: Future = Future()
        try:
            self._calls.put_nowait((future, call))
        except queue.Full:
            raise RefusalError(429, "all is busy; try again in a moment") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            raise RefusalError(429, f"all is busy; no answer within {seconds:g} s") from None

    def close(self) -> None:
        """End the threads once what they have in hand is done."""
        for _ in self._threads:
            self._calls.put((None, None))
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            future, call = self._calls.get()
            if future is None:
                return
            if not future.set_running_or_notify_cancel():
                continue  # the client has gone
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
