"""What the doctor must know of each photo, read once: whether it decodes, how it lies, whom it resembles."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssd.images import EXIF_ORIENTATION, MAX_FILE_BYTES, MAX_PIXELS, load_image

THUMB = 16  # cells on a side of the small grey picture
MAX_BITS = 6  # of 64 in which the hashes of twins may differ
MAX_GREY = 8.0  # mean difference of their small pictures, of 255
SURE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .webp".split())  # OpenCV reads these as Pillow does


@dataclass(frozen=True)
class PhotoFacts:
    """One photo as it lies on disk."""

    height: int = 0  # as stored, before EXIF rotation
    width: int = 0
    orientation: int = 1  # EXIF's: 1 upright, 2 to 4 the same sides, 5 to 8 turned by a quarter
    digest: bytes = b""  # of the file
    bits: int = 0  # difference hash
    thumb: np.ndarray | None = None  # (THUMB, THUMB) float32, grey
    error: str = ""  # why it cannot be read

    @property
    def seen_size(self) -> tuple[int, int]:
        """Height and width as the photo is seen, EXIF rotation applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def look_at(paths: Iterable[Path]) -> Iterator[PhotoFacts]:
    """Facts of photos, in order, by as many threads as there are processors.

    JPEG is decoded at an eighth of its size: the whole file is read, so a cut one is found.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(_facts, paths)


def find_twins(facts: list[PhotoFacts]) -> list[tuple[int, int, bool]]:
    """Pairs of photos that show the same: (earlier index, later index, files are identical).

    Near twins have difference hashes within MAX_BITS and small grey pictures within MAX_GREY,
    which keeps apart what only has the same layout, such as microscope fields. A photo is named
    once, with the first one that it equals, unless that is no exact twin and a later one is.
    """
    usable = [i for i, fact in enumerate(facts) if fact.thumb is not None]
    bits = np.array([facts[i].bits for i in usable], dtype=np.uint64)
    thumbs = np.array([facts[i].thumb for i in usable], dtype=np.float32).reshape(len(usable), THUMB * THUMB)
    first: dict[bytes, int] = {}
    pairs = []
    for n, i in enumerate(usable):
        exact = first.setdefault(facts[i].digest, i)
        if exact != i:
            pairs.append((exact, i, True))
            continue
        near = np.flatnonzero(np.bitwise_count(bits[:n] ^ bits[n]) <= MAX_BITS)
        near = near[np.abs(thumbs[near] - thumbs[n]).mean(1) <= MAX_GREY]
        if len(near):
            pairs.append((usable[near[0]], i, False))
    return pairs


def _facts(path: Path) -> PhotoFacts:
    from PIL import Image

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return PhotoFacts(error=f"it has more than {MAX_FILE_BYTES} bytes")
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        with Image.open(path) as image:
            height, width = image.height, image.width
            if height * width > MAX_PIXELS:
                return PhotoFacts(height, width, error=f"it has more than {MAX_PIXELS} pixels")
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            image.draft("L", (8 * THUMB, 8 * THUMB))
            grey = np.asarray(image.convert("L"), dtype=np.uint8)
        if path.suffix.lower() not in SURE_SUFFIXES:
            load_image(path)
    except Exception as error:  # Pillow raises whatever its decoders do, struct.error and so on
        return PhotoFacts(error=f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")
    orientation = orientation if orientation in range(1, 9) else 1
    return PhotoFacts(height, width, orientation, digest, *_small(grey))


def _small(grey: np.ndarray) -> tuple[int, np.ndarray]:
    """The difference hash (8 rows of 9 cells: brighter than the left one or not) and a small picture."""
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    signs = (cells[:, 1:] > cells[:, :-1]).ravel()
    bits = int.from_bytes(np.packbits(signs).tobytes(), "big")
    return bits, cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
