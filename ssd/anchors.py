"""Anchors (the paper's default boxes, Caffe's priors), matching, and the encoding of boxes.

`encode` and `decode` are inverse on every anchor. Background exists only from here to the loss:
target class 0, column 0 of the class logits; label k of `class_names` is target class k + 1.
"""

import numpy as np

from ssd.boxes import as_boxes, check_boxes, iou, to_centres, to_corners
from ssd.spec import FeatureMap, SSDSpec


def make_anchors(spec: SSDSpec) -> np.ndarray:
    """Build the anchors of a spec in Caffe's order.

    The order is: feature map, row, column, then small square, second square, and for each ratio r
    the box of ratio r and the one of ratio 1/r.

    Returns:
        (A, 4) float32 boxes; unless `spec.clip` is "corners", some reach beyond [0, 1].
    Source: weiliu89/caffe, src/caffe/layers/prior_box_layer.cpp; "centres" as ssd.pytorch and "sides"
    as torchvision clip.
    """
    centres = np.concatenate([_map_anchors(m, spec.image_size) for m in spec.feature_maps])
    if spec.clip in ("centres", "sides"):
        first = 0 if spec.clip == "centres" else 2
        centres[:, first:] = np.clip(centres[:, first:], 0, 1)
    anchors = to_corners(centres)
    anchors = np.clip(anchors, 0, 1) if spec.clip == "corners" else anchors
    return anchors.astype(np.float32)


def match(anchors: np.ndarray, boxes: np.ndarray, iou_threshold: float = 0.5) -> np.ndarray:
    """Assign each anchor the ground-truth box it must learn.

    Every box first gets an anchor of its own, best pair first, even below the threshold; then
    every other anchor takes the box it overlaps most, if by more than the threshold.

    Args:
        anchors: (A, 4) boxes.
        boxes: (N, 4) boxes; N may be 0.
        iou_threshold: IoU in [0, 1] that a further match must exceed.
    Returns:
        (A,) int64 index into `boxes`, -1 where background.
    Raises:
        ValueError: a box has no area.
    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2 "Matching strategy"; bipartite step as
    in Caffe's bbox_util.cpp, MatchBBox.
    """
    boxes = as_boxes(boxes)
    check_boxes(boxes)
    matched = np.full(len(anchors), -1, dtype=np.int64)
    if len(boxes) == 0:
        return matched
    overlaps = iou(boxes, anchors)
    best = overlaps.argmax(0)
    above = overlaps[best, np.arange(len(anchors))] > iou_threshold
    matched[above] = best[above]
    for box, anchor in _bipartite(overlaps):
        matched[anchor] = box
    return matched


def encode(boxes: np.ndarray, anchors: np.ndarray, variances: tuple) -> np.ndarray:
    """Box deltas of boxes relative to anchors: the inverse of `decode`.

    Args:
        boxes: (A, 4) boxes of positive area, one an anchor.
        anchors: (A, 4) boxes.
        variances: four divisors for centre x, centre y, width, height.
    Returns:
        (A, 4) float32 box_deltas (dx, dy, dw, dh).
    """
    target, anchor = to_centres(boxes), to_centres(anchors)
    offset = (target[:, :2] - anchor[:, :2]) / anchor[:, 2:]
    scale = np.log(target[:, 2:] / anchor[:, 2:])
    return (np.concatenate([offset, scale], axis=1) / np.float32(variances)).astype(np.float32)


def decode(box_deltas: np.ndarray, anchors: np.ndarray, variances: tuple) -> np.ndarray:
    """Boxes of box deltas relative to anchors: the inverse of `encode`.

    x is scaled by the anchor's width and y by its height (known ports take the width for both).

    Returns:
        (A, 4) float32 boxes, not clipped.
    """
    deltas, anchor = box_deltas * np.float32(variances), to_centres(anchors)
    centre = anchor[:, :2] + deltas[:, :2] * anchor[:, 2:]
    sides = anchor[:, 2:] * np.exp(deltas[:, 2:])
    return to_corners(np.concatenate([centre, sides], axis=1)).astype(np.float32)


def encode_targets(
    spec: SSDSpec, anchors: np.ndarray, boxes: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the truth of one image into what each anchor must answer.

    Args:
        anchors: (A, 4) boxes of `make_anchors(spec)`.
        boxes: (N, 4) boxes; N may be 0.
        labels: (N,) int labels, 0 is the first class.
    Returns:
        (A,) int32 target classes, 0 where background, and (A, 4) float32 box_deltas, 0 there.
    """
    matched = match(anchors, boxes)
    positive = matched >= 0
    classes = np.zeros(len(anchors), dtype=np.int32)
    box_deltas = np.zeros((len(anchors), 4), dtype=np.float32)
    if positive.any():
        chosen = matched[positive]
        classes[positive] = np.asarray(labels, dtype=np.int32)[chosen] + 1
        box_deltas[positive] = encode(boxes[chosen], anchors[positive], spec.variances)
    return classes, box_deltas


def _map_anchors(feature_map: FeatureMap, image_size: int) -> np.ndarray:
    """(size * size * k, 4) `boxes_cxcywh` of one feature map, float64."""
    small, large = feature_map.min_size, feature_map.max_size
    shapes = [(small, small)]
    if large is not None:
        shapes.append((np.sqrt(small * large),) * 2)
    for ratio in feature_map.aspect_ratios:
        root = np.sqrt(ratio)
        shapes += [(small * root, small / root), (small / root, small * root)]
    line = (np.arange(feature_map.size) + 0.5) * feature_map.step
    y, x = np.meshgrid(line, line, indexing="ij")
    centres = np.stack([x, y], axis=-1).reshape(-1, 1, 2).repeat(len(shapes), axis=1)
    sides = np.broadcast_to(np.array(shapes), centres.shape)
    return np.concatenate([centres, sides], axis=-1).reshape(-1, 4) / image_size


def _bipartite(overlaps: np.ndarray) -> list[tuple[int, int]]:
    """(box, anchor) pairs, the highest overlap first; each box and each anchor at most once."""
    left, pairs = overlaps.copy(), []
    for _ in range(len(left)):
        box, anchor = np.unravel_index(left.argmax(), left.shape)
        if left[box, anchor] <= 0:
            break
        pairs.append((int(box), int(anchor)))
        left[box], left[:, anchor] = -1, -1
    return pairs
