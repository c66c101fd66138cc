"""The photos that are timed."""

from pathlib import Path

from ssd.datasets.read import read_images
from ssd.images import load_image
from ssd.sources import find_sources, is_video

SAMPLES = Path(__file__).parents[2] / "samples"  # in a checkout
VIDEO = SAMPLES / "carphone.mp4"
MOST = 50  # photos, evenly over a split or folder: more than the rounds need


def find_photos(data: tuple[Path, ...]) -> list[Path]:
    """Picture files of folders and files; the samples where none are named.

    Raises:
        ValueError: there are none, or one cannot be read.
    """
    if not data and not SAMPLES.is_dir():
        raise ValueError("samples/ is in a checkout alone: name photos with --data. Received: none")
    found, _ = find_sources([str(path) for path in data or (SAMPLES,)])
    photos = [path for path in found if not is_video(path)]
    if not photos:
        told = ", ".join(map(str, data))
        raise ValueError(f"--data must hold photos, or be labelled data with --split. Received: {told}")
    return _some(photos)


def labelled_photos(data: Path, split: str) -> list[Path]:
    """Photos of a labelled split.

    Raises:
        OSError, ValueError: as `ssd.datasets.read.read_images`; no photo in it.
    """
    photos = [image.path for image in read_images(data, split)]
    if not photos:
        raise ValueError(f"split must name images. Received: {split!r} of {data}, which is empty")
    return _some(photos)


def sample_video() -> Path | None:
    """The video that ships; None outside a checkout."""
    return VIDEO if VIDEO.is_file() else None


def _some(photos: list[Path]) -> list[Path]:
    chosen = photos[:: max(1, len(photos) // MOST)][:MOST]
    for photo in chosen:  # faults come before the work, and the disk's cache is warm for all alike
        load_image(photo)
    return chosen
