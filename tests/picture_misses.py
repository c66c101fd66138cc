"""Make the sample photos harder step by step and draw what the default model still finds in them.

Run it: python tests/picture_misses.py docs/misses.png [--model MODEL]
A row a photo, a column a change: none, small, dark, blurred, upside down, partly hidden, many. Printed: what
is found in each at the operating point of the card.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from ssd.detector import Detector
from ssd.draw import draw
from ssd.images import load_image, save_image

SAMPLES = Path(__file__).parent.parent / "samples"
PHOTOS = ("astronaut.jpg", "camera.png", "chelsea.png")
SIDE = 260  # of a cell, in pixels


def small(image: np.ndarray) -> np.ndarray:
    """An eighth of the sides, on grey."""
    height, width = image.shape[:2]
    canvas = np.full_like(image, 128)
    tiny = cv2.resize(image, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    canvas[height // 2 : height // 2 + len(tiny), width // 3 : width // 3 + tiny.shape[1]] = tiny
    return canvas


def dark(image: np.ndarray) -> np.ndarray:
    """A twelfth of the light, with the noise of a camera at night."""
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image / 12 + noise, 0, 255).astype(np.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    """Moved by an eighth of the width while the shutter was open."""
    length = image.shape[1] // 8
    return cv2.filter2D(image, -1, np.full((1, length), 1 / length))


def turned(image: np.ndarray) -> np.ndarray:
    """Upside down."""
    return np.ascontiguousarray(image[::-1, ::-1])


def hidden(image: np.ndarray) -> np.ndarray:
    """The middle third behind a wall."""
    out = image.copy()
    out[:, image.shape[1] // 3 : image.shape[1] * 2 // 3] = 150
    return out


def many(image: np.ndarray) -> np.ndarray:
    """Twenty-five of it."""
    tile = cv2.resize(image, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    return np.tile(tile, (5, 5, 1))


CHANGES = {"as it is": np.copy} | {f.__name__: f for f in (small, dark, blurred, turned, hidden, many)}


def main() -> None:
    """Print a line a picture; write the sheet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="default")
    given = parser.parse_args()
    detector = Detector.load(given.model)
    rows = []
    for name in PHOTOS:
        image = load_image(SAMPLES / name)
        cells = []
        for change, how in CHANGES.items():
            harder = how(image)
            found = detector(harder, score_threshold=detector.operating_point(0.5))
            names = [found.class_names[label] for label in found.labels]
            scores = [f"{n} {s:.2f}" for n, s in zip(names, found.scores, strict=True)]
            print(f"{name}, {change}: {', '.join(scores) or 'nothing'}")
            cells.append(_cell(draw(harder, found)))
        rows.append(np.concatenate(cells, axis=1))
    save_image(given.out, np.concatenate(rows))


def _cell(image: np.ndarray) -> np.ndarray:
    """The picture in the middle of a square."""
    scale = SIDE / max(image.shape[:2])
    fitted = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cell = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    top, left = (SIDE - fitted.shape[0]) // 2, (SIDE - fitted.shape[1]) // 2
    cell[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return cell


if __name__ == "__main__":
    main()
