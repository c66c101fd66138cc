"""Counts of a data set: boxes a class, their sizes and shapes, objects an image."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ssd.boxes import area
from ssd.datasets.ceiling import SIZES
from ssd.records import Sample

QUANTILES = (0.05, 0.5, 0.95)
SIDE = 300  # pixels of the network's square, in which sizes are told


@dataclass(frozen=True)
class Stats:
    """Columns of all boxes of some samples, and one of all images.

    Args:
        class_names: labels index this.
        labels: (N,) int64.
        difficult: (N,) bool.
        sides: (N, 2) width and height in pixels of a square of SIDE.
        aspect: (N,) width by height in the photo itself.
        objects: (images,) boxes in each.
        images: by class: in how many it occurs.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    difficult: np.ndarray
    sides: np.ndarray
    aspect: np.ndarray
    objects: np.ndarray
    images: dict[str, int]

    @property
    def pixels(self) -> np.ndarray:
        """(N,) square root of the area, in pixels of the square."""
        return np.sqrt(self.sides.prod(1))


def count(samples: list[Sample], class_names: tuple[str, ...]) -> Stats:
    """Collect the columns of samples."""
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(s.boxes for s in samples)])
    labels = np.concatenate([np.zeros(0, np.int64), *(s.labels for s in samples)])
    difficult = np.concatenate([np.zeros(0, bool), *(s.difficult for s in samples)])
    shape = np.concatenate([np.zeros(0), *(np.full(len(s.boxes), s.width / s.height) for s in samples)])
    sides = (boxes[:, 2:] - boxes[:, :2]) * SIDE
    aspect = sides[:, 0] / sides[:, 1] * shape
    objects = np.array([len(s.boxes) for s in samples], dtype=np.int64)
    seen = Counter(class_names[label] for s in samples for label in set(s.labels.tolist()))
    return Stats(class_names, labels, difficult, sides, aspect, objects, {n: seen[n] for n in class_names})


def summary(stats: Stats) -> dict:
    """The numbers of the table, as plain data.

    Returns:
        images, boxes, difficult, background (images without a box), objects_per_image (quantiles 0.05, 0.5,
        0.95), and classes: of each the boxes, difficult, images, small, medium, large (COCO's sizes in a
        square of 300 pixels), side (quantiles, pixels there) and aspect (quantiles).
    """
    rows = {
        name: _row(stats, stats.labels == i) | {"images": stats.images[name]}
        for i, name in enumerate(stats.class_names)
    }
    return {
        "images": len(stats.objects),
        "boxes": len(stats.labels),
        "difficult": int(stats.difficult.sum()),
        "background": int((stats.objects == 0).sum()),
        "objects_per_image": _quantiles(stats.objects),
        "classes": rows,
    }


def _row(stats: Stats, chosen: np.ndarray) -> dict:
    size = area(np.pad(stats.sides[chosen], ((0, 0), (2, 0))))
    by_size = {name: int(((size >= low) & (size < high)).sum()) for name, (low, high) in SIZES.items()}
    return {
        "boxes": int(chosen.sum()),
        "difficult": int(stats.difficult[chosen].sum()),
        **by_size,
        "side": _quantiles(stats.pixels[chosen]),
        "aspect": _quantiles(stats.aspect[chosen]),
    }


def _quantiles(values: np.ndarray) -> list[float] | None:
    return [round(float(v), 2) for v in np.quantile(values, QUANTILES)] if len(values) else None
