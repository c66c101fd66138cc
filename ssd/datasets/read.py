"""The one door to labelled photos: it tells the format and offers the same to all commands.

A data set is a folder in VOC, YOLO, COCO or CSV layout, or a .json, .csv or .yaml file. A split is a name
that the data set knows, "all", or the path of a text file that lists image ids or paths.
"""

from pathlib import Path
from types import ModuleType

import numpy as np

from ssd.boxes import as_boxes, check_boxes, from_pixels
from ssd.datasets import coco, csv_file, voc, yolo
from ssd.datasets.labelled import ALL, LabelledImage, read_list, select
from ssd.records import Sample

FORMATS = {"voc": voc, "coco": coco, "yolo": yolo, "csv": csv_file}
# The order in which a folder is tried: a VOC folder may hold JSON of the same photos as well.
_TELL = (("voc", voc.is_voc), ("yolo", yolo.is_yolo), ("coco", coco.is_coco), ("csv", csv_file.is_csv))


def find_format(data: str | Path) -> str:
    """The format of a data set, one of FORMATS.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: it is in none of the formats.
    """
    data = Path(data)
    if not data.exists():
        raise FileNotFoundError(f"a data set must exist. Received: {data}")
    for name, is_it in _TELL:
        if is_it(data) and (data.is_dir() or name != "voc"):
            return name
    raise ValueError(
        "a data set must be a folder in VOC (Annotations/), YOLO (data.yaml or classes.txt), COCO (*.json) "
        f"or CSV layout, or a .json, .csv or .yaml file. Received: {data}"
    )


def split_names(data: str | Path) -> tuple[str, ...]:
    """The splits that a data set knows: its own, and the lists that `ssd data split` wrote."""
    data = Path(data)
    own = _module(data).split_names(data)
    return tuple(dict.fromkeys([*own, *sorted(path.stem for path in lists_folder(data).glob("*.txt"))]))


def lists_folder(data: str | Path) -> Path:
    """Where lists of images lie in every layout: ImageSets/Main of a folder, FILE.splits of a file."""
    data = Path(data)
    return data / voc.LISTS if data.is_dir() else data.with_name(f"{data.name}.splits")


def read_images(data: str | Path, split: str) -> list[LabelledImage]:
    """The labelled images of a split, with all classes, as their label files have them.

    Labels of a single image that cannot be read are in its `error`.

    Raises:
        OSError: no such data set or split; the message lists those that exist.
        ValueError: a file of the whole split is damaged; the message names it.
    """
    data, module = Path(data), _module(data)
    file = lists_folder(data) / f"{split}.txt"
    if module is not voc and file.is_file():
        return select(module.read_images(data, ALL), read_list(file), str(file))
    if split == ALL or split in module.split_names(data):
        return module.read_images(data, split)
    if Path(split).is_file():
        return select(module.read_images(data, ALL), read_list(Path(split)), split)
    known = ", ".join((*split_names(data), ALL))
    raise FileNotFoundError(
        f"split must be one of: {known}, or a file of image ids. Received: {split!r} in {data}"
    )


def read_split(
    data: str | Path, split: str, class_names: tuple[str, ...], *, photos: bool = True
) -> list[Sample]:
    """Read the samples of a split; objects of other classes are left out.

    Args:
        data: a folder or file in any of the formats.
        split: a name, "all", or a file that lists images.
        class_names: labels index this.
        photos: whether every photo must be there; if not, `Sample.path` may name none.
    Raises:
        OSError: a file is missing.
        ValueError: an annotation is damaged; the message names it.
    """
    images = read_images(data, split)
    for image in images:
        if photos and not image.path.is_file() and not isinstance(image.error, ValueError):
            raise FileNotFoundError(f"image {image.image_id} of split {split} is not in {image.path.parent}")
    return [_sample(image, class_names) for image in images]


def find_classes(data: str | Path, split: str) -> tuple[str, ...]:
    """The class names that occur in a split, sorted."""
    images = read_images(data, split)
    for image in images:
        if image.error:
            raise image.error
    return tuple(sorted({found.name for image in images for found in image.objects}))


def _module(data: Path) -> ModuleType:
    return FORMATS[find_format(data)]


def _sample(image: LabelledImage, class_names: tuple[str, ...]) -> Sample:
    if image.error:
        raise image.error
    height, width = image.height, image.width
    if height <= 0 or width <= 0:
        raise ValueError(
            f"the size of an image must be positive. Received: {width}x{height} in {image.source}"
        )
    kept = [found for found in image.objects if found.name in class_names]
    boxes = from_pixels(as_boxes([found.box_px for found in kept]), height, width)
    check_boxes(boxes, f"{image.source}, image {image.image_id}")
    labels = np.array([class_names.index(found.name) for found in kept], dtype=np.int64)
    crowd = np.array([found.crowd for found in kept], dtype=bool)
    difficult = np.array([found.difficult for found in kept], dtype=bool) | crowd
    return Sample(image.image_id, image.path, height, width, boxes, labels, difficult, crowd)
