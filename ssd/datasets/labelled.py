"""What every reader yields: labelled images with class names and pixels, before any class list.

Also what all readers share: limits on untrusted files, paths that must stay in the data folder, and
lists of images.
"""

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MAX_TEXT_BYTES = 64 << 20  # of a label, list or CSV file
MAX_JSON_BYTES = 1 << 30  # COCO's instances_train2017.json has 448 MB
ALL = "all"  # the split that every data set has: all its labelled photos


class PartBoxError(ValueError):
    """An object has no box but that of a <part> of it, such as a head."""


@dataclass(frozen=True)
class LabelledObject:
    """One object as its label file has it."""

    name: str  # of its class
    box_px: tuple[float, float, float, float]  # 0-based pixels, right and bottom exclusive
    difficult: bool = False
    crowd: bool = False  # COCO's iscrowd: a group under one box
    area: float | None = None  # square pixels of its outline, where the file has it (COCO)
    where: str = ""  # in its file: "line 3", "annotation 17"


@dataclass(frozen=True)
class LabelledImage:
    """One photo with its objects; neither need be readable."""

    image_id: str
    path: Path  # of the photo, which need not exist
    source: Path  # of the label file
    height: int  # pixels, as the label file says; 0 where it does not
    width: int
    objects: tuple[LabelledObject, ...] = ()
    part_boxes: tuple[tuple[str, tuple], ...] = ()  # VOC's <part>: name and box_px; no objects
    error: Exception | None = None  # why the labels cannot be read


def box_px(values: object, where: str) -> tuple[float, float, float, float]:
    """Four finite numbers.

    Raises:
        ValueError: they are not; `where` names them.
    """
    try:
        box = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        box = ()
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise ValueError(f"a box must have four finite numbers. Received: {values} in {where}")
    return box


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than the limit or no text.
    """
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"a label file may have {limit} bytes. Received: {size} in {path}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"a label file must be text in UTF-8. Received: {path}") from None


def inside(root: Path, name: str, where: str) -> Path:
    """The path that a label file names, which must lie below the data folder.

    Links that the folder holds are followed: `..` and absolute paths in a label file are not.

    Raises:
        ValueError: it leads out of the folder; `where` names the file and line.
    """
    plain = str(name).strip().replace("\\", "/")
    parts = PurePosixPath(plain).parts
    depth, lowest = 0, 0
    for part in parts:
        depth += {"..": -1, ".": 0}.get(part, 1)
        lowest = min(lowest, depth)
    drive = len(plain) > 1 and plain[1] == ":"
    if not plain or "\0" in plain or plain.startswith("/") or drive or lowest < 0:
        raise ValueError(f"a path must stay inside the data folder {root}. Received: {name!r} in {where}")
    return root / plain


def read_list(path: Path) -> list[str]:
    """The image ids or paths of a split file, one a line.

    VOC's lists of one class have a second column, 1, 0 or -1, which is left out.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if all(line.endswith((" 1", " 0", " -1")) for line in lines):
        return [line.rsplit(None, 1)[0] for line in lines]
    return lines


def select(images: list[LabelledImage], wanted: list[str], where: str) -> list[LabelledImage]:
    """The images that a list names, in its order.

    A line may be an image id, or a path or name of the photo with or without suffix.

    Raises:
        FileNotFoundError: a line names no image; `where` names the list.
    """
    known: dict[str, LabelledImage] = {}
    by_name: dict[str, list[LabelledImage]] = {}
    for keys in zip(*((image.path.stem, image.path.name, image.image_id) for image in images), strict=True):
        # All stems before any id: COCO's id 2 need not be 2.jpg.
        for key, image in zip(keys, images, strict=True):
            known.setdefault(key, image)
    for image in images:
        by_name.setdefault(image.path.name, []).append(image)
    chosen = []
    for line in wanted:
        path = PurePosixPath(line.replace("\\", "/"))
        same_path = _by_end(by_name.get(path.name, []), path)
        found = known.get(line) or same_path or known.get(path.name) or known.get(path.stem)
        if found is None:
            raise FileNotFoundError(
                f"an image of a list must be in the data set. Received: {line!r} in {where}"
            )
        chosen.append(found)
    return chosen


def _by_end(same_name: list[LabelledImage], path: PurePosixPath) -> LabelledImage | None:
    """The only image whose path ends in this one, so that a/1.jpg and b/1.jpg stay apart."""
    end = "/" + "/".join(part for part in path.parts if part not in (".", "/"))
    found = [image for image in same_name if f"/{image.path.as_posix()}".endswith(end)]
    return found[0] if len(found) == 1 else None
