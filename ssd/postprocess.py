"""From the two raw tensors of the network to boxes: softmax, decoding, suppression."""

import numpy as np

from ssd.anchors import decode
from ssd.boxes import clip, nms
from ssd.spec import SSDSpec

CANDIDATES = 400  # best boxes of a class that enter suppression, as in the paper


def postprocess(
    class_logits: np.ndarray,
    box_deltas: np.ndarray,
    anchors: np.ndarray,
    spec: SSDSpec,
    score_threshold: float | np.ndarray = 0.01,
    iou_threshold: float = 0.45,
    max_detections: int = 200,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn the raw output for one picture into boxes: softmax, decoding, suppression a class.

    Args:
        class_logits: (A, C + 1), column 0 background.
        box_deltas: (A, 4).
        anchors: (A, 4) boxes of the spec.
        spec: for its variances.
        score_threshold: a score must exceed this, or (C,) one a class; the defaults are the paper's.
        iou_threshold: of the suppression.
        max_detections: of all classes together.
    Returns:
        (N, 4) boxes cut to the image, (N,) int64 labels, (N,) float32 scores, best first.
    Source: Liu et al. 2016, arXiv:1512.02325, section 3; weiliu89/caffe, detection_output_layer.cpp.
    """
    limits = np.broadcast_to(np.float32(score_threshold), class_logits.shape[1] - 1)
    rows = _promising(class_logits, float(limits.min()))
    scores = softmax(class_logits[rows])[:, 1:]
    found = [np.empty((0, 4), np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for label, limit in enumerate(limits):
        chosen = np.flatnonzero(scores[:, label] > limit)
        if len(chosen) == 0:
            continue
        order = np.argsort(-scores[chosen, label], kind="stable")
        chosen = chosen[order[:CANDIDATES]]
        boxes = clip(decode(box_deltas[rows[chosen]], anchors[rows[chosen]], spec.variances))
        kept = nms(boxes, scores[chosen, label], iou_threshold)
        kept = kept[(boxes[kept, 2:] > boxes[kept, :2]).all(1)]
        parts = boxes[kept], np.full(len(kept), label), scores[chosen[kept], label]
        for values, part in zip(found, parts, strict=True):
            values.append(part)
    return _best(*(np.concatenate(values) for values in found), max_detections)


def choose(
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    score_threshold: float | np.ndarray,
    max_detections: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes that `postprocess` gives with higher scores and fewer detections, from those of lower limits.

    A box that falls below a threshold had suppressed none that stay, so what remains is the same.

    Args:
        boxes, labels, scores: as `postprocess` gives them, any order of classes.
        score_threshold, max_detections: as there, no laxer than what made the boxes.
    """
    limit = np.float32(score_threshold)
    passing = scores > (limit if limit.ndim == 0 else limit[labels])
    passing &= (boxes[:, 2:] > boxes[:, :2]).all(1)
    return _best(boxes[passing], labels[passing], scores[passing], max_detections)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _promising(class_logits: np.ndarray, threshold: float) -> np.ndarray:
    """Anchors of which some class may have a score above the threshold, without the cost of a softmax.

    A score is at most what it would be were there only its class and background.
    """
    if not 0 < threshold < 1:
        return np.arange(len(class_logits))
    columns = class_logits.T  # one after another: a maximum over the last axis is 15 times as slow
    best = columns[1].copy()
    for column in columns[2:]:
        np.maximum(best, column, out=best)
    odds = np.log(threshold / (1 - threshold)) - 1e-3  # rounding must lose none
    return np.flatnonzero(best > columns[0] + np.float32(odds))


def _best(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, count: int) -> tuple:
    order = np.argsort(-scores, kind="stable")[:count]
    return boxes[order], labels[order], scores[order]
