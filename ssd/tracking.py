"""Ids for objects over the frames of a video: supervision's ByteTrack behind a thin wrapper."""

import math
import warnings
from dataclasses import replace

import numpy as np

from ssd.records import Detections

PATIENCE_S = 2.0  # a hidden object keeps its id this long
WEAK = 0.3  # a box this far below its threshold still keeps an object's id alive
SURE = 0.5  # where a threshold lies on the tracker's scale of scores
LEAST_OVERLAP = 0.1  # IoU times score that joins a box to an object: frames may be far apart


class Tracker:
    """Gives detections ids that stay with their objects; one tracker a video.

    Every class is followed on its own. An object gets its id with the first box above the threshold; weaker
    boxes keep it alive and are not returned.

    Args:
        score_threshold: least score of a box that is returned, or (C,) one a class.
    Raises:
        ImportError: supervision is not installed.
    Source: Zhang et al. 2022, "ByteTrack", arXiv:2110.06864, as supervision 0.30 implements it.
    """

    def __init__(self, score_threshold: float | np.ndarray) -> None:
        self.score_threshold = score_threshold
        self._tracker = _byte_track()
        self._frames, self._start_s = 0, 0.0

    @property
    def finding_threshold(self) -> float | np.ndarray:
        """Least score of the boxes that `update` wants to see."""
        return np.clip(np.float32(self.score_threshold) - np.float32(WEAK), np.float32(0.05), None)

    def update(self, detections: Detections, time_s: float) -> Detections:
        """The detections above the threshold, with their ids.

        Args:
            detections: of the next frame, down to `finding_threshold`.
            time_s: of the frame, which rises.
        """
        import supervision as sv

        self._set_patience(time_s)
        limit = np.broadcast_to(np.float32(self.score_threshold), len(detections.class_names))
        excess = detections.scores - limit[detections.labels]
        shown = excess > 0
        found = sv.Detections(
            xyxy=_apart(detections),
            confidence=np.clip(SURE + excess, 0.11, 1),
            data={"row": np.arange(len(detections))},
        )
        ids = np.zeros(len(detections), np.int64)
        tracked = self._tracker.update_with_detections(found)
        if len(tracked):
            ids[tracked.data["row"]] = tracked.tracker_id
        return replace(detections, track_ids=ids)[shown]

    def _set_patience(self, time_s: float) -> None:
        """Seconds as frames, of which there may be ever fewer a second."""
        if not self._frames:
            self._start_s = time_s
        passed = time_s - self._start_s
        rate = self._frames / passed if passed > 0 else 30
        self._frames += 1
        self._tracker.max_time_lost = max(1, math.ceil(PATIENCE_S * rate))


def _byte_track() -> object:
    import supervision as sv

    with warnings.catch_warnings():  # its successor, trackers, insists on opencv-python
        warnings.simplefilter("ignore", FutureWarning)
        return sv.ByteTrack(
            track_activation_threshold=SURE - 0.1,  # it starts objects 0.1 above this
            minimum_matching_threshold=1 - LEAST_OVERLAP,
        )


def _apart(detections: Detections) -> np.ndarray:
    """Boxes in pixels, those of each class so far off the others that they never overlap."""
    shift = 4 * max(detections.height, detections.width)
    return detections.boxes_px.astype(np.float64) + (detections.labels * shift)[:, None]
