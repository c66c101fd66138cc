"""Pictures in class folders: found, checked, divided, and decoded once into memory."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssd.download import untracked
from ssd.images import IMAGE_SUFFIXES, load_image

LEAST = 2  # images of a class: one to train on, one to validate with
MAX_BYTES = 8 << 30  # of decoded pictures in memory


@dataclass(frozen=True)
class ImageSet:
    """Labelled pictures of one split, not read yet unless they came as arrays."""

    class_names: tuple[str, ...]
    labels: np.ndarray  # (N,) int64, index into class_names
    names: tuple[str, ...]  # (N,) of the files, or "cifar10/train/17"
    pixels: np.ndarray | None = None  # (N, H, W, 3) uint8, where there are no files

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: Sequence[int]) -> "ImageSet":
        """Some of them, in that order."""
        rows = np.asarray(rows, np.int64)
        pixels = None if self.pixels is None else self.pixels[rows]
        return ImageSet(self.class_names, self.labels[rows], tuple(self.names[i] for i in rows), pixels)

    def counts(self) -> dict[str, int]:
        """Images a class."""
        found = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, found.tolist(), strict=True))


def has_splits(data: str | Path) -> bool:
    """Whether a folder holds DATA/train/CLASS rather than DATA/CLASS."""
    train = Path(data) / "train"
    return train.is_dir() and any(path.is_dir() for path in train.iterdir())


def read_folders(
    folder: str | Path, class_names: tuple[str, ...] | None = None, least: int = LEAST
) -> ImageSet:
    """The pictures of FOLDER/CLASS/*, classes and files in the order of their names.

    Args:
        folder: holds a folder a class.
        class_names: the classes that it must hold; None: whichever it holds.
        least: images that a class must have.
    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: fewer than two classes, two that differ in case only, a class with too few images, other
            classes than those given, or a single image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"class folders must lie in a folder. Received: {folder}")
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    _check_classes([path.name for path in found], folder, class_names)
    classes = class_names or tuple(path.name for path in found)
    names, labels = [], []
    for path in found:
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not files:
            raise ValueError(f"a class must have images. Received: none in {path}")
        if len(files) < least:
            raise ValueError(f"a class must have {least} images or more. Received: {len(files)} in {path}")
        names += map(str, files)
        labels += [classes.index(path.name)] * len(files)
    if len(names) < LEAST:
        raise ValueError(f"there must be {LEAST} images or more. Received: {len(names)} in {folder}")
    return ImageSet(classes, np.array(labels, np.int64), tuple(names))


def divide(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """A part to train on and one to validate with: that share of every class, at least one image.

    Raises:
        ValueError: a class of one image, or a share outside 0 to 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share for validation must be between 0 and 1. Received: {share}")
    rng = np.random.default_rng(seed)
    held = []
    for label, name in enumerate(images.class_names):
        rows = np.flatnonzero(images.labels == label)
        if len(rows) < LEAST:
            raise ValueError(
                f"a class must have {LEAST} images or more to divide. Received: {len(rows)} of {name}"
            )
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        held += rng.permutation(rows)[:count].tolist()
    rest = np.setdiff1d(np.arange(len(images)), held)
    return images.subset(rest), images.subset(sorted(held))


def load_pixels(
    images: ImageSet, size: tuple[int, int], track: Callable = untracked, text: str = "reading images"
) -> np.ndarray:
    """Decode all pictures once, warped to (height, width).

    Returns:
        (N, height, width, 3) uint8 RGB.
    Raises:
        OSError: a file is missing.
        ValueError: a file is no picture; or they are too many for the memory.
    """
    height, width = size
    if (total := len(images) * height * width * 3) > MAX_BYTES:
        raise ValueError(
            f"decoded pictures may take {MAX_BYTES / 1e9:.1f} GB. Received: {total / 1e9:.1f} GB, "
            f"{len(images)} of {height}x{width}; remedy: a smaller --image-size, and resize in --input-stage"
        )
    pixels = np.empty((len(images), height, width, 3), np.uint8)

    def read(i: int) -> None:
        picture = load_image(images.names[i]) if images.pixels is None else images.pixels[i]
        pixels[i] = warp(picture, size)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in track(pool.map(read, range(len(images))), text, len(images)):
            pass
    return pixels


def warp(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture of (height, width), without regard to its shape; shrunk by area, enlarged by lines."""
    if picture.shape[:2] == size:
        return picture
    shrinks = picture.shape[0] * picture.shape[1] > size[0] * size[1]
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def pixels_digest(images: ImageSet, pixels: np.ndarray) -> str:
    """A hash of pictures, their order and their labels."""
    digest = hashlib.sha256("\n".join(images.class_names).encode())
    digest.update(str(pixels.shape).encode() + images.labels.tobytes())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def same_name(name: str) -> str:
    """What two names share that are one on some file systems: without case, accents composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _check_classes(found: list[str], folder: Path, wanted: tuple[str, ...] | None) -> None:
    twice = Counter(map(same_name, found))
    if clash := [name for name in found if twice[same_name(name)] > 1]:
        raise ValueError(
            f"two classes must differ by more than case. Received: {' and '.join(clash[:2])} in {folder}"
        )
    if wanted is None:
        if len(found) < 2:
            raise ValueError(
                "there must be a folder a class, two or more. "
                f"Received: {', '.join(found) or 'none'} in {folder}"
            )
    elif missing := sorted(set(wanted) - set(found)):
        raise ValueError(f"every class must have its folder. Received: no {missing[0]!r} in {folder}")
    elif other := sorted(set(found) - set(wanted)):
        raise ValueError(f"classes must be {', '.join(wanted)}. Received: {other[0]!r} in {folder}")
