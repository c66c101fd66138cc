"""Faults of boxes: those of a whole data set (order of columns, first pixel), then those of one image.

Each function returns the faults and the images mended, so that a fault is explained by its cause
and not told again by its consequences.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ssd.datasets.faults import Fault
from ssd.datasets.labelled import LabelledImage, LabelledObject

TOLERANCE = 0.5  # pixels by which a box may leave its photo: rounding
FAR = 0.05  # of a side: further out is no slip of the hand
ONE_BASED = ("voc", "csv")  # formats whose first pixel is 1


def mend_order(images: list[LabelledImage], one_based: bool) -> tuple[list[Fault], list[LabelledImage]]:
    """Find boxes whose four numbers are in another order than the format's, throughout.

    It takes a fifth of all boxes to be impossible as they are and nearly none in the other order.

    Args:
        images: of a whole data set.
        one_based: whether the format counts pixels from 1.
    """
    boxes, sizes = _arrays(images)
    if (wrong := _impossible(boxes, sizes).sum()) < max(3, 0.2 * len(boxes)):
        return [], images
    base = np.array([1, 1, 0, 0]) * one_based
    left = {name: _impossible(order(boxes + base) - base, sizes).sum() for name, order in _ORDERS.items()}
    name = min(left, key=left.get)
    if left[name] > 0.02 * len(boxes):
        return [], images
    first = next(i for i in images if i.objects and _impossible(*_arrays([i])).any())
    text = f"the numbers of all boxes are {name}: {wrong} of {len(boxes)} boxes are impossible as they are"
    return [Fault("swapped_columns", first.source, text)], [
        _moved(image, lambda box: _ORDERS[name](box + base) - base) for image in images
    ]


def mend_origin(images: list[LabelledImage], one_based: bool) -> tuple[list[Fault], list[LabelledImage]]:
    """Find boxes that count pixels from 0 where the format counts from 1, or the other way round.

    A single 0 tells of the first: no VOC coordinate is 0. The second takes three boxes that reach
    just beyond the right or lower edge, and none at the left or upper one.

    Args:
        images: of a whole data set.
        one_based: whether the format counts pixels from 1.
    """
    boxes, sizes = _arrays(images)
    low, high = boxes[:, :2], sizes - boxes[:, 2:]
    if one_based and (count := int((low == -1).any(1).sum())):
        first = next(image for image in images if -1 in _arrays([image])[0][:, :2])
        text = f"{count} of {len(boxes)} boxes have a 0 for xmin or ymin, where the first pixel is 1"
        # Right edges at the full width show that those are right already, or exclusive. Ones show
        # that only some boxes slipped.
        shift = [1, 1, 1, 1] if not (high == 0).any() else [1, 1, 0, 0]
        if (low == 0).sum() > count:
            return [Fault("zero_based", first.source, text)], [
                _moved(image, lambda box: np.maximum(box, [0, 0, -np.inf, -np.inf])) for image in images
            ]
        return [Fault("zero_based", first.source, text + "; all boxes are moved by one")], _shifted(
            images, shift
        )
    beyond = (np.abs(high + 1) < 0.01).any(1)
    if not one_based and beyond.sum() >= 3 and not (low < TOLERANCE).any():
        first = next(image for image in images if _reaches_beyond(image))
        text = (
            f"{int(beyond.sum())} of {len(boxes)} boxes end one pixel beyond the photo, and none begins at 0"
        )
        return [Fault("one_based", first.source, text)], _shifted(images, [-1, -1, -1, -1])
    return [], images


def mend_image(image: LabelledImage, one_based: bool) -> tuple[list[Fault], LabelledImage]:
    """The faults of the boxes of one image, one fault a box, and the image without them.

    Boxes are sorted, cut to the photo, or left out where nothing remains or they are there twice.
    """
    faults, kept, seen = [], [], {}
    parts = {(name, box) for name, box in image.part_boxes}
    for found in image.objects:
        kind, text, box = _examine(found, image.height, image.width, one_based)
        if (found.name, found.box_px) in parts:
            kind, text, box = "part_box", "is a <part> of another object in the same file", None
        elif kind is None and (found.name, found.box_px) in seen:
            kind, text, box = "duplicate_box", f"is the same as {seen[found.name, found.box_px]}", None
        seen.setdefault((found.name, found.box_px), found.where)
        if kind:
            numbers = ", ".join(f"{v:g}" for v in found.box_px)
            head = f"{found.where} ({found.name} {numbers}; pixels from 0)"
            faults.append(Fault(kind, image.source, f"{head} {text}"))
        if box is not None:
            kept.append(replace(found, box_px=box) if kind else found)
    return faults, replace(image, objects=tuple(kept))


def turn_boxes(image: LabelledImage, orientation: int, height: int, width: int) -> LabelledImage:
    """Turn boxes of the stored photo into those of the photo as it is seen.

    Args:
        image: its labels.
        orientation: EXIF's, 1 to 8.
        height: of the photo as stored; width likewise.
    """

    def turn(box: np.ndarray) -> np.ndarray:
        x, y = box[:, 0::2], box[:, 1::2]
        x, y = {
            1: (x, y),
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }[orientation]
        return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)

    size = (width, height) if orientation >= 5 else (height, width)
    return replace(_moved(image, turn), height=size[0], width=size[1])


def scale_boxes(image: LabelledImage, height: int, width: int) -> LabelledImage:
    """Labels of a photo that has another size now."""
    factor = np.array([width / image.width, height / image.height] * 2)
    return replace(_moved(image, lambda box: box * factor), height=height, width=width)


# What the four numbers are -> the boxes that they mean, (N, 4) to (N, 4).
_ORDERS: dict[str, Callable] = {
    "ymin, xmin, ymax, xmax": lambda b: b[:, [1, 0, 3, 2]],
    "xmin, xmax, ymin, ymax": lambda b: b[:, [0, 2, 1, 3]],
    "ymin, ymax, xmin, xmax": lambda b: b[:, [2, 0, 3, 1]],
    "xmax, ymax, xmin, ymin": lambda b: b[:, [2, 3, 0, 1]],
    "x, y, width, height": lambda b: np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1),
    "corners in place of x, y, width, height": lambda b: np.concatenate(
        [b[:, :2], b[:, 2:] - b[:, :2]], axis=1
    ),
}


def _examine(
    found: LabelledObject, height: int, width: int, one_based: bool
) -> tuple[str | None, str, tuple | None]:
    """Kind of fault or None, what is wrong, and the mended box; None where none remains."""
    x_min, y_min, x_max, y_max = found.box_px
    sides = x_max - x_min - one_based, y_max - y_min - one_based  # 0 where the two numbers are equal
    if min(sides) < 0:
        xs, ys = (sorted((x_min + one_based, x_max)), sorted((y_min + one_based, y_max)))
        box = (xs[0] - one_based, ys[0] - one_based, xs[1], ys[1])
        text = " and ".join(
            f"{axis}min is above {axis}max" for axis, side in zip("xy", sides, strict=True) if side < 0
        )
        return "swapped_columns", text, _cut(box, height, width)
    if min(sides) == 0:
        return "zero_area", "has no area", None
    out = max(-x_min, -y_min, x_max - width, y_max - height)
    if out <= TOLERANCE:
        return None, "", found.box_px
    exchanged = (y_min, x_min, y_max, x_max)
    far = out > max(FAR * min(height, width), 2)
    if far and _cut(exchanged, height, width) == exchanged:
        return "swapped_columns", f"fits the photo of {width}x{height} only with x and y exchanged", exchanged
    text = f"reaches {out:g} pixels beyond the photo of {width}x{height}"
    return "out_of_image", text, _cut(found.box_px, height, width)


def _cut(box: tuple, height: int, width: int) -> tuple | None:
    """The part of a box within the photo, or None."""
    x_min, y_min = max(box[0], 0.0), max(box[1], 0.0)
    x_max, y_max = min(box[2], float(width)), min(box[3], float(height))
    return (x_min, y_min, x_max, y_max) if x_min < x_max and y_min < y_max else None


def _arrays(images: list[LabelledImage]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes in pixels and (N, 2) width and height of the photo of each."""
    rows = [(found.box_px, (image.width, image.height)) for image in images for found in image.objects]
    boxes, sizes = zip(*rows, strict=True) if rows else ((), ())
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(sizes, np.float64).reshape(-1, 2)


def _impossible(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    inverted = (boxes[:, :2] >= boxes[:, 2:]).any(1)
    slack = 2 + 0.02 * sizes
    return inverted | (boxes[:, :2] < -2).any(1) | (boxes[:, 2:] > sizes + slack).any(1)


def _reaches_beyond(image: LabelledImage) -> bool:
    boxes, sizes = _arrays([image])
    return bool((np.abs(sizes - boxes[:, 2:] + 1) < 0.01).any())


def _moved(image: LabelledImage, move: Callable) -> LabelledImage:
    """An image with its boxes, (N, 4), passed through a function."""
    if not image.objects:
        return image
    boxes = move(_arrays([image])[0]).tolist()
    rows = zip(image.objects, boxes, strict=True)
    return replace(image, objects=tuple(replace(found, box_px=tuple(box)) for found, box in rows))


def _shifted(images: list[LabelledImage], shift: list[int]) -> list[LabelledImage]:
    return [_moved(image, lambda box: box + shift) for image in images]
