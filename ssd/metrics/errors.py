"""Where average precision is lost: six kinds of error, and what each costs.

Every false detection is of one kind, the first that fits: localisation (overlaps a true box of its
class, but too little), classification (overlaps one of another class enough), duplicate (overlaps one
of its class that a better detection has), background (overlaps nothing), both (overlaps one of another
class too little). A true box is missed if nothing hits it and no error of the first two kinds lies on
it. The cost of a kind is the gain in VOC2010+ mAP when it alone is repaired.
Source: Bolya et al. 2020, "TIDE", arXiv:2008.08115, section 2; order and repair as in dbolya/tide,
quantify.py and errors/main_errors.py. That program matches as COCO does, this one as VOC does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.metrics.pairs import Pairs, find_pairs
from ssd.metrics.tables import Found, Truth
from ssd.metrics.voc import HIT, Ranking, average_precision_10, precision_recall

KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
BACKGROUND_IOU = 0.1  # below it a detection overlaps nothing


@dataclass(frozen=True)
class Errors:
    """The error of every detection, and what repairing each kind would bring."""

    kind: np.ndarray  # (K,) int8, index into KINDS, -1 where a detection is no error
    target: np.ndarray  # (K,) int64 true box that a repaired detection would hit, or -1
    missed: np.ndarray  # (N,) bool
    mean: float | None  # VOC2010+ mAP as it is
    gain: dict[str, float]  # kind -> mAP repaired minus mAP

    def counts(self) -> dict[str, int]:
        """How many of each kind there are."""
        found = {name: int((self.kind == i).sum()) for i, name in enumerate(KINDS[:-1])}
        return found | {"missed": int(self.missed.sum())}

    def rows(self) -> list[dict]:
        """A row a kind: count, gain, and its share of all that is lost (1 minus mAP)."""
        lost = 1 - (self.mean or 0)
        return [
            {
                "kind": name,
                "count": count,
                "gain": self.gain[name],
                "share": self.gain[name] / lost if lost else 0.0,
            }
            for name, count in self.counts().items()
        ]


def find_errors(truth: Truth, found: Found, rankings: Sequence[Ranking], iou_threshold: float) -> Errors:
    """Name the error of every detection and measure each kind.

    Args:
        truth, found: the columns.
        rankings: of `rank_voc` at the same threshold.
        iou_threshold: least overlap of a hit.
    """
    false, hit = _outcome(truth, rankings, len(found))
    pairs = find_pairs(truth, found, min(BACKGROUND_IOU, iou_threshold), any_class=True)
    pairs = pairs[~truth.difficult[pairs.truth]]
    own = truth.labels[pairs.truth] == found.labels[pairs.found]
    (own_iou, own_box), (other_iou, other_box) = (_best(pairs[m], len(found)) for m in (own, ~own))
    enough = iou_threshold - 1e-6
    tests = (
        (own_iou >= BACKGROUND_IOU) & (own_iou < enough),
        other_iou >= enough,
        own_iou >= enough,
        np.maximum(own_iou, other_iou) < BACKGROUND_IOU,
        np.ones(len(found), dtype=bool),
    )
    kind = np.where(false, np.select(tests, range(len(tests))), -1).astype(np.int8)
    target = np.select([kind == 0, kind == 1], [own_box, other_box], -1)
    missed = ~truth.difficult & ~hit
    missed[target[target >= 0]] = False
    repair = _Repair(truth, found, rankings, (kind, target, missed, hit))
    mean = repair.mean(None)
    gain = {name: (repair.mean(i) or 0.0) - (mean or 0.0) for i, name in enumerate(KINDS)}
    return Errors(kind, target, missed, mean, gain)


def _outcome(truth: Truth, rankings: Sequence[Ranking], count: int) -> tuple[np.ndarray, np.ndarray]:
    """(K,) bool, which detections are false; (N,) bool, which true boxes are hit."""
    false, hit = np.zeros(count, dtype=bool), np.zeros(len(truth), dtype=bool)
    for ranking in rankings:
        false[ranking.found[ranking.verdict == 0]] = True
        hit[ranking.held[ranking.verdict == HIT]] = True
    return false, hit


class _Repair:
    """mAP when one kind of error is repaired."""

    def __init__(self, truth: Truth, found: Found, rankings: Sequence[Ranking], errors: tuple) -> None:
        self._truth, self._rankings = truth, rankings
        self._kind, self._target, self._missed, self._hit = errors
        self._labels, self._scores = found.labels, found.scores
        self._verdict = np.zeros(len(found), dtype=np.int8)
        for ranking in rankings:
            self._verdict[ranking.found] = ranking.verdict

    def mean(self, kind: int | None) -> float | None:
        """mAP with errors of that kind repaired; None repairs nothing."""
        labels, verdict = self._labels, self._verdict
        keep, wanted = np.ones(len(labels), dtype=bool), ~self._truth.difficult
        if kind is not None and KINDS[kind] == "missed":
            wanted = wanted & ~self._missed
        elif kind is not None:
            mine = np.flatnonzero(self._kind == kind)
            keep[mine] = False
            if kind < 2:
                winners = self._winners(mine)
                labels, verdict = labels.copy(), verdict.copy()
                labels[winners] = self._truth.labels[self._target[winners]]
                keep[winners], verdict[winners] = True, HIT
        return self._score(labels[keep], self._scores[keep], verdict[keep], wanted)

    def _winners(self, mine: np.ndarray) -> np.ndarray:
        """Of the detections that would hit one free true box the best; a box that is hit has no use."""
        mine = mine[~self._hit[self._target[mine]]]
        mine = mine[np.argsort(-self._scores[mine], kind="stable")]
        return mine[np.unique(self._target[mine], return_index=True)[1]]

    def _score(
        self, labels: np.ndarray, scores: np.ndarray, verdict: np.ndarray, wanted: np.ndarray
    ) -> float | None:
        order = np.lexsort((-scores, labels))
        values = []
        for label in range(len(self._rankings)):
            mine = order[labels[order] == label]
            counts = np.array([(wanted & (self._truth.labels == label)).sum()])
            nothing = np.zeros(len(mine), dtype=np.int64)
            curve = precision_recall(Ranking(mine, nothing, scores[mine], verdict[mine], nothing, counts))
            if curve is not None:
                values.append(average_precision_10(*curve))
        return float(np.mean(values)) if values else None


def _best(pairs: Pairs, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(K,) greatest overlap, 0 where none; (K,) its true box, -1 where none."""
    pairs = pairs[np.lexsort((pairs.truth, -pairs.iou, pairs.found))]
    pairs = pairs[np.flatnonzero(np.diff(pairs.found, prepend=-1))]
    iou, box = np.zeros(count), np.full(count, -1, dtype=np.int64)
    iou[pairs.found], box[pairs.found] = pairs.iou, pairs.truth
    return iou, box
