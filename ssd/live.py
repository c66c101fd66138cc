"""The loop of `ssd webcam`: newest frame, boxes, ids, picture; nothing waits in a queue."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ssd.capture import Capture, LiveFrame
from ssd.counting import Counts
from ssd.detector import Detector
from ssd.draw import draw, draw_status
from ssd.images import save_image
from ssd.records import Detections
from ssd.tracking import Tracker

STEP = 0.05  # of the threshold, a press of a key
REMEMBERED = 100_000  # latencies for the summary: hours at the rate of a camera
KEYS = "space pause   s save a picture   + - threshold   q quit"


@dataclass(frozen=True)
class View:
    """A frame with what was found and how it looks."""

    frame: LiveFrame
    found: Detections
    counts: dict | None
    picture: np.ndarray  # (H, W, 3) uint8 RGB, drawn


@dataclass
class Tally:
    """What a live run has seen so far."""

    frames: int = 0
    dropped: int = 0
    started: float = field(default_factory=time.monotonic)
    latencies: list[float] = field(default_factory=list)  # seconds from coming to being drawn
    recent: list[float] = field(default_factory=list)  # when the last frames were done

    def add(self, frame: LiveFrame, last: int) -> None:
        """A frame is done; the one before it had the number `last`."""
        now = time.monotonic()
        self.frames += 1
        self.dropped += frame.index - last - 1
        if len(self.latencies) < REMEMBERED:
            self.latencies.append(now - frame.came_at)
        self.recent = [*self.recent[-9:], now]

    @property
    def rate(self) -> float:
        """Frames a second over the last ten."""
        passed = self.recent[-1] - self.recent[0] if len(self.recent) > 1 else 0
        return (len(self.recent) - 1) / passed if passed else 0.0

    def text(self) -> str:
        """The summary line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        middle, p95 = np.percentile(self.latencies or [0], (50, 95))
        return (
            f"{self.frames} frames in {seconds:.1f} s ({self.frames / seconds:.1f}/s), "
            f"{self.dropped} dropped, latency {middle:.3f} s, p95 {p95:.3f} s"
        )


class Live:
    """Finds objects in the newest frame of a source, again and again.

    Args:
        capture: where frames come from.
        detector: finds.
        score: least score of a box, or (C,) one a class; keys change it.
        limits: `iou_threshold` and `max_detections` of the detector.
        classes: only these; all if empty.
        tracking: whether objects get ids.
        counts: lines and zones.
    """

    def __init__(
        self,
        capture: Capture,
        detector: Detector,
        score: float | np.ndarray,
        limits: dict,
        *,
        classes: tuple[str, ...] = (),
        tracking: bool = False,
        counts: Counts | None = None,
    ) -> None:
        self.capture, self.detector, self.limits, self.classes = capture, detector, limits, classes
        self.score, self.counts = score, counts or Counts()
        self.tracker = Tracker(score) if tracking else None
        self.tally, self.paused = Tally(), False

    def warm_up(self) -> None:
        """Find nothing in a black picture: the first call of a network or a font takes longer."""
        black = np.zeros((300, 300, 3), np.uint8)
        draw_status(draw(black, self.detector(black, **self.limits)), "0")
        self.tally = Tally()

    def views(self, until: Callable[[], bool]) -> Iterator[View | None]:
        """What each newest frame shows; None while there is nothing new or the run is paused.

        Ends with the source, or when `until` says so.

        Raises:
            ValueError: the source broke off.
        """
        last = -1
        while not until():
            frame = None if self.paused else self.capture.newest(last)
            if self.paused:
                time.sleep(0.03)
            elif frame is None and self.capture.ended:
                return
            if frame is None:
                yield None
                continue
            yield self._view(frame)
            self.tally.add(frame, last)
            last = frame.index

    def change_score(self, by: float) -> None:
        """Raise or lower the threshold, within [0.05, 0.95]."""
        self.score = np.clip(np.float32(self.score) + np.float32(by), np.float32(0.05), np.float32(0.95))
        if self.tracker:
            self.tracker.score_threshold = self.score

    def press(self, key: str, view: View | None, folder: Path) -> str | None:
        """Do what a key stands for; returns "quit", or a line for the user, or None."""
        if key in ("q", "quit", "\x1b"):
            return "quit"
        if key == " ":
            self.paused = not self.paused
        if key in ("+", "=", "up", "-", "down"):
            self.change_score(-STEP if key in ("-", "down") else STEP)
        if key == "s" and view:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"frame_{view.frame.index:06d}.png"
            save_image(path, view.picture)
            return f"saved {path}"
        return None

    def _view(self, frame: LiveFrame) -> View:
        wanted = self.tracker.finding_threshold if self.tracker else self.score
        found = self.detector(frame.image, score_threshold=wanted, **self.limits)
        if self.classes:
            found = found[np.array([name in self.classes for name in found.names], bool)]
        if self.tracker:
            found = self.tracker.update(found, frame.time_s)
        counts = self.counts.update(found)
        picture = self.counts.draw(draw(frame.image, found))
        text = f"{self.tally.rate:.1f} frames/s   score {float(np.min(self.score)):.2f}"
        return View(frame, found, counts, draw_status(picture, text))


def as_frame(view: View, start_s: float) -> LiveFrame:
    """The drawn frame at its time after `start_s`, for a recording."""
    return replace(view.frame, image=view.picture, time_s=view.frame.time_s - start_s)
