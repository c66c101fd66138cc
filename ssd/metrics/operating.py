"""The operating point: a score threshold a class that keeps precision at a target.

A threshold is the lowest score at which the detections with that score or more are right as often as
the target asks, on the photos that it is chosen on. On those it looks too good; its precision is
therefore also measured on photos that it was not chosen on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.metrics.voc import HIT, IGNORED, Ranking

FOLDS = 5
SEED = 0
Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True)
class Point:
    """The threshold of one class."""

    threshold: float | None  # None: no threshold reaches the target
    precision: float | None  # on the photos it was chosen on; None where there is no threshold
    recall: float | None
    held_out: "Share"  # on photos it was not chosen on


@dataclass(frozen=True)
class Share:
    """Hits among detections, with the 95 % interval of Wilson."""

    hits: int
    count: int

    @property
    def value(self) -> float | None:
        """None where there is no detection."""
        return self.hits / self.count if self.count else None

    @property
    def interval(self) -> list[float] | None:
        """Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"."""
        if not self.count:
            return None
        n, p = self.count, self.hits / self.count
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return [max(0.0, middle - half), min(1.0, middle + half)]

    def __add__(self, other: "Share") -> "Share":
        return Share(self.hits + other.hits, self.count + other.count)

    def as_dict(self) -> dict:
        """For JSON."""
        return {"precision": self.value, "interval": self.interval, "hits": self.hits, "count": self.count}


def operating_points(
    rankings: Sequence[Ranking], target: float, least: float = 0.0, folds: int = FOLDS, seed: int = SEED
) -> list[Point]:
    """The threshold of every class, and its precision on photos that it was not chosen on.

    For the latter the photos are dealt into folds; each is judged by thresholds chosen on the others,
    and the counts are added.

    Args:
        rankings: of `rank_voc`.
        target: precision to reach, in (0, 1].
        least: no threshold is below it: photos of other kinds than these may need more.
        folds: how many, at least 2.
        seed: of the dealing.
    """
    images = len(rankings[0].truths) if rankings else 0
    fold = np.random.default_rng(seed).permutation(np.arange(images) % folds)
    points = []
    for ranking in rankings:
        kept = ranking.verdict != IGNORED
        scores, hits = ranking.scores[kept], ranking.verdict[kept] == HIT
        where = fold[ranking.image[kept]]
        held_out = Share(0, 0)
        for k in range(folds):
            limit = choose_threshold(scores[where != k], hits[where != k], target, least)
            if limit is not None:
                passed = hits[(where == k) & (scores >= limit)]
                held_out += Share(int(passed.sum()), len(passed))
        limit = choose_threshold(scores, hits, target, least)
        passed = hits[scores >= limit] if limit is not None else np.empty(0, bool)
        truths = int(ranking.truths.sum())
        precision = float(passed.mean()) if len(passed) else None
        recall = float(passed.sum() / truths) if truths and limit is not None else None
        points.append(Point(limit, precision, recall, held_out))
    return points


def choose_threshold(scores: np.ndarray, hits: np.ndarray, target: float, least: float = 0.0) -> float | None:
    """The lowest score, `least` or more, at which precision is the target or more; None if there is none.

    Args:
        scores: (K,) falling.
        hits: (K,) bool.
    """
    if len(scores) == 0:
        return None
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    # Equal scores pass together: only the last of them is a place to cut.
    last = np.append(np.diff(scores) != 0, True)
    good = np.flatnonzero(last & (precision >= target) & (scores >= least))
    return float(scores[good[-1]]) if len(good) else None
