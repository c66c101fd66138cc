"""The ceiling of the anchors: how many boxes they can meet at all, before any training.

A box whose best anchor stays below IoU 0.5 has one anchor at most to learn from, the one that the bipartite
step gives it. Sizes are measured in the network's square, so COCO's 32 and 96 pixels apply to what the
network sees.
"""

from dataclasses import dataclass

import numpy as np

from ssd.anchors import make_anchors, match
from ssd.boxes import area, iou
from ssd.records import Sample
from ssd.spec import SSDSpec

IOU = 0.5
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}  # COCO's, pixels


@dataclass(frozen=True)
class Ceiling:
    """What the anchors of a spec can reach on some boxes.

    Args:
        boxes: how many.
        ceiling: share whose best anchor reaches IoU 0.5; None without boxes.
        bipartite: share that only the bipartite step gives an anchor.
        anchors_per_box: matched anchors a box.
        by_class: ceiling of each class; by_size: of each size in the network's square.
    """

    boxes: int
    ceiling: float | None
    bipartite: float | None
    anchors_per_box: float | None
    by_class: dict[str, float | None]
    by_size: dict[str, float | None]


def measure_ceiling(samples: list[Sample], spec: SSDSpec, class_names: tuple[str, ...]) -> Ceiling:
    """Match the anchors with all boxes but difficult ones, as training does without augmentation.

    Args:
        samples: labelled images.
        spec: decides the anchors.
        class_names: labels index this.
    """
    anchors, best, own, matched, labels = make_anchors(spec), [], [], [], []
    for sample in samples:
        boxes = sample.boxes[~sample.difficult]
        if len(boxes) == 0:
            continue
        overlaps = iou(boxes, anchors)
        best.append(overlaps.max(1))
        above = overlaps.max(0) > IOU
        own.append(np.bincount(overlaps.argmax(0)[above], minlength=len(boxes)))
        found = match(anchors, boxes)
        matched.append(np.bincount(found[found >= 0], minlength=len(boxes)))
        labels.append(sample.labels[~sample.difficult])
    if not best:
        return Ceiling(0, None, None, None, dict.fromkeys(class_names), dict.fromkeys(SIZES))
    reached, label = np.concatenate(best) >= IOU, np.concatenate(labels)
    sides = counted_boxes(samples)
    pixels = area(sides) * spec.image_size**2
    return Ceiling(
        boxes=len(reached),
        ceiling=_share(reached),
        bipartite=_share(np.concatenate(own) == 0),
        anchors_per_box=round(float(np.concatenate(matched).mean()), 2),
        by_class={name: _share(reached[label == i]) for i, name in enumerate(class_names)},
        by_size={
            name: _share(reached[(pixels >= low) & (pixels < high)]) for name, (low, high) in SIZES.items()
        },
    )


def counted_boxes(samples: list[Sample]) -> np.ndarray:
    """(N, 4) boxes of all samples, without difficult ones."""
    rows = [sample.boxes[~sample.difficult] for sample in samples]
    return np.concatenate(rows) if rows else np.zeros((0, 4), np.float32)


def _share(mask: np.ndarray) -> float | None:
    return round(float(mask.mean()), 4) if len(mask) else None
