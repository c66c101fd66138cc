"""The two records of the street: `Sample`, truth going in, and `Detections`, results coming out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.boxes import as_boxes, to_pixels


@dataclass(frozen=True)
class Sample:
    """One labelled image: its file, its size and its true boxes; zero boxes mean background."""

    image_id: str
    path: Path
    height: int
    width: int
    boxes: np.ndarray  # (N, 4) boxes
    labels: np.ndarray  # (N,) int64, index into class_names
    difficult: np.ndarray  # (N,) bool: neither hit nor miss in evaluation
    crowd: np.ndarray | None = None  # (N,) bool: a group under one box, difficult too; None: nothing is

    def __post_init__(self) -> None:
        if self.crowd is None:
            object.__setattr__(self, "crowd", np.zeros(len(self.labels), dtype=bool))


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, best score first.

    `detections[mask]` filters by a boolean mask (or any NumPy index) of length N.

    Raises:
        ValueError: the arrays differ in length or a label is not in `class_names`.
    """

    boxes: np.ndarray  # (N, 4) boxes
    labels: np.ndarray  # (N,) int64, index into class_names
    scores: np.ndarray  # (N,) float32 in [0, 1]
    class_names: tuple[str, ...]
    height: int  # of the image, pixels
    width: int

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "boxes", as_boxes(self.boxes))
        set_field(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        set_field(self, "scores", np.asarray(self.scores, dtype=np.float32).reshape(-1))
        lengths = len(self.boxes), len(self.labels), len(self.scores)
        if len(set(lengths)) > 1:
            raise ValueError(f"boxes, labels and scores must be equally long. Received: {lengths}")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f"labels must index the {len(self.class_names)} class_names. "
                f"Received: {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: object) -> "Detections":
        chosen = self.boxes[index], self.labels[index], self.scores[index]
        return Detections(*chosen, self.class_names, self.height, self.width)

    @property
    def boxes_px(self) -> np.ndarray:
        """(N, 4) float32 in pixels of the image, right and bottom edges exclusive."""
        return to_pixels(self.boxes, self.height, self.width)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels]
