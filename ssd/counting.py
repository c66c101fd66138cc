"""Lines that tracked objects cross and zones that they enter, in pixels of the picture."""

from collections import Counter

import cv2
import numpy as np

from ssd.draw import draw_shape
from ssd.records import Detections

CLEAR = 0.01  # of the picture's diagonal: nearer to the line an object is on neither side of it


class Line:
    """Counts objects whose centre crosses the line from a to b.

    "in" is to the right of somebody who walks from a to b, "out" to the left. An object that trembles on the
    line counts once.

    Args:
        points: (2, 2) pixels, a and b.
    Raises:
        ValueError: a is b.
    """

    closed = False

    def __init__(self, points: np.ndarray) -> None:
        if len(points) != 2 or np.array_equal(points[0], points[1]):
            raise ValueError(
                f"a line must have two different points. Received: {np.asarray(points).tolist()}"
            )
        self.points = np.float64(points)
        self.counts = Counter({"in": 0, "out": 0})
        self._last: dict[int, tuple] = {}  # of an id: its last clear side, and where that was

    def update(self, detections: Detections) -> dict:
        """Counts after these detections: {"in", "out"}."""
        clear = CLEAR * float(np.hypot(detections.height, detections.width))
        for number, centre in _centres(detections):
            distance = _side(*self.points, centre) / np.hypot(*(self.points[1] - self.points[0]))
            if abs(distance) < clear:
                continue
            before = self._last.get(number)
            self._last[number] = (distance > 0, centre)
            if before and before[0] != (distance > 0) and self._meets(before[1], centre):
                self.counts["in" if distance > 0 else "out"] += 1
        return dict(self.counts)

    def text(self) -> str:
        """For the eye."""
        return f"in {self.counts['in']} out {self.counts['out']}"

    def _meets(self, start: np.ndarray, end: np.ndarray) -> bool:
        """Whether a way from one side to the other passes between the ends of the line."""
        a, b = self.points
        return _side(start, end, a) * _side(start, end, b) <= 0


class Zone:
    """Counts objects whose centre is inside a polygon: now, and different ones so far.

    Args:
        points: (N, 2) pixels; two are opposite corners of a rectangle.
    Raises:
        ValueError: the polygon has no area.
    """

    closed = True

    def __init__(self, points: np.ndarray) -> None:
        points = np.float32(points)
        if len(points) == 2:
            (left, top), (right, bottom) = points
            points = np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])
        if len(points) < 3 or cv2.contourArea(points) == 0:
            raise ValueError(f"a zone must have an area. Received: {points.tolist()}")
        self.points, self.inside = points, 0
        self._seen: set[int] = set()

    def update(self, detections: Detections) -> dict:
        """Counts after these detections: {"inside", "total"}."""
        inside = [number for number, centre in _centres(detections) if self._holds(centre)]
        self._seen.update(inside)
        self.inside = len(inside)
        return {"inside": self.inside, "total": len(self._seen)}

    def text(self) -> str:
        """For the eye."""
        return f"{self.inside} inside, {len(self._seen)} so far"

    def _holds(self, point: np.ndarray) -> bool:
        return cv2.pointPolygonTest(self.points, (float(point[0]), float(point[1])), False) >= 0


class Counts:
    """All lines and zones of a video.

    Args:
        lines: flat numbers of each, as `parse_points` takes them.
        zones: the same.
    """

    def __init__(self, lines: tuple = (), zones: tuple = ()) -> None:
        self.lines = [Line(points) for points in lines]
        self.zones = [Zone(points) for points in zones]

    def update(self, detections: Detections) -> dict | None:
        """The "counts" of a result; None where nothing is watched."""
        if not (self.lines or self.zones):
            return None
        lines, zones = ([one.update(detections) for one in some] for some in (self.lines, self.zones))
        return {"lines": lines, "zones": zones}

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A picture with lines, zones and their numbers."""
        for one in (*self.zones, *self.lines):
            image = draw_shape(image, one.points, one.text(), one.closed)
        return image

    def text(self) -> str:
        """One line for the summary; empty where nothing is watched."""
        named = [(f"line {i}", one) for i, one in enumerate(self.lines, 1)]
        named += [(f"zone {i}", one) for i, one in enumerate(self.zones, 1)]
        return "; ".join(f"{name}: {one.text()}" for name, one in named)


def parse_points(text: str) -> np.ndarray:
    """(N, 2) pixels of "x1,y1,x2,y2,...".

    Raises:
        ValueError: no even row of at least four finite numbers.
    """
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        values = np.empty(0)
    if len(values) < 4 or len(values) % 2 or not np.isfinite(values).all():
        raise ValueError(f"points must be x1,y1,x2,y2,... in pixels. Received: {text!r}")
    return values.reshape(-1, 2)


def _centres(detections: Detections) -> list[tuple[int, np.ndarray]]:
    """Id and centre of every detection that has an id."""
    centres = (detections.boxes_px[:, :2] + detections.boxes_px[:, 2:]) / 2
    return [(number, centre) for number, centre in zip(detections.ids, centres, strict=True) if number]


def _side(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> float:
    """Positive to the right of a walk from a to b, because y points down."""
    return float((b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]))
