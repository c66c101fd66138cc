"""Labelled objects cut out of their photos, into class folders, for a classifier."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from ssd.beside import replacing
from ssd.boxes import to_pixels
from ssd.datasets.labelled import ALL
from ssd.datasets.read import find_classes, read_split, split_names
from ssd.images import load_image, save_image
from ssd.records import Sample

DEFAULT_SPLITS = ("train", "val")
_BATCH = 64  # photos that are on their way at a time


def write_crops(
    data: str | Path,
    out: str | Path,
    splits: tuple[str, ...] = (),
    *,
    margin: float = 0.1,
    least: int = 16,
    class_names: tuple[str, ...] | None = None,
    track: Callable | None = None,
) -> dict[str, dict[str, int]]:
    """Write each labelled object as a picture OUT/SPLIT/CLASS/NUMBER-IMAGE-OBJECT.png.

    Difficult objects and groups are left out. The folder is written beside and gets its name at the end.

    Args:
        data: a detection data set in any format.
        out: must not exist.
        splits: none: train and val where the data set has them, else all photos.
        margin: share of the sides of a box that is added on each side, within the photo.
        least: pixels that both sides of a box must have.
        class_names: only these; None: all that occur in the splits.
        track: shows progress: track(items, text, total).
    Returns:
        split -> class -> crops.
    Raises:
        ValueError: no objects, a class without any in a split, names that are no folders, or a photo that
            cannot be read.
        OSError: OUT exists, or something is missing.
    """
    out = Path(out)
    if not (0 <= margin <= 10 and least >= 1):
        raise ValueError(f"margin must be 0 to 10 and the least size 1 or more. Received: {margin}, {least}")
    if out.exists():
        raise FileExistsError(f"crops must go to a new folder. Received: {out}, which exists")
    known = split_names(data)
    splits = splits or tuple(name for name in DEFAULT_SPLITS if name in known) or (ALL,)
    names = class_names or tuple(sorted({name for s in splits for name in find_classes(data, s)}))
    _check_names(names, data)
    counts = {}
    with replacing(out) as beside:
        for split in splits:
            samples = read_split(data, split, names)
            folder = beside if splits == (ALL,) else beside / Path(split).stem
            found = Counter(_write_split(samples, folder, names, margin, least, track or _untracked, split))
            counts[split] = {name: found[name] for name in names}
            if empty := [name for name in names if not found[name]]:
                raise ValueError(
                    f"every class must have an object of {least} pixels or more. Received: none of "
                    f"{empty[0]!r} in split {split!r} of {data}; --classes or --least-size leave it out"
                )
    return counts


def cut_boxes(sample: Sample, margin: float, least: int) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Index and pixel edges (left, top, right, bottom) of each object that is cut out of a photo."""
    edges = []
    for i, (left, top, right, bottom) in enumerate(to_pixels(sample.boxes, sample.height, sample.width)):
        wide, high = float(right - left), float(bottom - top)
        if sample.difficult[i] or min(round(wide), round(high)) < least:
            continue
        box = (
            max(0, round(left - margin * wide)),
            max(0, round(top - margin * high)),
            min(sample.width, round(right + margin * wide)),
            min(sample.height, round(bottom + margin * high)),
        )
        edges.append((i, box))
    return edges


def _write_split(
    samples: list[Sample],
    folder: Path,
    names: tuple[str, ...],
    margin: float,
    least: int,
    track: Callable,
    split: str,
) -> Iterator[str]:
    """Write the crops of a split and yield the class of each."""
    for name in names:
        (folder / name).mkdir(parents=True)

    def cut(task: tuple[int, Sample]) -> list[str]:
        number, sample = task
        boxes = cut_boxes(sample, margin, least)
        image = load_image(sample.path) if boxes else None
        written = []
        for i, (left, top, right, bottom) in boxes:
            name = names[sample.labels[i]]
            # Numbers of photo and object: two photos of a split may have one name.
            path = folder / name / f"{number:06d}-{sample.path.stem[:80]}-{i}.png"
            save_image(path, image[top:bottom, left:right])
            written.append(name)
        return written

    tasks = iter(track(list(enumerate(samples)), f"cutting {split}", len(samples)))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while batch := list(islice(tasks, _BATCH)):
            for written in pool.map(cut, batch):
                yield from written


def _check_names(names: tuple[str, ...], data: str | Path) -> None:
    if not names:
        raise ValueError(f"there must be labelled objects. Received: none in {data}")
    seen: dict[str, str] = {}
    for name in names:
        bad = (
            not name.strip(" .")
            or name.startswith(".")
            or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in name)
        )
        if bad or len(name.encode()) > 200 or name != name.strip():
            raise ValueError(f"a class must have a name that a folder can have. Received: {name!r} in {data}")
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise ValueError(
                f"two classes must differ by more than case. Received: {other} and {name} in {data}"
            )


def _untracked(items: list, text: str, total: int) -> list:
    return items
