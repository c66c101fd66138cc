"""Ctrl-C and SIGTERM as a wish: no new work begins, what is in hand is finished, files are completed."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the program was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def status(self) -> int:
        """What a shell expects of a program that a signal ended: 130 after Ctrl-C."""
        return 128 + self.signal

    def before(self, items: Iterable) -> Iterator:
        """The items, until the wish comes."""
        items = iter(items)
        while not self.signal and (item := next(items, _END)) is not _END:
            yield item


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Hear the wish from here on; a second one raises KeyboardInterrupt at once.

    A signal that the process was started to ignore, as shells do for jobs in the background, stays ignored.
    """
    stop, before = Stop(), {}

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.signal:
            _interrupt(number, frame)
        stop.signal = signal.Signals(number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, hear)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def polite_kill() -> Iterator[None]:
    """SIGTERM as Ctrl-C from here on: KeyboardInterrupt, so that nothing is left half done.

    Neither comes within an import, but as soon as it is done: extensions that are interrupted while they
    start call that an ImportError, or stop for ever.
    """
    before = {}
    for number, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == usual:  # else ignored, or heard by whoever began this
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def was_interrupted() -> bool:
    """Whether a signal came as KeyboardInterrupt: C++ that it passes through makes other errors of it."""
    return bool(_raised)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if not frame:
        _raised.add(number)
        raise KeyboardInterrupt
    again = threading.Timer(0.05, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


_END = object()
_raised: set[int] = set()  # signals
