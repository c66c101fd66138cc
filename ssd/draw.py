"""Detections on a picture, for the eye."""

import cv2
import numpy as np

from ssd.boxes import to_pixels
from ssd.records import Detections, Sample

# RGB, told apart by people with colour-blindness too. Source: Okabe and Ito 2008, "Color Universal
# Design", without black.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

TRUE, PREDICTED = PALETTE[2], PALETTE[5]  # colours where truth and prediction share a picture


def draw(image: np.ndarray, detections: Detections) -> np.ndarray:
    """Draw boxes, and over all of them class and score; the best detection lies on top.

    Args:
        image: (H, W, 3) uint8 RGB, left as it is.
        detections: of this image.
    Returns:
        (H, W, 3) uint8 RGB.
    """
    rows = zip(detections.names, detections.ids, detections.scores, strict=True)
    texts = [
        f"{name} #{number} {score:.2f}" if number else f"{name} {score:.2f}" for name, number, score in rows
    ]
    return _draw(image, detections.boxes_px, detections.labels, texts)


def draw_shape(image: np.ndarray, points: np.ndarray, text: str, closed: bool) -> np.ndarray:
    """Draw a line or a zone that objects are counted at, its text at the first point.

    Args:
        image: (H, W, 3) uint8 RGB, left as it is.
        points: (N, 2) pixels.
        closed: whether the last point is joined to the first.
    """
    canvas = np.ascontiguousarray(image).copy()
    corners = np.round(points).astype(np.int32)
    thickness = max(2, round(min(canvas.shape[:2]) / 200))
    cv2.polylines(canvas, [corners], closed, PALETTE[4], thickness)
    _label(canvas, text, tuple(int(v) for v in corners[0]), PALETTE[4])
    return canvas


def draw_status(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line in the lower left corner of a copy of a picture."""
    canvas = np.ascontiguousarray(image).copy()
    _label(canvas, text, (0, canvas.shape[0]), (40, 40, 40))
    return canvas


def draw_truth(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, class_names: tuple) -> np.ndarray:
    """Draw true boxes with their classes.

    Args:
        image: (H, W, 3) uint8 RGB, left as it is.
        boxes: (N, 4) boxes.
        labels: (N,) int labels, index into class_names.
    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _draw(image, to_pixels(boxes, *image.shape[:2]), labels, [class_names[label] for label in labels])


def _draw(image: np.ndarray, boxes_px: np.ndarray, labels: np.ndarray, texts: list[str]) -> np.ndarray:
    canvas = np.ascontiguousarray(image).copy()
    thickness = max(2, round(min(image.shape[:2]) / 200))
    colours = [PALETTE[label % len(PALETTE)] for label in labels]
    boxes = np.round(boxes_px).astype(int).tolist()
    rows = list(zip(texts, boxes, colours, strict=True))[::-1]
    for _, (x_min, y_min, x_max, y_max), colour in rows:
        # The right and bottom edges are exclusive: the last pixel inside is one before them.
        cv2.rectangle(canvas, (x_min, y_min), (x_max - 1, y_max - 1), colour, thickness)
    for text, box, colour in rows:
        _label(canvas, text, (box[0], box[1]), colour)
    return canvas


def draw_both(image: np.ndarray, detections: Detections, sample: Sample) -> np.ndarray:
    """Draw the true boxes in green, their class below; what was found in orange, its class above.

    Args:
        image: (H, W, 3) uint8 RGB of any size, left as it is.
        detections: of this image, already filtered by score.
        sample: its truth; a difficult box says so.
    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    thickness = max(2, round(min(height, width) / 200))
    names = [detections.class_names[label] for label in sample.labels]
    texts = [f"{n} (difficult)" if hard else n for n, hard in zip(names, sample.difficult, strict=True)]
    truth = list(zip(texts, _corners(sample.boxes, height, width), strict=True))
    scored = [f"{n} {s:.2f}" for n, s in zip(detections.names, detections.scores, strict=True)]
    found = list(zip(scored, _corners(detections.boxes, height, width), strict=True))[::-1]
    # Truth is twice as wide, so that it shows on both sides of a box that lies right on it.
    for rows, colour, wide in ((truth, TRUE, 2 * thickness), (found, PREDICTED, thickness)):
        for _, (x_min, y_min, x_max, y_max) in rows:
            cv2.rectangle(canvas, (x_min, y_min), (x_max - 1, y_max - 1), colour, wide)
    for text, box in truth:
        _label(canvas, text, (box[0], box[3]), TRUE, above=False)
    for text, box in found:
        _label(canvas, text, (box[0], box[1]), PREDICTED)
    return canvas


def _corners(boxes: np.ndarray, height: int, width: int) -> list[list[int]]:
    return np.round(to_pixels(boxes, height, width)).astype(int).tolist()


def _label(canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple, above: bool = True) -> None:
    """Write on a filled strip above the corner or below it, on the other side where there is no room."""
    height, width = canvas.shape[:2]
    size = int(np.clip(min(height, width) / 22, 11, 40))  # pixels
    font = cv2.FontFace("sans")
    text_width = cv2.getTextSize((0, 0), text, (0, 0), font, size, 500)[2]
    strip_width, strip_height = text_width + size // 2, size + size // 3
    left = max(0, min(corner[0], width - strip_width))
    up = corner[1] >= strip_height if above else corner[1] + strip_height > height
    top = corner[1] - strip_height if up else corner[1]
    cv2.rectangle(canvas, (left, top), (left + strip_width, top + strip_height), colour, -1)
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (left + size // 4, top + size), ink, font, size, 500)
