"""Time of all three protocols on 5,000 images of 100 detections, against pycocotools for COCO's alone.

    python tests/benchmark_metrics.py [--bootstrap 1000]

Both start from boxes in memory, in the form that each takes: columns here, dictionaries there. The
numbers must be equal, digit for digit.
"""

import argparse
import time

import numpy as np
from reference_coco import coco_files, pycocotools_scores

from ssd.metrics.coco import rank_coco, score_coco
from ssd.metrics.tables import Found, Truth
from ssd.metrics.voc import rank_voc, score_voc


def make(images: int, detections: int, classes: int, seed: int = 0) -> tuple[Truth, Found]:
    """Three true boxes an image on average; half of their copies moved a little, the rest anywhere."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(1, 6, images))
    boxes = random_boxes(rng, len(image))
    labels = rng.integers(0, classes, len(image))
    where = np.repeat(np.arange(images), detections)
    found, kind = random_boxes(rng, len(where)), rng.integers(0, classes, len(where))
    first = np.minimum(np.searchsorted(image, where) + rng.integers(0, 3, len(where)), len(image) - 1)
    near = (rng.random(len(where)) < 0.1) & (image[first] == where)
    source = first[near]
    found[near] = boxes[source] + rng.normal(0, 12, (len(source), 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    kind[near] = np.where(rng.random(len(source)) < 0.8, labels[source], kind[near])
    sides = boxes[:, 2:] - boxes[:, :2]
    crowd = rng.random(len(image)) < 0.02
    names, ids = tuple(f"class {i}" for i in range(classes)), tuple(str(i + 1) for i in range(images))
    truth = Truth(ids, names, image, labels, boxes, sides, crowd, crowd, sides.prod(1))
    return truth, Found(where, kind, found, rng.random(len(where)))


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 4) boxes in a picture of 640 by 480 or so."""
    low = rng.uniform(0, 400, (count, 2))
    return np.concatenate([low, low + np.exp(rng.uniform(np.log(10), np.log(240), (count, 2)))], 1)


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--bootstrap", type=int, default=0, help="also time intervals of so many resamples")
    options = parser.parse_args()
    truth, found = make(options.images, options.detections, options.classes)
    print(f"{options.images} images, {len(truth)} true boxes, {len(found)} detections")
    started = time.perf_counter()
    rankings = rank_voc(truth, found)
    score_voc(rankings, truth.class_names)
    voc = time.perf_counter() - started
    started = time.perf_counter()
    coco_rankings = rank_coco(truth, found)
    scores = score_coco(coco_rankings)
    coco = time.perf_counter() - started
    print(f"ours: VOC07 and VOC2010+ {voc:.2f} s, COCO {coco:.2f} s, together {voc + coco:.2f} s")
    if options.bootstrap:
        from ssd.metrics.bootstrap import intervals

        started = time.perf_counter()
        intervals(rankings, coco_rankings, truth.class_names, options.bootstrap)
        print(f"ours: intervals of {options.bootstrap} resamples {time.perf_counter() - started:.1f} s")
    data, results = coco_files(truth, found)
    started = time.perf_counter()
    reference = pycocotools_scores(data, results)
    theirs = time.perf_counter() - started
    print(f"pycocotools: COCO {theirs:.1f} s; ratio {theirs / (voc + coco):.1f}")
    print(f"the twelve numbers are equal: {scores == reference} (AP {scores['AP']:.6f})")


if __name__ == "__main__":
    main()
