"""One turn of a detector: the way from files to drawn pictures as a whole, and part by part."""

import time
from collections.abc import Callable
from pathlib import Path

from ssd.detector import Detector
from ssd.draw import draw
from ssd.images import load_image
from ssd.records import Detections
from ssd.runtimes.network import Limits

PARTS = ("decode", "preprocess", "network", "boxes", "draw")
SCORE = 0.5  # as `ssd detect` has it, where the card has no threshold


def screen_limits(detector: Detector) -> Limits:
    """What `ssd detect` shows unless told otherwise."""
    card = detector.card
    return Limits(detector.operating_point(SCORE), card.iou_threshold, card.max_detections)


def visit(
    detector: Detector, files: list[Path], parts_first: bool, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Time a batch twice, whole and part by part, each on its own.

    Args:
        detector: its batch is the number of files.
        files: pictures.
        parts_first: which of the two comes first; whoever alternates favours neither.
        clock: seconds, for tests.
    Returns:
        seconds a picture: each of PARTS, "whole", and "photo_to_boxes", which is the whole but drawing.
    """
    limits = screen_limits(detector)
    ways = [time_whole, time_parts][:: -1 if parts_first else 1]
    found = {}
    for way in ways:
        found |= way(detector, files, limits, clock)
    return {name: seconds / len(files) for name, seconds in found.items()}


def time_whole(detector: Detector, files: list[Path], limits: Limits, clock: Callable) -> dict[str, float]:
    """Seconds of the calls that a user makes."""
    start = clock()
    images = [load_image(file) for file in files]
    found = detector.find_batch(images, *limits)
    boxes = clock()
    for image, detections in zip(images, found, strict=True):
        draw(image, detections)
    return {"photo_to_boxes": boxes - start, "whole": clock() - start}


def time_parts(detector: Detector, files: list[Path], limits: Limits, clock: Callable) -> dict[str, float]:
    """Seconds of the same work, taken apart."""
    times = [clock()]
    images = [load_image(file) for file in files]
    times.append(clock())
    batch = detector.prepare(images)
    times.append(clock())
    outputs = detector.network(batch)
    times.append(clock())
    found = []
    for i, image in enumerate(images):
        parts = detector.boxes(outputs, i, limits)
        found.append(Detections(*parts, detector.class_names, *image.shape[:2]))
    times.append(clock())
    for image, detections in zip(images, found, strict=True):
        draw(image, detections)
    times.append(clock())
    return {name: times[i + 1] - times[i] for i, name in enumerate(PARTS)}
