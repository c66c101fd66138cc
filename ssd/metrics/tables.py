"""Truth and detections of a whole split as flat columns, which all protocols are computed from.

Pixels are float64 here: the digits of published numbers depend on them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ssd.boxes import to_pixels
from ssd.datasets.labelled import LabelledImage
from ssd.records import Detections, Sample


@dataclass(frozen=True)
class Truth:
    """All true boxes of a split; box columns have length N, images are numbered as listed."""

    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    image: np.ndarray  # (N,) int64, index into image_ids
    labels: np.ndarray  # (N,) int64, index into class_names
    boxes_px: np.ndarray  # (N, 4) float64, 0-based, right and bottom exclusive
    sides_px: np.ndarray  # (N, 2) float64 width and height, as the file has them
    difficult: np.ndarray  # (N,) bool: neither hit nor miss, by VOC's rules and by COCO's
    crowd: np.ndarray  # (N,) bool: COCO's iscrowd; difficult, too
    area: np.ndarray  # (N,) float64 square pixels, of the outline where the file has it

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of all that a score depends on: equal truth, equal hash."""
        digest = hashlib.sha256(repr((self.image_ids, self.class_names)).encode())
        for column in (self.image, self.labels, self.boxes_px.round(2) + 0.0, self.difficult, self.crowd):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Found:
    """All detections on a split in the order given, which ranks equal scores; columns of length K."""

    image: np.ndarray  # (K,) int64, index into the truth's image_ids
    labels: np.ndarray  # (K,) int64, index into the truth's class_names
    boxes_px: np.ndarray  # (K, 4) float64
    scores: np.ndarray  # (K,) float64
    sides_px: np.ndarray = field(default=None)  # (K, 2) float64; None: those of boxes_px

    def __post_init__(self) -> None:
        if self.sides_px is None:
            object.__setattr__(self, "sides_px", self.boxes_px[:, 2:] - self.boxes_px[:, :2])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: np.ndarray) -> "Found":
        columns = self.image, self.labels, self.boxes_px, self.scores, self.sides_px
        return Found(*(column[index] for column in columns))


def truth_of_images(images: Sequence[LabelledImage], class_names: tuple[str, ...]) -> Truth:
    """The columns of labelled images; objects of other classes are left out.

    Raises:
        ValueError, OSError: the labels of an image cannot be read, or a box has no area.
    """
    number = {name: label for label, name in enumerate(class_names)}
    rows = []
    for i, image in enumerate(images):
        if image.error:
            raise image.error
        rows += [(i, number[o.name], o, image) for o in image.objects if o.name in number]
    boxes_px = np.array([o.box_px for _, _, o, _ in rows], dtype=np.float64).reshape(-1, 4)
    # x + width - x is not quite the width that a COCO file has; nine decimals bring it back.
    sides_px = np.round(boxes_px[:, 2:] - boxes_px[:, :2], 9)
    if len(wrong := np.flatnonzero((sides_px <= 0).any(1))):
        _, _, found, image = rows[wrong[0]]
        raise ValueError(
            "boxes must satisfy x_min < x_max and y_min < y_max. "
            f"Received: {list(found.box_px)} in {image.source}, image {image.image_id}, {found.where}"
        )
    outlines = [o.area for _, _, o, _ in rows]
    area = np.array([np.nan if a is None else a for a in outlines], dtype=np.float64)
    crowd = np.array([o.crowd for _, _, o, _ in rows], dtype=bool)
    return Truth(
        tuple(image.image_id for image in images),
        tuple(class_names),
        np.array([i for i, *_ in rows], dtype=np.int64),
        np.array([label for _, label, *_ in rows], dtype=np.int64),
        boxes_px,
        sides_px,
        np.array([o.difficult for _, _, o, _ in rows], dtype=bool) | crowd,
        crowd,
        np.where(np.isnan(area), sides_px.prod(1), area),
    )


def truth_of_samples(samples: Sequence[Sample], class_names: tuple[str, ...]) -> Truth:
    """The columns of samples whose labels index `class_names`."""
    boxes_px = [to_pixels(s.boxes, s.height, s.width).astype(np.float64) for s in samples]
    boxes_px = np.concatenate([np.empty((0, 4)), *boxes_px])
    sides_px = boxes_px[:, 2:] - boxes_px[:, :2]
    crowd = _joined([s.crowd for s in samples], bool)
    return Truth(
        tuple(s.image_id for s in samples),
        tuple(class_names),
        np.repeat(np.arange(len(samples)), [len(s.labels) for s in samples]),
        _joined([s.labels for s in samples], np.int64),
        boxes_px,
        sides_px,
        _joined([s.difficult for s in samples], bool) | crowd,
        crowd,
        sides_px.prod(1),
    )


def found_of_detections(detections: Sequence[Detections]) -> Found:
    """The columns of one record an image, in the order of the truth's images."""
    boxes_px = [d.boxes_px.astype(np.float64) for d in detections]
    return Found(
        np.repeat(np.arange(len(detections)), [len(d) for d in detections]),
        _joined([d.labels for d in detections], np.int64),
        np.concatenate([np.empty((0, 4)), *boxes_px]),
        _joined([d.scores for d in detections], np.float64),
    )


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.empty(0, kind), *parts]).astype(kind)
