"""SSD's training augmentation on albumentations: (image, boxes, labels, seed) -> the first three.

Photometric distortion, expansion up to 4 times on the mean colour, a crop of least IoU, a warp to
the network's square in one of five interpolations, a mirror. Source: Liu et al. 2016,
arXiv:1512.02325, sections 2.2 and 3.6; ranges as in weiliu89/caffe, examples/ssd/ssd_pascal.py.
"""

import threading

import cv2
import numpy as np

from ssd.boxes import as_boxes, iou

try:
    import albumentations as A
except ImportError as error:
    raise ImportError("augmentation needs an extra: pip install '.[train]'") from error

# Smallest IoU with some box that a crop must have; None is the whole image, 0 any crop.
CROP_CHOICES = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
MEAN_COLOUR = (123, 117, 104)  # RGB, ImageNet's


class Expand(A.DualTransform):
    """Put the picture somewhere on a canvas of the mean colour, up to `max_ratio` times its sides.

    It makes small objects; boxes shrink with the picture.
    """

    def __init__(self, max_ratio: float = 4.0, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.max_ratio = max_ratio

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        height, width = params["shape"][:2]
        ratio = self.py_random.uniform(1, self.max_ratio)
        canvas = round(height * ratio), round(width * ratio)
        top = self.py_random.randint(0, canvas[0] - height)
        left = self.py_random.randint(0, canvas[1] - width)
        return {"canvas": canvas, "top": top, "left": left, "size": (height, width)}

    def apply(self, img: np.ndarray, canvas: tuple, top: int, left: int, **_: object) -> np.ndarray:
        out = np.empty((*canvas, 3), dtype=np.uint8)
        out[:] = MEAN_COLOUR
        out[top : top + img.shape[0], left : left + img.shape[1]] = img
        return out

    def apply_to_bboxes(
        self, bboxes: np.ndarray, canvas: tuple, top: int, left: int, size: tuple, **_: object
    ) -> np.ndarray:
        moved = bboxes.copy()
        moved[:, 0:4:2] = (bboxes[:, 0:4:2] * size[1] + left) / canvas[1]
        moved[:, 1:4:2] = (bboxes[:, 1:4:2] * size[0] + top) / canvas[0]
        return moved


class MinIoUCrop(A.DualTransform):
    """Cut a patch of 0.3 to 1 times the sides, aspect ratio 0.5 to 2, that overlaps some box.

    One of `CROP_CHOICES` is drawn; of 50 random patches the first whose IoU with at least one box
    reaches the choice, and that holds the centre of a box, is taken. If none does, another choice
    is drawn. Boxes whose centre lies outside go, the others are cut to the patch.
    """

    def __init__(self, p: float = 1.0, trials: int = 50) -> None:
        super().__init__(p=p)
        self.trials = trials

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        boxes = np.asarray(data["bboxes"], dtype=np.float64)
        height, width = params["shape"][:2]
        whole = np.array([0.0, 0.0, 1.0, 1.0])
        if len(boxes) == 0:
            return {"patch": _to_pixel_edges(whole, height, width)}
        for _ in range(self.trials):
            least = self.py_random.choice(CROP_CHOICES)
            patch = whole if least is None else self._draw(boxes[:, :4], least)
            if patch is not None:
                return {"patch": _to_pixel_edges(patch, height, width)}
        return {"patch": _to_pixel_edges(whole, height, width)}

    def apply(self, img: np.ndarray, patch: np.ndarray, **_: object) -> np.ndarray:
        height, width = img.shape[:2]
        x_min, y_min, x_max, y_max = np.round(patch * [width, height, width, height]).astype(int)
        return np.ascontiguousarray(img[y_min:y_max, x_min:x_max])

    def apply_to_bboxes(self, bboxes: np.ndarray, patch: np.ndarray, **_: object) -> np.ndarray:
        kept = bboxes[_centre_inside(bboxes, patch[None])[0]].copy()
        origin, sides = np.tile(patch[:2], 2), np.tile(patch[2:] - patch[:2], 2)
        kept[:, :4] = np.clip((kept[:, :4] - origin) / sides, 0, 1)
        return kept

    def _draw(self, boxes: np.ndarray, least: float) -> np.ndarray | None:
        """All trials in one vectorised draw; the first patch that satisfies the rule, or None."""
        uniform = self.random_generator.uniform
        scale = uniform(0.3, 1.0, self.trials)
        # The aspect ratio holds within the unit square, as in Caffe, bounded so that sides fit.
        aspect = uniform(np.maximum(0.5, scale**2), np.minimum(2.0, 1 / scale**2))
        sides = np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], axis=1)
        corner = uniform(0, 1, (self.trials, 2)) * (1 - sides)
        patches = np.concatenate([corner, corner + sides], axis=1)
        good = _centre_inside(boxes, patches).any(1)
        good &= iou(patches, boxes).max(1) >= least
        return patches[good.argmax()] if good.any() else None


