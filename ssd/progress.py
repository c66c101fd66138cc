"""The live table of a training on a terminal."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from ssd.records import Detections, Sample
from ssd.watcher import Watcher


class Pace:
    """Steps of a run and how long they take; the time left follows from the latest of them.

    Epochs of later stages are taken to last as long as those of this one: nothing better is known.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.epochs = self.epoch = self.last = self.batches = self.done = self.batch_size = 0
        self._between = 0.0  # seconds from the last step of an epoch to the start of the next one
        self._ended: float | None = None
        self._ticks: deque[float] = deque(maxlen=21)

    def start_epoch(self, epoch: int, last: int, batches: int, done: int, batch_size: int) -> None:
        now = self._clock()
        if self._ended is not None:
            self._between = now - self._ended
        self.epoch, self.last, self.batches, self.done = epoch, last, batches, done
        self.batch_size = batch_size
        self._ticks.clear()
        self._ticks.append(now)

    def step(self) -> None:
        self.done += 1
        self._ticks.append(self._clock())
        if self.done == self.batches:
            self._ended = self._ticks[-1]

    @property
    def seconds_a_step(self) -> float | None:
        """Mean of the last 20 steps."""
        steps = len(self._ticks) - 1
        return (self._ticks[-1] - self._ticks[0]) / steps if steps > 0 else None

    @property
    def images_per_s(self) -> float | None:
        seconds = self.seconds_a_step
        return self.batch_size / seconds if seconds else None

    def time_left(self) -> tuple[float, float] | None:
        """Seconds left of the epoch's steps, and of the run with its validations."""
        step = self.seconds_a_step
        if step is None:
            return None
        waited = self._clock() - self._ticks[-1]
        epoch = max(0.0, (self.batches - self.done) * step - waited)
        later = max(0, self.epochs - self.epoch) * (self.batches * step + self._between)
        return epoch, epoch + self._between + later


def live_table(score: str = "val_mAP") -> "LiveTable | None":
    """A live table where standard error is a terminal that can show one; else lines are all there is."""
    from rich.console import Console

    console = Console(stderr=True)
    return LiveTable(console, score=score) if console.is_terminal and not console.is_dumb_terminal else None


class LiveTable(Watcher):
    """A table on a terminal, below the lines that are printed, drawn anew at steps, twice a second at most.

    All drawing is done by the thread that trains: nothing may print between a count of lines and its use.
    Lines must go through `say`; click's own echo goes round rich and would be drawn over.

    Args:
        console: of rich, on a terminal.
        clock: seconds.
        score: column that tells the best epoch.
    """

    def __init__(
        self, console: object, clock: Callable[[], float] = time.monotonic, score: str = "val_mAP"
    ) -> None:
        from rich.live import Live

        self._pace, self._title, self._logs, self._best = Pace(clock), "", {}, None
        self._clock, self._drawn, self._console, self._score = clock, -1.0, console, score
        self._work: tuple[str, int, int] | None = None
        self._live = Live(
            get_renderable=self._table,
            console=console,
            auto_refresh=False,
            transient=True,
            # What is printed while the table stands must go above it; to a file it goes as it is.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table, or to a file that standard output is."""
        if sys.stdout.isatty():
            self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)
        else:
            print(text, flush=True)

    def track(self, items: Iterable, text: str, total: int | None = None) -> Iterator:
        """Show a line with the progress of other work while items pass, as `ssd.cli.track` does."""
        try:
            for done, item in enumerate(items):
                self._work = text, done, total or 0
                self._draw(now=done == 0)
                yield item
        finally:
            self._work = None
            self._draw(now=True)

    def run_started(self, folder: Path, epochs: int, past: list[dict]) -> None:
        self._pace.epochs = epochs
        for row in past:
            self._see(row)

    def stage_started(self, number: int, count: int, layers: str, counts: tuple[int, int]) -> None:
        self._title = f"stage {number} of {count}: {layers}, {counts[0]:,} trained, {counts[1]:,} frozen"
        self._draw(now=True)

    def epoch_started(self, epoch: int, last: int, batches: int, done: int, batch_size: int) -> None:
        self._pace.start_epoch(epoch, last, batches, done, batch_size)
        self._draw(now=True)

    def batch_ended(self, logs: dict[str, float]) -> None:
        self._logs = logs
        self._pace.step()
        self._draw(now=self._pace.done == self._pace.batches)

    def epoch_ended(self, row: dict, samples: list[Sample], found: list[Detections]) -> None:
        self._see(row)

    def _see(self, row: dict) -> None:
        if self._best is None or row[self._score] > self._best[1]:
            self._best = row["epoch"], row[self._score]

    def _draw(self, now: bool = False) -> None:
        if now or self._clock() - self._drawn >= 0.5:
            self._drawn = self._clock()
            self._live.refresh()

    def _table(self) -> object:
        from rich import box
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        pace, rows = self._pace, []
        table = Table.grid(padding=(0, 2))
        if self._work:
            text, done, total = self._work
            rows.append((text, f"{done:,} of {total:,}" if total else f"{done:,}"))
        if pace.batches:
            rows.append(("epoch", f"{pace.epoch} of {pace.epochs} (this stage ends with {pace.last})"))
            state = f"batch {pace.done:,} of {pace.batches:,}"
            rows.append((state if pace.done < pace.batches else "validating", None))
            left = pace.time_left()
            times = [_clock_time(seconds) for seconds in left] if left else ["?", "?"]
            rows.append(("time left", f"{times[0]} of this epoch, about {times[1]} of the run"))
            speed = pace.images_per_s
            rows.append(("images/s", f"{speed:.1f}" if speed else "?"))
            rows += [
                (key.replace("_", " "), f"{value:.2e}" if key == "learning_rate" else f"{value:.4f}")
                for key, value in self._logs.items()
            ]
            best = f"{self._best[1]:.4f} in epoch {self._best[0]}" if self._best else "after the first epoch"
            rows.append((f"best {self._score.removeprefix('val_')}", best))
        for key, text in rows:
            bar = ProgressBar(pace.batches, pace.done, width=40)
            table.add_row(Text(key, "cyan"), bar if text is None else Text(text))
        title = Text(self._title or "preparing", overflow="ellipsis")
        return Panel(table, title=title, title_align="left", box=box.ROUNDED, expand=False)


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
