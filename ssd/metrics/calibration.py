"""Whether a score means what it says: of boxes with score 0.8, four of five should be hits.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.metrics.voc import HIT, IGNORED, Ranking

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Detections with scores in [low, high)."""

    low: float
    high: float
    count: int
    score: float  # mean; 0 where there are none
    precision: float  # share of hits; 0 where there are none


def calibrate(rankings: Sequence[Ranking], bins: int = BINS) -> tuple[list[Bin], float | None]:
    """The reliability curve of the detections of all classes, and the expected calibration error.

    The error is the mean distance of score and precision of the bins, each weighted by its detections;
    None if there are none. Scores outside [0, 1] go to the first and last bin.
    """
    kept = [(r.scores[r.verdict != IGNORED], r.verdict[r.verdict != IGNORED] == HIT) for r in rankings]
    scores = np.concatenate([np.empty(0), *(s for s, _ in kept)])
    hits = np.concatenate([np.empty(0, bool), *(h for _, h in kept)])
    which = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    means, shares = (np.bincount(which, weights, bins) / np.maximum(counts, 1) for weights in (scores, hits))
    rows = [
        Bin(i / bins, (i + 1) / bins, int(counts[i]), float(means[i]), float(shares[i])) for i in range(bins)
    ]
    error = float(np.sum(counts * np.abs(means - shares)) / len(scores)) if len(scores) else None
    return rows, error
