"""COCO's twelve numbers for boxes: the values of pycocotools, computed for all images at once.

Best score first, a detection takes the free true box that it overlaps most, if the overlap reaches
the threshold; only where there is none may it take an ignored one (crowd, difficult, or of a size
that is not asked for), and then counts neither way. Of an image and class the best 100 detections
count. Numbers are means over ten thresholds from 0.5 to 0.95 and over the classes; average precision
is the mean of the best precision at 101 recalls.
Source: Lin et al. 2014, arXiv:1405.0312; cocodataset/cocoapi, cocoeval.py, which this equals digit
for digit as long as no box is difficult; that program does not know difficult boxes.
"""

from dataclasses import dataclass

import numpy as np

from ssd.metrics.pairs import Pairs, find_pairs
from ssd.metrics.tables import Found, Truth

THRESHOLDS = np.linspace(0.5, 0.95, 10)
LEVELS = np.linspace(0, 1, 101)  # of recall
# Square pixels of each size, both ends included.
SIZES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
MOST = (1, 10, 100)  # detections of an image and class
EPSILON = np.spacing(1)


@dataclass(frozen=True)
class CocoRanking:
    """The detections of one class, best score first.

    Those that overlap a true box by half or more are candidates; all others are false at every
    threshold, if their size is asked for.
    """

    image: np.ndarray  # (K,) int64
    place: np.ndarray  # (K,) int64: 0 the best of its image and class
    sized: np.ndarray  # (A, K) bool: whether its own size is of each of SIZES
    candidates: np.ndarray  # (P,) int64, rising index into the above
    hits: np.ndarray  # (A, T, P) bool
    ignored: np.ndarray  # (A, T, P) bool: took an ignored true box
    truths: np.ndarray  # (A, I) int64 true boxes that count, an image


