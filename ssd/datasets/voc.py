"""The PASCAL VOC devkit layout: JPEGImages/, Annotations/*.xml, ImageSets/Main/*.txt.

The only room with VOC's pixels, which are 1-based and inclusive: read (x_min - 1, y_min - 1,
x_max, y_max), written as the inverse, so that widths and IoU equal the devkit's.
"""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ssd.boxes import as_boxes, check_boxes, from_pixels
from ssd.images import IMAGE_SUFFIXES
from ssd.records import Detections, Sample


def read_split(root: str | Path, split: str, class_names: tuple[str, ...]) -> list[Sample]:
    """Read the samples of ImageSets/Main/SPLIT.txt; objects of other classes are left out.

    Args:
        root: the folder that holds Annotations/ and JPEGImages/.
        split: name of the list, such as "train".
        class_names: labels index this.
    Raises:
        OSError: a file is missing.
        ValueError: an annotation is damaged; the message names it.
    """
    root = Path(root)
    index = {path.stem: path for path in _images(root)}
    samples = []
    for image_id in split_ids(root, split):
        if image_id not in index:
            raise FileNotFoundError(f"image {image_id} of split {split} is not in {root / 'JPEGImages'}")
        annotation = root / "Annotations" / f"{image_id}.xml"
        samples.append(_sample(image_id, index[image_id], annotation, class_names))
    return samples


def split_ids(root: str | Path, split: str) -> list[str]:
    """The image ids of a split file, in order.

    Raises:
        FileNotFoundError: no such split; the message lists those that exist.
    """
    folder = Path(root) / "ImageSets" / "Main"
    file = folder / f"{split}.txt"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"split must be one of: {known}. Received: {split!r} in {root}")
    return [line.split()[0] for line in file.read_text("utf-8").splitlines() if line.strip()]


def find_classes(root: str | Path, split: str) -> tuple[str, ...]:
    """The class names that occur in a split, sorted."""
    folder = Path(root) / "Annotations"
    names = set()
    for image_id in split_ids(root, split):
        names |= {name for name, _, _ in read_annotation(folder / f"{image_id}.xml")[2]}
    return tuple(sorted(names))


def read_annotation(path: str | Path) -> tuple[int, int, list[tuple[str, list[float], bool]]]:
    """Read one XML file.

    Returns:
        height, width, and a row an object: name, [x_min, y_min, x_max, y_max] in 0-based exclusive
        pixels, difficult. Boxes of <part> (head, hand, foot) are no objects.
    Raises:
        ValueError: it is not XML, uses entities, or lacks a field.
    """
    try:
        tree = fromstring(Path(path).read_bytes())
        height, width = (int(tree.find(f"size/{side}").text) for side in ("height", "width"))
        objects = [_object(node) for node in tree.findall("object")]
    except (ParseError, DefusedXmlException, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"an annotation must be VOC XML. Received: {path} ({error})") from None
    if height <= 0 or width <= 0:
        raise ValueError(f"<size> must be positive. Received: {width}x{height} in {path}")
    return height, width, objects


def annotation_xml(detections: Detections, filename: str) -> str:
    """The XML text of detections, as `read_annotation` reads it, with a <score> an object."""
    root = Element("annotation")
    SubElement(root, "filename").text = filename
    size = SubElement(root, "size")
    sides = {"width": detections.width, "height": detections.height, "depth": 3}
    for key, value in sides.items():
        SubElement(size, key).text = str(value)
    for name, score, box in zip(detections.names, detections.scores, detections.boxes_px, strict=True):
        node = SubElement(root, "object")
        for key, value in {"name": name, "difficult": "0", "score": f"{score:.4f}"}.items():
            SubElement(node, key).text = value
        corners = SubElement(node, "bndbox")
        for key, value in zip(_CORNERS, box + np.float32([1, 1, 0, 0]), strict=True):
            SubElement(corners, key).text = f"{value:.2f}"
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _images(root: Path) -> list[Path]:
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise FileNotFoundError(f"a VOC data set must have a folder JPEGImages. Received: {root}")
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]


def _object(node: Element) -> tuple[str, list[float], bool]:
    box = node.find("bndbox")
    x_min, y_min, x_max, y_max = (float(box.find(key).text) for key in _CORNERS)
    name = node.find("name").text.strip()
    return name, [x_min - 1, y_min - 1, x_max, y_max], node.findtext("difficult", "0").strip() == "1"


def _sample(image_id: str, path: Path, annotation: Path, class_names: tuple[str, ...]) -> Sample:
    height, width, objects = read_annotation(annotation)
    kept = [(class_names.index(n), box, hard) for n, box, hard in objects if n in class_names]
    labels, boxes_px, difficult = zip(*kept, strict=True) if kept else ((), (), ())
    boxes = from_pixels(as_boxes(boxes_px), height, width)
    check_boxes(boxes, str(annotation))
    return Sample(image_id, path, height, width, boxes, np.array(labels, np.int64), np.array(difficult, bool))
