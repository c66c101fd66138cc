"""The two records of the street: `Sample`, truth going in, and `Detections`, results coming out."""

import importlib
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
    track_ids: np.ndarray | None = None  # (N,) int64 of a tracker, 0: not followed yet; None: nobody tracks

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "boxes", as_boxes(self.boxes))
        set_field(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        set_field(self, "scores", np.asarray(self.scores, dtype=np.float32).reshape(-1))
        lengths = [len(self.boxes), len(self.labels), len(self.scores)]
        if self.track_ids is not None:
            set_field(self, "track_ids", np.asarray(self.track_ids, dtype=np.int64).reshape(-1))
            lengths.append(len(self.track_ids))
        if len(set(lengths)) > 1:
            raise ValueError(
                f"boxes, labels, scores and track_ids must be equally long. Received: {tuple(lengths)}"
            )
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f"labels must index the {len(self.class_names)} class_names. "
                f"Received: {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: object) -> "Detections":
        chosen = self.boxes[index], self.labels[index], self.scores[index]
        ids = None if self.track_ids is None else self.track_ids[index]
        return Detections(*chosen, self.class_names, self.height, self.width, ids)

    @property
    def boxes_px(self) -> np.ndarray:
        """(N, 4) float32 in pixels of the image, right and bottom edges exclusive."""
        return to_pixels(self.boxes, self.height, self.width)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels]

    @property
    def ids(self) -> list[int | None]:
        """The tracker's number of each detection, from 1; None where there is none."""
        given = np.zeros(len(self), np.int64) if self.track_ids is None else self.track_ids
        return [int(number) or None for number in given]

    def on(self, image: np.ndarray) -> object:
        """These detections drawn on their picture, as a notebook shows it.

        Args:
            image: (H, W, 3) uint8 RGB, the one that they were found in.
        """
        # By name, because the room of drawing stands behind this one.
        return importlib.import_module("ssd.shown").Shown(image, self)

    def _repr_png_(self) -> bytes:
        """What a notebook shows without a picture: the boxes on grey."""
        return self.on(np.full((self.height, self.width, 3), 235, np.uint8))._repr_png_()
