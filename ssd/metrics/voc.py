"""PASCAL VOC average precision, by the rules of the devkit.

A detection is held against the true box of its class and image that it overlaps most, and only
that one. Overlap is taken in inclusive pixels, which the box convention of `ssd.boxes` equals. A
box that is taken already makes a false positive; a difficult one counts neither way. Equal scores
keep their order: images as listed, detections as given.
Source: Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge", section 4.2;
VOCdevkit, VOCevaldet.m.
"""

from collections.abc import Sequence

import numpy as np

from ssd.boxes import iou, to_pixels
from ssd.records import Detections, Sample


def evaluate_voc(
    samples: Sequence[Sample],
    detections: Sequence[Detections],
    class_names: tuple[str, ...],
    iou_threshold: float = 0.5,
) -> dict:
    """Average precision of every class, by both rules of VOC.

    Args:
        samples: the truth, one an image.
        detections: what was found, in the same order; labels index `class_names` in both.
        class_names: the classes to score.
        iou_threshold: a hit overlaps its true box at least this much, in (0, 1].
    Returns:
        {"voc07": {"mAP", "AP": {class: value}}, "voc10": the same}, fractions of 1. A class
        without a true box has None and stays out of the mean; so does an mAP of no class.
    Raises:
        ValueError: the two sequences differ in length.
    """
    if len(samples) != len(detections):
        raise ValueError(
            f"there must be detections for every image. Received: {len(detections)} for {len(samples)}"
        )
    curves = [
        precision_recall(samples, detections, label, iou_threshold) for label in range(len(class_names))
    ]
    rules = {"voc07": average_precision_07, "voc10": average_precision_10}
    return {name: _table(curves, class_names, rule) for name, rule in rules.items()}


def precision_recall(
    samples: Sequence[Sample], detections: Sequence[Detections], label: int, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision and recall after each counted detection of a class, best score first.

    Returns:
        (K,) precision and (K,) recall; None if no true box that is not difficult exists.
    """
    truths = sum(int((~s.difficult[s.labels == label]).sum()) for s in samples)
    if truths == 0:
        return None
    scores, hits = [np.empty(0)], [np.empty(0, np.int8)]
    for sample, found in zip(samples, detections, strict=True):
        mine = np.flatnonzero(found.labels == label)
        if len(mine) == 0:
            continue
        mine = mine[np.argsort(-found.scores[mine], kind="stable")]
        scores.append(found.scores[mine])
        hits.append(_judge(sample, found.boxes_px[mine], label, iou_threshold))
    scores, hits = np.concatenate(scores), np.concatenate(hits)
    hits = hits[np.argsort(-scores, kind="stable")]
    hits = hits[hits != IGNORED]
    true_positives = np.cumsum(hits)
    return true_positives / np.arange(1, len(hits) + 1), true_positives / truths


def count_faults(
    sample: Sample, detections: Detections, score_threshold: float = 0.5, iou_threshold: float = 0.5
) -> tuple[int, int]:
    """True boxes that are missed, and false boxes, in one image.

    Args:
        sample: the truth; difficult boxes count neither way.
        detections: what was found.
        score_threshold: detections below it count as not found.
        iou_threshold: least overlap of a hit.
    """
    found = detections[detections.scores >= score_threshold]
    missed = false = 0
    for label in np.union1d(sample.labels, found.labels):
        mine = found.boxes_px[found.labels == label][np.argsort(-found.scores[found.labels == label])]
        verdict = _judge(sample, mine, label, iou_threshold)
        missed += int((~sample.difficult[sample.labels == label]).sum() - (verdict == 1).sum())
        false += int((verdict == 0).sum())
    return missed, false


def average_precision_07(precision: np.ndarray, recall: np.ndarray) -> float:
    """The mean of the best precision at recall 0, 0.1, ... 1 or beyond (VOC2007, 11 points)."""
    # These floats, 0.30000000000000004 among them, and a bare >= are what published numbers were
    # made with: a recall of exactly 3/10 does not reach the level 0.3 there, nor here.
    best = [precision[recall >= level].max(initial=0.0) for level in np.linspace(0, 1, 11)]
    return float(np.mean(best))


def average_precision_10(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area under precision made falling from right to left (VOC2010 and later)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * envelope))


IGNORED = -1  # a detection that hits a difficult box: neither true nor false


def _judge(sample: Sample, boxes_px: np.ndarray, label: int, iou_threshold: float) -> np.ndarray:
    """(K,) int8, one a box in falling score: 1 hit, 0 false, IGNORED."""
    mine = sample.labels == label
    difficult = sample.difficult[mine]
    verdict = np.zeros(len(boxes_px), dtype=np.int8)
    if not mine.any():
        return verdict
    truth_px = to_pixels(sample.boxes[mine], sample.height, sample.width).astype(np.float64)
    overlaps = iou(boxes_px.astype(np.float64), truth_px)
    best = overlaps.argmax(1)
    # Boxes pass through [0, 1] in float32: an overlap of exactly the threshold must survive that.
    near = overlaps[np.arange(len(boxes_px)), best] >= iou_threshold - 1e-6
    taken = np.zeros(len(difficult), dtype=bool)
    for i in np.flatnonzero(near):
        if difficult[best[i]]:
            verdict[i] = IGNORED
        elif not taken[best[i]]:
            verdict[i], taken[best[i]] = 1, True
    return verdict


def _table(curves: list, class_names: tuple[str, ...], rule) -> dict:
    values = [None if curve is None else rule(*curve) for curve in curves]
    known = [v for v in values if v is not None]
    mean = float(np.mean(known)) if known else None
    return {"mAP": mean, "AP": dict(zip(class_names, values, strict=True))}
