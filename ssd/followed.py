"""The ids and counts of one video, where they are wanted."""

import numpy as np

from ssd.counting import Counts
from ssd.media import Frame
from ssd.records import Detections
from ssd.tracking import Tracker


class Followed:
    """What goes through the frames of a video, one after another.

    Args:
        tracking: whether objects get ids; without it everything stays as it is.
        watched: points of lines, and of zones, that count.
        score_threshold: least score of a box that is shown.
    """

    def __init__(self, tracking: bool, watched: tuple[list, list], score_threshold: float) -> None:
        self.tracker = self.counts = None
        if tracking:
            self.tracker = Tracker(score_threshold)
            self.counts = Counts(*watched)

    @property
    def limits(self) -> dict:
        """Of the detector, in place of those of the run: a tracker wants weaker boxes as well."""
        return {"score_threshold": self.tracker.finding_threshold} if self.tracker else {}

    def update(self, found: Detections, frame: Frame) -> tuple[Detections, dict | None]:
        """The detections of the next frame with their ids, and the counts so far."""
        if not self.tracker:
            return found, None
        found = self.tracker.update(found, frame.time_s)
        return found, self.counts.update(found)

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Lines, zones and counts on a copy of a picture."""
        return self.counts.draw(image) if self.counts else image

    def text(self) -> str:
        """The counts in words."""
        return self.counts.text() if self.counts else ""