def rank_coco(truth: Truth, found: Found) -> list[CocoRanking]:
    """What becomes of every detection at all thresholds and sizes, class by class."""
    rank = _image_order(truth.image_ids)[found.image]
    # By image and class, best score first; then the order of each class, which keeps equal scores so.
    order = np.lexsort((-found.scores, found.labels, rank))
    cell = rank[order] * len(truth.class_names) + found.labels[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    order, place = order[place < MOST[-1]], place[place < MOST[-1]]
    found = found[order]
    hits, ignored, candidates = _match(truth, found)
    ignore = _ignored_truth(truth)
    sized = _sized(found.sides_px.prod(1))
    by_class = np.lexsort((-found.scores, found.labels))
    ends = np.searchsorted(found.labels[by_class], np.arange(len(truth.class_names) + 1))
    number = np.full(len(found), -1)
    number[candidates] = np.arange(len(candidates))
    rankings = []
    for label in range(len(truth.class_names)):
        mine = by_class[ends[label] : ends[label + 1]]
        ours = np.flatnonzero(number[mine] >= 0)
        chosen = number[mine[ours]]
        truths = [_counts(truth, (truth.labels == label) & ~row) for row in ignore]
        rankings.append(
            CocoRanking(
                found.image[mine],
                place[mine],
                sized[:, mine],
                ours,
                hits[:, :, chosen],
                ignored[:, :, chosen],
                np.stack(truths),
            )
        )
    return rankings


def score_coco(rankings: list[CocoRanking]) -> dict[str, float | None]:
    """The twelve numbers, AP to ARl, as fractions of 1; None where no true box is of the size."""
    precision, recall = coco_curves(rankings)
    sizes = {"": 0, "s": 1, "m": 2, "l": 3}
    scores = {"AP": _mean(precision[..., 0])}
    scores |= {"AP50": _mean(precision[:1, ..., 0]), "AP75": _mean(precision[5:6, ..., 0])}
    scores |= {f"AP{key}": _mean(precision[..., a]) for key, a in sizes.items() if key}
    scores |= {f"AR{most}": _mean(recall[..., 0, m]) for m, most in enumerate(MOST)}
    return scores | {f"AR{key}": _mean(recall[..., a, -1]) for key, a in sizes.items() if key}


def coco_curves(rankings: list[CocoRanking]) -> tuple[np.ndarray, np.ndarray]:
    """Precision at each recall level, and the recall reached; -1 where a class has no true box.

    Returns:
        (T, 101, C, A) precision of 100 detections an image; (T, C, A, M) recall. A: SIZES, M: MOST.
    """
    steps, classes = len(THRESHOLDS), len(rankings)
    precision = -np.ones((steps, len(LEVELS), classes, len(SIZES)))
    recall = -np.ones((steps, classes, len(SIZES), len(MOST)))
    for c, ranking in enumerate(rankings):
        place = ranking.place[ranking.candidates]
        for a, truths in enumerate(ranking.truths.sum(1).tolist()):
            if truths:
                hits = ranking.hits[a]
                precision[:, :, c, a] = _precision(ranking, a, truths)
                recall[:, c, a] = np.stack([(hits & (place < m)).sum(1) for m in MOST], 1) / truths
    return precision, recall


def counted_before(ranking: CocoRanking, a: int) -> np.ndarray:
    """(P,) int64: detections before each candidate that are false at every threshold, for one size."""
    plain = ranking.sized[a].copy()
    plain[ranking.candidates] = False
    return np.cumsum(plain)[ranking.candidates]


def counted(ranking: CocoRanking, a: int) -> np.ndarray:
    """(T, P) bool: the candidates that are true or false, not ignored, for one size."""
    return ranking.hits[a] | (~ranking.ignored[a] & ranking.sized[a][ranking.candidates])


def _precision(ranking: CocoRanking, a: int, truths: int) -> np.ndarray:
    """(T, 101): precision can only be best at a hit, so candidates are all that need be looked at."""
    true = np.cumsum(ranking.hits[a], axis=1)
    both = counted_before(ranking, a) + np.cumsum(counted(ranking, a), axis=1)
    precision = true / (both + EPSILON)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    at_levels = np.zeros((len(THRESHOLDS), len(LEVELS)))
    for row, best, recall in zip(at_levels, envelope, true / truths, strict=True):
        places = np.searchsorted(recall, LEVELS, side="left")
        reached = places < len(recall)
        row[reached] = best[places[reached]]
    return at_levels


def _match(truth: Truth, found: Found) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Greedy matching of all images and classes side by side.

    Args:
        found: by image and class, best score first.
    Returns:
        (A, T, P) bool hits, the same of ignored matches, (P,) rising index of the candidates.
    """
    pairs = find_pairs(truth, found, THRESHOLDS[0], crowd=True)
    candidates, first = np.unique(pairs.found, return_index=True)
    cell = found.image[candidates] * len(truth.class_names) + found.labels[candidates]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    turn = np.arange(len(cell)) - np.repeat(starts, np.diff(starts, append=len(cell)))
    turn_of_pair = np.repeat(turn, np.diff(first, append=len(pairs.found)))
    # The n-th candidates of all cells take their boxes together; the last pair of each is its best.
    pairs = pairs[np.lexsort((pairs.truth, pairs.iou, pairs.found, turn_of_pair))]
    cuts = np.cumsum(np.bincount(turn_of_pair)) if len(candidates) else np.empty(0, int)
    taken = np.zeros((len(SIZES), len(THRESHOLDS), len(truth)), dtype=bool)
    shape = len(SIZES), len(THRESHOLDS), len(candidates)
    hits, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    ignore = _ignored_truth(truth)
    for begin, end in zip([0, *cuts], cuts, strict=False):
        part = pairs[begin:end]
        matched, spared = _take(part, truth.crowd, ignore, taken)
        who = np.searchsorted(candidates, np.unique(part.found))
        hits[:, :, who], ignored[:, :, who] = matched & ~spared, matched & spared
    return hits, ignored, candidates


def _take(
    pairs: Pairs, crowd: np.ndarray, ignore: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One turn: each detection takes its best free box, marked in `taken`.

    Returns:
        (A, T, D) bool: it took one; it took an ignored one.
    """
    starts = np.flatnonzero(np.diff(pairs.found, prepend=-1))
    lengths = np.diff(starts, append=len(pairs.found))
    # 1, 2, ... by rising overlap; boxes that count stand above all that are ignored.
    worth = np.arange(len(pairs.found)) - np.repeat(starts, lengths) + 1
    top = int(lengths.max()) + 1
    worth = worth + top * ~ignore[:, pairs.truth]
    reached = pairs.iou >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    free = reached & (~taken[:, :, pairs.truth] | crowd[pairs.truth])
    best = np.maximum.reduceat(np.where(free, worth[:, None], 0), starts, axis=2)
    matched, spared = best > 0, (best > 0) & (best < top)
    a, t, d = np.nonzero(matched)
    taken[a, t, pairs.truth[starts[d] + best[a, t, d] % top - 1]] = True
    return matched, spared


def _ignored_truth(truth: Truth) -> np.ndarray:
    return truth.difficult | truth.crowd | ~_sized(truth.area)


def _sized(area: np.ndarray) -> np.ndarray:
    """(A, N) bool: whether each area is of each of SIZES."""
    return np.stack([(area >= low) & (area <= high) for low, high in SIZES.values()])


def _counts(truth: Truth, mask: np.ndarray) -> np.ndarray:
    return np.bincount(truth.image[mask], minlength=len(truth.image_ids))


def _image_order(image_ids: tuple[str, ...]) -> np.ndarray:
    """(I,) int64 rank of each image: pycocotools sorts by number, which ranks equal scores."""
    if not all(i.isascii() and i.isdigit() for i in image_ids):
        return np.arange(len(image_ids))
    return np.argsort(np.argsort([int(i) for i in image_ids], kind="stable"))


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else None
