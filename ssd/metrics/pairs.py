"""Which detection overlaps which true box: pairs in the same image, as flat arrays."""

from dataclasses import dataclass

import numpy as np

from ssd.metrics.tables import Found, Truth

CHUNK = 2_000_000  # pairs looked at together; bounds the memory


@dataclass(frozen=True)
class Pairs:
    """P pairs, by detection, then by true box."""

    found: np.ndarray  # (P,) int64, index of the detection
    truth: np.ndarray  # (P,) int64, index of the true box
    iou: np.ndarray  # (P,) float64

    def __getitem__(self, index: np.ndarray) -> "Pairs":
        return Pairs(self.found[index], self.truth[index], self.iou[index])


def find_pairs(
    truth: Truth, found: Found, least_iou: float, *, any_class: bool = False, crowd: bool = False
) -> Pairs:
    """All pairs in one image that overlap by at least `least_iou`, more than 0.

    Args:
        truth, found: the columns.
        least_iou: of a pair.
        any_class: also pairs of different classes.
        crowd: a crowd box is overlapped by the share of the detection that lies in it, as COCO has it.
    """
    classes = 1 if any_class else len(truth.class_names)
    keys = truth.image * classes + (0 if any_class else truth.labels)
    wanted = found.image * classes + (0 if any_class else found.labels)
    order = np.argsort(keys, kind="stable")
    first = np.searchsorted(keys[order], wanted, "left")
    counts = np.searchsorted(keys[order], wanted, "right") - first
    parts = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    occupied = np.flatnonzero(counts)
    for some in _chunks(occupied, counts[occupied]):
        rows = np.repeat(some, counts[some])
        places = np.arange(len(rows)) - np.repeat(np.cumsum(counts[some]) - counts[some], counts[some])
        pairs = Pairs(rows, order[first[rows] + places], np.empty(0))
        overlap = _overlap(truth, found, pairs, crowd)
        near = (overlap >= least_iou) & (overlap > 0)
        parts.append(Pairs(pairs.found[near], pairs.truth[near], overlap[near]))
    return Pairs(*(np.concatenate([getattr(p, key) for p in parts]) for key in ("found", "truth", "iou")))


def _chunks(rows: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.split(rows, np.searchsorted(ends, np.arange(CHUNK, total, CHUNK))) if total else []


def _overlap(truth: Truth, found: Found, pairs: Pairs, crowd: bool) -> np.ndarray:
    # One array a coordinate, in the operations and the order of pycocotools' maskApi.c (bbIou).
    ours, theirs = found.boxes_px[pairs.found].T, truth.boxes_px[pairs.truth].T
    width = np.minimum(ours[2], theirs[2]) - np.maximum(ours[0], theirs[0])
    height = np.minimum(ours[3], theirs[3]) - np.maximum(ours[1], theirs[1])
    shared = np.where((width > 0) & (height > 0), width * height, 0)
    area = found.sides_px.prod(1)[pairs.found]
    union = area + truth.sides_px.prod(1)[pairs.truth] - shared
    union = np.where(truth.crowd[pairs.truth], area, union) if crowd else union
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
