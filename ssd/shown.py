"""Detections on their picture, as a notebook shows them."""

from dataclasses import dataclass

import cv2
import numpy as np

from ssd.draw import draw
from ssd.records import Detections


@dataclass(frozen=True)
class Shown:
    """A picture with detections; the last line of a notebook's cell shows it.

    Args:
        image: (H, W, 3) uint8 RGB, without boxes.
        detections: of this image.
    Raises:
        ValueError: the detections are of a picture of another size.
    """

    image: np.ndarray
    detections: Detections

    def __post_init__(self) -> None:
        size = self.detections.height, self.detections.width
        if self.image.shape[:2] != size:
            raise ValueError(
                f"detections must be of this picture, {size[0]} x {size[1]}. Received: {self.image.shape}"
            )

    @property
    def drawn(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB with boxes."""
        return draw(self.image, self.detections)

    def _repr_png_(self) -> bytes:
        return cv2.imencode(".png", cv2.cvtColor(self.drawn, cv2.COLOR_RGB2BGR))[1].tobytes()

    def __repr__(self) -> str:
        found = self.detections
        rows = zip(found.names, found.scores, strict=True)
        return ", ".join(f"{name} {score:.2f}" for name, score in rows) or "nothing"
