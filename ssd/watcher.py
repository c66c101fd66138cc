"""Watchers: told what happens in a training, each shows or stores it in its own way."""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ssd.records import Detections, Sample
from ssd.report import write_report


class Watcher:
    """Told by `ssd.train.train` what happens; this one is quiet, others override what they need.

    As a context it is open while the training runs, however that ends.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_started(self, folder: Path, epochs: int, past: list[dict]) -> None:
        """A run of so many epochs in all, of which `past` are rows of the history."""

    def stage_started(self, number: int, count: int, layers: str, counts: tuple[int, int]) -> None:
        """Stage `number` of `count`, and its counts of trainable and frozen parameters."""

    def epoch_started(self, epoch: int, last: int, batches: int, done: int, batch_size: int) -> None:
        """An epoch (from 1) of a stage that ends with `last`; `done` of its batches are done before."""

    def batch_ended(self, logs: dict[str, float]) -> None:
        """A step: learning rate, and means of losses and accuracies of the epoch so far."""

    def epoch_ended(self, row: dict, samples: list[Sample], found: list[Detections]) -> None:
        """An epoch with its row of the history, validation samples and what is found in them."""

    def run_ended(self) -> None:
        """All epochs are done and stored."""


class Watchers(Watcher):
    """Several watchers as one."""

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        for watcher in self._watchers:
            self._stack.enter_context(watcher)
        return self

    def __exit__(self, *what: object) -> None:
        self._stack.__exit__(*what)

    def run_started(self, *args: object) -> None:
        self._tell("run_started", args)

    def stage_started(self, *args: object) -> None:
        self._tell("stage_started", args)

    def epoch_started(self, *args: object) -> None:
        self._tell("epoch_started", args)

    def batch_ended(self, *args: object) -> None:
        self._tell("batch_ended", args)

    def epoch_ended(self, *args: object) -> None:
        self._tell("epoch_ended", args)

    def run_ended(self) -> None:
        self._tell("run_ended", ())

    def _tell(self, what: str, args: tuple) -> None:
        for watcher in self._watchers:
            getattr(watcher, what)(*args)


class ReportKeeper(Watcher):
    """Writes report.html at the end, and after an epoch as often as that costs no time to speak of.

    Args:
        say: takes a line of text if the page cannot be written, which ends no training.
        write: makes the page of a run folder.
    """

    SHARE = 0.02  # of the time that it may take
    _cost, _written = 5.0, 0.0  # seconds; the first cost is a guess

    def __init__(self, say: Callable[[str], object] = print, write: Callable = write_report) -> None:
        self._say, self._make = say, write

    def run_started(self, folder: Path, epochs: int, past: list[dict]) -> None:
        self._folder, self._any, self._written = folder, bool(past), time.monotonic()

    def epoch_ended(self, row: dict, samples: list[Sample], found: list[Detections]) -> None:
        self._any = True
        if self._cost < self.SHARE * (time.monotonic() - self._written):
            self._write()

    def run_ended(self) -> None:
        if self._any:
            self._write()

    def _write(self) -> None:
        started = time.monotonic()
        try:
            self._make(self._folder)
        except (OSError, ValueError) as error:
            self._say(f"no report could be written: {error}")
        self._written = time.monotonic()
        self._cost = self._written - started