def photometric() -> A.Compose:
    """Brightness within 32 of 255, contrast and saturation 0.5 to 1.5, hue within 18 of 180.

    Each with probability 0.5; contrast comes before or after the colours, either way as likely.
    """
    brightness = A.RandomBrightnessContrast(
        brightness_limit=32 / 255, contrast_limit=0, brightness_by_max=True, p=0.5
    )
    contrast = A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.5, p=0.5)
    # ColorJitter mixes with grey by a factor; HueSaturationValue would only add to saturation.
    saturation = A.ColorJitter((1, 1), (1, 1), saturation=(0.5, 1.5), hue=(0, 0), p=0.5)
    hue = A.HueSaturationValue(18, 0, 0, p=0.5)
    colours = [saturation, hue]
    orders = [A.Sequential([contrast, *colours]), A.Sequential([*colours, contrast])]
    return A.Sequential([brightness, A.OneOf(orders, p=1.0)])


class SSDAugmentation:
    """The whole chain; the same seed gives the same result.

    Args:
        image_size: side of the resulting square.
        max_expand: largest ratio of the expansion; 1 turns it off.
    """

    def __init__(self, image_size: int, max_expand: float = 4.0) -> None:
        self._image_size, self._max_expand = image_size, max_expand
        self._own = threading.local()  # a chain keeps its random state: every thread has its own

    @property
    def _chain(self) -> A.Compose:
        if not hasattr(self._own, "chain"):
            self._own.chain = self._make()
        return self._own.chain

    def _make(self) -> A.Compose:
        image_size, max_expand = self._image_size, self._max_expand
        resizes = [A.Resize(image_size, image_size, interpolation=i) for i in _INTERPOLATIONS]
        steps = [photometric(), Expand(max_expand), MinIoUCrop(), A.OneOf(resizes, p=1.0)]
        rule = A.BboxParams("albumentations", label_fields=["labels"], clip=True)
        return A.Compose([*steps, A.HorizontalFlip(p=0.5)], bbox_params=rule)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Augment one sample.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) boxes; N may be 0.
            labels: (N,) int labels.
            seed: every random choice follows from it.
        Returns:
            (S, S, 3) uint8 RGB, (M, 4) float32 boxes of positive area, (M,) int64 labels.
        """
        chain = self._chain
        chain.set_random_seed(seed)
        out = chain(image=image, bboxes=np.asarray(boxes), labels=np.asarray(labels))
        boxes, labels = as_boxes(out["bboxes"]), np.asarray(out["labels"], dtype=np.int64)
        # A sliver of less than half a pixel of the square is no box that a network can learn.
        kept = (boxes[:, 2:] - boxes[:, :2] > 0.5 / out["image"].shape[0]).all(1)
        return out["image"], boxes[kept], labels[kept]


def mosaic(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], centre: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four views around a point of one square: smaller objects, on strange ground, and their parts.

    Each view is scaled to cover its quarter and cut there, far from the centre first; boxes whose centre
    is cut off go, the others are cut. Source: Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3.

    Args:
        parts: four of (image, boxes, labels), as `SSDAugmentation` returns them, of one size: top left,
            top right, bottom left, bottom right.
        centre: (x, y) in (0, 1), where they meet.
    Returns:
        (S, S, 3) uint8 RGB, (M, 4) float32 boxes, (M,) int64 labels.
    """
    size = len(parts[0][0])
    out = np.empty((size, size, 3), dtype=np.uint8)
    x, y = (min(max(round(c * size), 1), size - 1) for c in centre)
    boxes, labels = [], []
    for i, (image, own, names) in enumerate(parts):
        left, top, right, bottom = (x, 0, size, y) if i % 2 else (0, 0, x, y)
        if i >= 2:
            top, bottom = y, size
        side = max(right - left, bottom - top)
        scaled = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        # The corner of the view that meets the centre stays.
        shift = np.array([left if i % 2 else right - side, top if i >= 2 else bottom - side])
        out[top:bottom, left:right] = scaled[top - shift[1] :, left - shift[0] :][
            : bottom - top, : right - left
        ]
        quarter = np.array([left, top, right, bottom]) / size
        moved = (own * side + np.tile(shift, 2)) / size
        kept = _centre_inside(moved, quarter[None])[0]
        moved = np.clip(moved[kept], np.tile(quarter[:2], 2), np.tile(quarter[2:], 2))
        large = (moved[:, 2:] - moved[:, :2] > 0.5 / size).all(1)
        boxes.append(moved[large])
        labels.append(names[kept][large])
    return out, as_boxes(np.concatenate(boxes)), np.concatenate(labels).astype(np.int64)


_INTERPOLATIONS = (
    cv2.INTER_LINEAR,
    cv2.INTER_AREA,
    cv2.INTER_NEAREST,
    cv2.INTER_CUBIC,
    cv2.INTER_LANCZOS4,
)


def _to_pixel_edges(patch: np.ndarray, height: int, width: int) -> np.ndarray:
    """Move a patch to whole pixels, at least one wide and high, so that boxes fit the picture."""
    sides = np.array([width, height])
    low = np.minimum(np.floor(patch[:2] * sides), sides - 1)
    high = np.maximum(np.round(patch[2:] * sides), low + 1)
    return np.concatenate([low / sides, high / sides])


def _centre_inside(boxes: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """(patches, boxes) bool: the centre of the box lies in the patch."""
    centre = (boxes[None, :, :2] + boxes[None, :, 2:4]) / 2
    return ((centre > patches[:, None, :2]) & (centre < patches[:, None, 2:])).all(-1)
