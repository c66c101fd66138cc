"""A box is float32 `(x_min, y_min, x_max, y_max)`, divided by image width and height into [0, 1],
origin at the top-left corner, x right, y down, right and bottom edges exclusive.

Width is `x_max - x_min`: no "+1" anywhere. `boxes` always means this. Exceptions are visible by
name: `boxes_px` (pixels of the original image), `boxes_cxcywh` (centre x, centre y, width, height;
inside encode and decode), `box_deltas` (encoded).
"""

import numpy as np


def as_boxes(values: object) -> np.ndarray:
    """Make a (N, 4) float32 array of boxes out of any sequence of four numbers; N may be 0.

    Raises:
        ValueError: the values are not rows of four numbers.
    """
    boxes = np.asarray(values, dtype=np.float32)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4). Received: shape {boxes.shape}")
    return boxes


def check_boxes(boxes: np.ndarray, where: str = "boxes") -> None:
    """Raise ValueError, naming the first box that is not finite or has no area.

    Args:
        boxes: (N, 4) boxes.
        where: the file or array that they come from, for the message.
    """
    wrong = ~(np.isfinite(boxes).all(1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            "boxes must satisfy x_min < x_max and y_min < y_max. "
            f"Received: box {i} = {boxes[i].tolist()} in {where}"
        )


def area(boxes: np.ndarray) -> np.ndarray:
    """(N,) areas of (N, 4) boxes; 0 where a box is inverted."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair.

    Args:
        boxes_a: (N, 4) boxes.
        boxes_b: (M, 4) boxes, in the same units.
    Returns:
        (N, M) float in [0, 1]; 0 where both boxes have no area.
    """
    # One array a coordinate: three times as fast as one (N, M, 2) array a corner.
    width = np.minimum(boxes_a[:, None, 2], boxes_b[None, :, 2])
    width = np.maximum(width - np.maximum(boxes_a[:, None, 0], boxes_b[None, :, 0]), 0)
    height = np.minimum(boxes_a[:, None, 3], boxes_b[None, :, 3])
    height = np.maximum(height - np.maximum(boxes_a[:, None, 1], boxes_b[None, :, 1]), 0)
    shared = width * height
    union = area(boxes_a)[:, None] + area(boxes_b)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def clip(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) boxes cut to the image, [0, 1]."""
    return np.clip(boxes, 0.0, 1.0)


def to_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, 4) boxes in pixels of an image of that height and width: the inverse of `from_pixels`."""
    return boxes * np.array([width, height, width, height], dtype=np.float32)


def from_pixels(boxes_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, 4) boxes of boxes in pixels: the inverse of `to_pixels`."""
    return boxes_px / np.array([width, height, width, height], dtype=np.float32)


def to_centres(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) `boxes_cxcywh` of boxes: the inverse of `to_corners`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + sides / 2, sides], axis=1)


def to_corners(boxes_cxcywh: np.ndarray) -> np.ndarray:
    """(N, 4) boxes of `boxes_cxcywh`: the inverse of `to_centres`."""
    half = boxes_cxcywh[:, 2:] / 2
    return np.concatenate([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], axis=1)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression within one class.

    Args:
        boxes: (N, 4) boxes.
        scores: (N,) scores; equal scores keep their order.
        iou_threshold: a box that overlaps a kept one by more than this goes.
    Returns:
        (K,) int64 indices of the kept boxes, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    overlap = iou(boxes[order], boxes[order]) > iou_threshold
    alive = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~overlap[i, i + 1 :]
    return order[alive]
