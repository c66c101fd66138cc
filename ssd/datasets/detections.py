"""Detections of any program, read from files to be scored and checked against the split.

All of it is untrusted: sizes are limited, and every fault is named with its file and line.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ssd.datasets.detection_files import Row, finite, read_rows
from ssd.datasets.labelled import LabelledImage
from ssd.metrics.tables import Found

MAX_DETECTIONS = 20_000_000


def read_detections(
    path: str | Path,
    images: Sequence[LabelledImage],
    class_names: Sequence[str],
    *,
    category_names: Mapping[int, str] | None = None,
    other_classes: bool = False,
) -> Found:
    """Read the detections on a split; an image of which the file says nothing has none.

    Args:
        path: a COCO results file or data set with scores (.json), `detections.json`, `.csv` or a
            video's `.jsonl` as `ssd detect` writes them, a file in VOC's comp4 text, or a folder with
            one `*_CLASS.txt` a class or with our own files.
        images: of the split, which give each detection its place.
        class_names: those to score; in a folder of comp4 text each must have a file.
        category_names: of COCO's category ids; 1, 2, ... for `class_names` if None.
        other_classes: leave out detections of other classes rather than refuse them.
    Raises:
        OSError: a file is missing.
        ValueError: a row is no detection of this split; the message names file and line.
    """
    path = Path(path)
    places, numbers = _Places(images), {name: label for label, name in enumerate(class_names)}
    if category_names is None:
        category_names = dict(enumerate(class_names, start=1))
    columns: dict[str, list] = {"image": [], "label": [], "box": [], "score": [], "sides": []}
    for row in read_rows(path, class_names, category_names, other_classes):
        label = numbers.get(row.name)
        if label is None:
            if other_classes:
                continue
            known = ", ".join(class_names)
            raise ValueError(
                f"a detection must be of a class that is scored: {known} (--classes takes some and leaves "
                f"out others). Received: {row.name!r} in {row.where}"
            )
        box, sides = _box(row)
        columns["image"].append(places.find(row))
        columns["label"].append(label)
        columns["box"].append(box)
        columns["sides"].append(sides)
        columns["score"].append(_score(row))
        if len(columns["label"]) > MAX_DETECTIONS:
            raise ValueError(f"there may be {MAX_DETECTIONS} detections. Received: more in {path}")
    return Found(
        np.array(columns["image"], dtype=np.int64),
        np.array(columns["label"], dtype=np.int64),
        np.array(columns["box"], dtype=np.float64).reshape(-1, 4),
        np.array(columns["score"], dtype=np.float64),
        np.array(columns["sides"], dtype=np.float64).reshape(-1, 2),
    )


class _Places:
    """Finds the image that an id, file name or path means."""

    def __init__(self, images: Sequence[LabelledImage]) -> None:
        self._paths = [image.path.as_posix() for image in images]
        names, ids = defaultdict(list), defaultdict(list)
        for i, image in enumerate(images):
            for key in {image.path.name, image.path.stem}:
                names[key].append(i)
            ids[image.image_id].append(i)
        self._keys = names | ids  # an id comes before a file that happens to be called so

    def find(self, row: Row) -> int:
        """The place of its image.

        Raises:
            ValueError: the split has none, or several.
        """
        image, key = row.image, str(row.image).replace("\\", "/")
        if isinstance(image, float) and image.is_integer():
            key = str(int(image))
        path = PurePosixPath(key)
        found = self._keys.get(key) or self._keys.get(path.name) or self._keys.get(path.stem) or []
        if len(found) > 1:  # photos of one name in several folders: by the end of the path
            found = [i for i in found if f"/{self._paths[i]}".endswith(f"/{key.lstrip('./')}")]
        if len(found) != 1 or isinstance(image, bool):
            raise ValueError(f"an image must be in the split. Received: {image!r} in {row.where}")
        return found[0]


def _score(row: Row) -> float:
    (score,) = finite([row.score], row.where, "a score must be a finite number")
    return score


def _box(row: Row) -> tuple[tuple, tuple]:
    """Corners, and width and height as the file has them."""
    if not isinstance(row.box, list | tuple) or len(row.box) != 4:
        raise ValueError(f"a box must have four numbers. Received: {row.box!r} in {row.where}")
    x, y, a, b = finite(row.box, row.where)
    width, height = (a - x, b - y) if row.corners else (a, b)
    if width < 0 or height < 0:
        raise ValueError(
            "a box must have a width and height of 0 or more. "
            f"Received: {width:g} by {height:g} in {row.where}"
        )
    return (x, y, a, b) if row.corners else (x, y, x + a, y + b), (width, height)
