"""Random truth and detections that overlap, tie, crowd and miss in every way."""

import numpy as np

from ssd.metrics.tables import Found, Truth


def random_columns(
    seed: int,
    images: int = 20,
    classes: int = 3,
    most: int = 20,
    crowd: float = 0.1,
    difficult: float = 0.0,
    whole: bool = True,
) -> tuple[Truth, Found]:
    """Truth and detections of a few images.

    Args:
        seed: of the numbers.
        images, classes: how many.
        most: detections and true boxes of an image, at most.
        crowd, difficult: share of the true boxes.
        whole: corners on whole pixels and scores of two digits, so that overlaps and scores tie.
    """
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(0, most + 1, images))
    boxes = _boxes(rng, len(image), whole)
    labels = rng.integers(0, classes, len(image))
    # Detections: true boxes moved a little, some twice, and boxes from nowhere.
    copies = rng.integers(0, 3, len(image))
    source = np.repeat(np.arange(len(image)), copies)
    moved = boxes[source] + rng.normal(0, 3, (len(source), 4))
    away = np.repeat(np.arange(images), rng.integers(0, most // 2 + 1, images))
    found_boxes = np.concatenate([moved, _boxes(rng, len(away), whole)])
    found_boxes = np.round(found_boxes) if whole else found_boxes
    found_boxes[:, 2:] = np.maximum(found_boxes[:, 2:], found_boxes[:, :2] + 1)
    where = np.concatenate([image[source], away])
    order = rng.permutation(len(where))
    which = np.concatenate([labels[source], rng.integers(0, classes, len(away))])
    scores = rng.random(len(where))
    scores = np.round(scores, 2) if whole else scores
    is_crowd = rng.random(len(image)) < crowd
    truth = Truth(
        tuple(str(i + 1) for i in range(images)),
        tuple(f"class {i}" for i in range(classes)),
        image,
        labels,
        boxes,
        boxes[:, 2:] - boxes[:, :2],
        (rng.random(len(image)) < difficult) | is_crowd,
        is_crowd,
        (boxes[:, 2:] - boxes[:, :2]).prod(1) * rng.choice([1, 0.7], len(image)),
    )
    return truth, Found(where[order], which[order], found_boxes[order], scores[order])


def _boxes(rng: np.random.Generator, count: int, whole: bool) -> np.ndarray:
    low = rng.uniform(0, 400, (count, 2))
    boxes = np.concatenate([low, low + rng.choice([12, 40, 90, 200], (count, 1)) * rng.uniform(0.5, 2)], 1)
    return np.round(boxes) if whole else boxes
