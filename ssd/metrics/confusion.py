"""The confusion matrix at an operating point: what each true box was called, and each box found."""

import numpy as np

from ssd.metrics.pairs import find_pairs
from ssd.metrics.tables import Found, Truth


def confusion_matrix(truth: Truth, found: Found, iou_threshold: float) -> np.ndarray:
    """Count true classes against found ones, whatever the class, box by box.

    In each image, best score first, a detection takes the free true box of any class that it overlaps
    most, if enough. A detection that takes a difficult box counts not at all, and nor does a difficult
    box.

    Args:
        truth: the true boxes.
        found: the detections that pass the operating point.
        iou_threshold: least overlap of the two.
    Returns:
        (C + 1, C + 1) int64, row true class, column found class; the last row is background where
        something was found, the last column true boxes that nothing found.
    """
    classes = len(truth.class_names)
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    pairs = find_pairs(truth, found, iou_threshold - 1e-6, any_class=True)
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.found, -found.scores[pairs.found]))
    taken, done = np.zeros(len(truth), dtype=bool), np.zeros(len(found), dtype=bool)
    for f, t in zip(pairs.found[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if done[f] or taken[t]:
            continue
        done[f] = taken[t] = True
        if not truth.difficult[t]:
            matrix[truth.labels[t], found.labels[f]] += 1
    np.add.at(matrix, (classes, found.labels[~done]), 1)
    np.add.at(matrix, (truth.labels[~taken & ~truth.difficult], classes), 1)
    return matrix
