"""The PASCAL VOC devkit layout: JPEGImages/, Annotations/*.xml, ImageSets/Main/*.txt.

The only room with VOC's pixels, which are 1-based and inclusive: read (x_min - 1, y_min - 1,
x_max, y_max), written as the inverse, so that widths and IoU equal the devkit's.
"""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ssd.datasets.labelled import (
    ALL,
    MAX_TEXT_BYTES,
    LabelledImage,
    LabelledObject,
    PartBoxError,
    box_px,
    read_list,
)
from ssd.images import IMAGE_SUFFIXES
from ssd.records import Detections

LISTS = Path("ImageSets", "Main")


def is_voc(data: Path) -> bool:
    """Whether a folder is in this layout."""
    return (data / "Annotations").is_dir()


def split_names(data: Path) -> tuple[str, ...]:
    """The names of the lists in ImageSets/Main, sorted."""
    return tuple(sorted(path.stem for path in (data / LISTS).glob("*.txt")))


def read_images(data: Path, split: str) -> list[LabelledImage]:
    """The images of a list, or of all annotations, in order.

    Raises:
        OSError: no such list.
    """
    folder = data / "Annotations"
    if split == ALL:
        ids = sorted(path.stem for path in folder.glob("*.xml"))
    else:
        ids = read_list(data / LISTS / f"{split}.txt")
    photos = {path.stem: path for path in _photos(data)}
    return [
        _image(name, photos.get(name, data / "JPEGImages" / f"{name}.jpg"), folder / f"{name}.xml")
        for name in ids
    ]


def read_annotation(path: str | Path) -> tuple[int, int, list[tuple[str, list[float], bool]]]:
    """Read one XML file.

    Returns:
        height, width, and a row an object: name, [x_min, y_min, x_max, y_max] in 0-based exclusive
        pixels, difficult. Boxes of <part> (head, hand, foot) are no objects.
    Raises:
        ValueError: it is not XML, uses entities, or lacks a field.
    """
    image = _image("", Path(path), Path(path))
    if image.error:
        raise image.error
    if image.height <= 0 or image.width <= 0:
        raise ValueError(f"<size> must be positive. Received: {image.width}x{image.height} in {path}")
    return image.height, image.width, [(o.name, list(o.box_px), o.difficult) for o in image.objects]


def annotation_xml(detections: Detections, filename: str) -> str:
    """The XML text of detections, as `read_annotation` reads it, with a <score> an object, any <track_id>."""
    found = zip(detections.names, detections.ids, detections.scores, detections.boxes_px, strict=True)
    rows = [
        (name, box, {"difficult": "0", "score": f"{score:.4f}"} | ({"track_id": str(i)} if i else {}))
        for name, i, score, box in found
    ]
    return _xml(filename, detections.height, detections.width, rows, "{:.2f}")


def write_images(out: Path, splits: dict[str, list[LabelledImage]], photos: dict[Path, str]) -> None:
    """Write the labels of a data set in this layout: the inverse of `read_images`.

    Args:
        out: folder of the new data set.
        splits: images of each split.
        photos: name that the photo of a path has in the new data set.
    """
    for folder in ("Annotations", LISTS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        for image in images:
            name = photos[image.path]
            rows = [
                (o.name, o.box_px, {"difficult": str(int(o.difficult or o.crowd))}) for o in image.objects
            ]
            text = _xml(name, image.height, image.width, rows)
            (out / "Annotations" / f"{Path(name).stem}.xml").write_text(text, "utf-8")
        lines = "".join(f"{Path(photos[image.path]).stem}\n" for image in images)
        (out / LISTS / f"{split}.txt").write_text(lines, "utf-8")


PHOTOS = Path("JPEGImages")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _photos(data: Path) -> list[Path]:
    folder = data / PHOTOS
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]


def _image(image_id: str, photo: Path, file: Path) -> LabelledImage:
    try:
        if file.stat().st_size > MAX_TEXT_BYTES:
            raise ValueError(f"more than {MAX_TEXT_BYTES} bytes")
        tree = fromstring(file.read_bytes())
        height, width = (int(float(tree.findtext(f"size/{side}", "0"))) for side in ("height", "width"))
        nodes = tree.findall("object")
        objects = tuple(_object(node, number) for number, node in enumerate(nodes, start=1))
        parts = tuple(
            (part.findtext("name", "").strip(), _box(part.find("bndbox")))
            for node in nodes
            for part in node.findall("part")
        )
    except OSError as error:
        return LabelledImage(image_id, photo, file, 0, 0, error=error)
    except (ParseError, DefusedXmlException, AttributeError, TypeError, ValueError) as error:
        kind = PartBoxError if isinstance(error, PartBoxError) else ValueError
        fault = kind(f"an annotation must be VOC XML. Received: {file} ({error})")
        return LabelledImage(image_id, photo, file, 0, 0, error=fault)
    return LabelledImage(image_id, photo, file, height, width, objects, parts)


def _object(node: Element, number: int) -> LabelledObject:
    box = node.find("bndbox")
    if box is None:
        if node.find("part/bndbox") is not None:
            raise PartBoxError(f"object {number} must have a <bndbox> of its own: only its <part> has one")
        raise ValueError(f"object {number} must have a <bndbox>")
    if not (name := node.findtext("name", "").strip()):
        raise ValueError(f"object {number} must have a <name>")
    difficult = node.findtext("difficult", "0").strip() == "1"
    return LabelledObject(name, _box(box), difficult, where=f"object {number}")


def _box(node: Element) -> tuple[float, float, float, float]:
    values = [node.find(key).text for key in _CORNERS]
    x_min, y_min, x_max, y_max = box_px(values, "<bndbox>")
    return x_min - 1, y_min - 1, x_max, y_max


def _xml(filename: str, height: int, width: int, rows: list, number: str = "{:.8g}") -> str:
    """Rows: class name, box_px, further fields."""
    root = Element("annotation")
    SubElement(root, "filename").text = filename
    size = SubElement(root, "size")
    for key, value in {"width": width, "height": height, "depth": 3}.items():
        SubElement(size, key).text = str(value)
    for name, box, fields in rows:
        node = SubElement(root, "object")
        for key, value in {"name": name, **fields}.items():
            SubElement(node, key).text = value
        corners = SubElement(node, "bndbox")
        for key, value in zip(_CORNERS, np.asarray(box) + np.float32([1, 1, 0, 0]), strict=True):
            SubElement(corners, key).text = number.format(value)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"
