"""PASCAL VOC average precision, by the rules of the devkit.

A detection is held against the true box of its class and image that it overlaps most, and only
that one. Overlap is taken in inclusive pixels, which the box convention of `ssd.boxes` equals. A
box that is taken already makes a false positive; a difficult one counts neither way. An overlap of
exactly the threshold is a hit. Equal scores keep their order, as the detections are given.
Source: Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge", section 4.2;
VOCdevkit, VOCevaldet.m.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.metrics.pairs import find_pairs
from ssd.metrics.tables import Found, Truth, found_of_detections, truth_of_samples
from ssd.records import Detections, Sample

IGNORED = -1  # a detection that hits a difficult box: neither true nor false
HIT = 1


@dataclass(frozen=True)
class Ranking:
    """The detections of one class, best score first, each with its verdict."""

    found: np.ndarray  # (K,) int64, which detection
    image: np.ndarray  # (K,) int64
    scores: np.ndarray  # (K,) float64
    verdict: np.ndarray  # (K,) int8: HIT, 0 false, IGNORED
    held: np.ndarray  # (K,) int64: the true box that it was held against, or -1
    truths: np.ndarray  # (I,) int64 true boxes that are not difficult, an image


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
    truth = truth_of_samples(samples, class_names)
    return score_voc(rank_voc(truth, found_of_detections(detections), iou_threshold), class_names)


def score_voc(rankings: Sequence[Ranking], class_names: tuple[str, ...]) -> dict:
    """The result of `evaluate_voc` from the rankings of all classes."""
    curves = [precision_recall(ranking) for ranking in rankings]
    rules = {"voc07": average_precision_07, "voc10": average_precision_10}
    return {name: _table(curves, class_names, rule) for name, rule in rules.items()}


def rank_voc(truth: Truth, found: Found, iou_threshold: float = 0.5) -> list[Ranking]:
    """The verdict on every detection, class by class.

    Args:
        truth: the true boxes.
        found: the detections on the same images.
        iou_threshold: least overlap of a hit, in (0, 1].
    """
    order = np.lexsort((-found.scores, found.labels))
    verdict, held = judge_voc(truth, found[order], iou_threshold)
    ends = np.searchsorted(found.labels[order], np.arange(len(truth.class_names) + 1))
    rankings = []
    for label in range(len(truth.class_names)):
        part = slice(ends[label], ends[label + 1])
        mine = order[part]
        truths = truth.image[(truth.labels == label) & ~truth.difficult]
        counts = np.bincount(truths, minlength=len(truth.image_ids))
        columns = mine, found.image[mine], found.scores[mine], verdict[part], held[part]
        rankings.append(Ranking(*columns, counts))
    return rankings


def judge_voc(truth: Truth, found: Found, iou_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The verdict on detections that stand best score first within each class.

    Returns:
        (K,) int8 HIT, 0 or IGNORED; (K,) int64 the true box that it was held against, -1 where it
        overlaps none enough.
    """
    # Boxes pass through [0, 1] in float32: an overlap of exactly the threshold must survive that.
    pairs = find_pairs(truth, found, iou_threshold - 1e-6)
    # Best overlap of each detection; among equal ones the first true box.
    pairs = pairs[np.lexsort((pairs.truth, -pairs.iou, pairs.found))]
    pairs = pairs[np.flatnonzero(np.diff(pairs.found, prepend=-1))]
    held = np.full(len(found), -1, dtype=np.int64)
    held[pairs.found] = pairs.truth
    verdict = np.zeros(len(found), dtype=np.int8)
    hard = truth.difficult[pairs.truth]
    verdict[pairs.found[hard]] = IGNORED
    # Of all detections held against one box, the first is the hit.
    plain = pairs[~hard]
    verdict[plain.found[np.unique(plain.truth, return_index=True)[1]]] = HIT
    return verdict, held


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
    truth = truth_of_samples([sample], detections.class_names)
    found = found_of_detections([detections[detections.scores >= score_threshold]])
    verdict = judge_voc(truth, found[np.argsort(-found.scores, kind="stable")], iou_threshold)[0]
    return int((~truth.difficult).sum() - (verdict == HIT).sum()), int((verdict == 0).sum())


def precision_recall(ranking: Ranking) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision and recall after each counted detection of a class, best score first.

    Returns:
        (K,) precision and (K,) recall; None if no true box that is not difficult exists.
    """
    truths = int(ranking.truths.sum())
    if truths == 0:
        return None
    hits = ranking.verdict[ranking.verdict != IGNORED]
    true_positives = np.cumsum(hits, dtype=np.int64)
    return true_positives / np.arange(1, len(hits) + 1), true_positives / truths


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


def _table(curves: list, class_names: tuple[str, ...], rule) -> dict:
    values = [None if curve is None else rule(*curve) for curve in curves]
    known = [v for v in values if v is not None]
    mean = float(np.mean(known)) if known else None
    return {"mAP": mean, "AP": dict(zip(class_names, values, strict=True))}
