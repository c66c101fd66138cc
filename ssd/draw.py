"""Detections on a picture, for the eye."""

import cv2
import numpy as np

from ssd.boxes import to_pixels
from ssd.records import Detections

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


def draw(image: np.ndarray, detections: Detections) -> np.ndarray:
    """Draw boxes, and over all of them class and score; the best detection lies on top.

    Args:
        image: (H, W, 3) uint8 RGB, left as it is.
        detections: of this image.
    Returns:
        (H, W, 3) uint8 RGB.
    """
    texts = [f"{name} {score:.2f}" for name, score in zip(detections.names, detections.scores, strict=True)]
    return _draw(image, detections.boxes_px, detections.labels, texts)


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


def _label(canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple) -> None:
    """Write on a filled strip above the corner, or below it where there is no room."""
    height, width = canvas.shape[:2]
    size = int(np.clip(min(height, width) / 22, 11, 40))  # pixels
    font = cv2.FontFace("sans")
    text_width = cv2.getTextSize((0, 0), text, (0, 0), font, size, 500)[2]
    strip_width, strip_height = text_width + size // 2, size + size // 3
    left = max(0, min(corner[0], width - strip_width))
    top = corner[1] - strip_height if corner[1] >= strip_height else corner[1]
    cv2.rectangle(canvas, (left, top), (left + strip_width, top + strip_height), colour, -1)
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (left + size // 4, top + size), ink, font, size, 500)
