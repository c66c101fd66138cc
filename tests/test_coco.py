"""COCO's numbers against pycocotools, published numbers and cases by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_boxes import random_columns
from reference_coco import KEYS, coco_files, pycocotools_scores

from ssd.metrics.coco import rank_coco, score_coco
from ssd.metrics.tables import Found, Truth


def columns(true_boxes, found_boxes, scores, crowd=None, difficult=None):
    """One image, one class."""
    true_boxes = np.array(true_boxes, float).reshape(-1, 4)
    found_boxes = np.array(found_boxes, float).reshape(-1, 4)
    n, k = len(true_boxes), len(found_boxes)
    crowd = np.zeros(n, bool) if crowd is None else np.array(crowd)
    difficult = crowd if difficult is None else np.array(difficult)
    sides = true_boxes[:, 2:] - true_boxes[:, :2]
    zeros = np.zeros(n, int)
    truth = Truth(("1",), ("a",), zeros, zeros, true_boxes, sides, difficult, crowd, sides.prod(1))
    return truth, Found(np.zeros(k, int), np.zeros(k, int), found_boxes, np.array(scores, float))


def score(*args, **options):
    return score_coco(rank_coco(*columns(*args, **options)))


def test_by_hand():
    # IoU of 100 x 100 and 100 x 72 is 0.72: a hit at 0.5, 0.55, 0.6, 0.65 and 0.7, of ten thresholds.
    out = score([[0, 0, 100, 100]], [[0, 0, 100, 72]], [0.9])
    assert out["AP"] == pytest.approx(0.5)
    assert (out["AP50"], out["AP75"], out["AR100"]) == pytest.approx((1, 0, 0.5))
    assert out["APl"] == pytest.approx(0.5)  # 10,000 square pixels are above 96 * 96
    assert out["APs"] is out["APm"] is None


def test_a_crowd_takes_any_number_and_counts_neither_way():
    crowd = [[0, 0, 200, 200], [300, 300, 400, 400]]
    boxes = [[0, 0, 50, 50], [60, 60, 90, 90], [300, 300, 400, 400]]
    assert score(crowd, boxes, [0.9, 0.8, 0.7], crowd=[True, False])["AP"] == pytest.approx(1)
    # The same box as difficult is taken by none of the two, which overlap it too little.
    assert score(crowd, boxes, [0.9, 0.8, 0.7], difficult=[True, False])["AP"] == pytest.approx(1 / 3)


def test_nothing_there():
    assert set(score([], [], []).values()) == {None}
    assert score([[0, 0, 9, 9]], [], [])["AP"] == 0
    assert set(score([], [[0, 0, 9, 9]], [0.5]).values()) == {None}
    assert set(score_coco([]).values()) == {None}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools_digit_for_digit(seed, whole):
    truth, found = random_columns(seed, difficult=0.1 * (seed % 2), whole=whole)
    assert score_coco(rank_coco(truth, found)) == pycocotools_scores(*coco_files(truth, found))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(0, 200), st.booleans())
def test_equals_pycocotools_on_any_boxes(seed, images, classes, most, whole):
    truth, found = random_columns(seed, images, classes, most, crowd=0.2, whole=whole)
    assert score_coco(rank_coco(truth, found)) == pycocotools_scores(*coco_files(truth, found))


def test_more_than_a_hundred_detections_of_an_image():
    rng = np.random.default_rng(0)
    boxes = [[10, 10, 60, 60]] * 150 + [[100, 100, 150, 150]]
    truth, found = columns([[10, 10, 60, 60], [100, 100, 150, 150]], boxes, [*rng.uniform(0.5, 1, 150), 0.1])
    ours = score_coco(rank_coco(truth, found))
    assert ours == pycocotools_scores(*coco_files(truth, found))
    assert ours["AR100"] == pytest.approx(0.5)  # the 151st is beyond the hundred


def test_published_numbers_of_padilla(shared):
    """To all six digits, through the reference's own reading of the two files."""
    folder = shared / "data/eval_reference/padilla_coco_sample"
    expected = json.loads((folder / "expected.json").read_text())
    data = json.loads((folder / "gts.json").read_text())
    results = json.loads((folder / "dets.json").read_text())["annotations"]
    images = {row["id"]: i for i, row in enumerate(data["images"])}
    labels = {row["id"]: i for i, row in enumerate(sorted(data["categories"], key=lambda r: r["id"]))}
    boxes = np.array([row["bbox"] for row in data["annotations"]], float)
    crowd = np.array([row["iscrowd"] for row in data["annotations"]], bool)
    truth = Truth(
        tuple(map(str, images)),
        tuple(map(str, labels)),
        np.array([images[row["image_id"]] for row in data["annotations"]]),
        np.array([labels[row["category_id"]] for row in data["annotations"]]),
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
        boxes[:, 2:],
        crowd,
        crowd,
        np.array([row["area"] for row in data["annotations"]], float),
    )
    boxes = np.array([row["bbox"] for row in results], float)
    found = Found(
        np.array([images[row["image_id"]] for row in results]),
        np.array([labels[row["category_id"]] for row in results]),
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
        np.array([row["score"] for row in results], float),
        boxes[:, 2:],
    )
    ours = score_coco(rank_coco(truth, found))
    names = {"s": "small", "m": "medium", "l": "large"}
    for key in KEYS:
        published = expected.get(key, expected.get(key[:2] + names.get(key[2:], "")))
        assert round(ours[key], 6) == published, key
    assert ours == pycocotools_scores(data, results)
