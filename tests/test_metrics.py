import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_boxes import random_columns

from ssd.datasets.voc import read_annotation
from ssd.metrics.coco import rank_coco, score_coco
from ssd.metrics.tables import Found, Truth, truth_of_samples
from ssd.metrics.voc import (
    average_precision_07,
    average_precision_10,
    evaluate_voc,
    precision_recall,
    rank_voc,
    score_voc,
)
from ssd.records import Detections, Sample
from ssd.spec import VOC_CLASSES


def sample(boxes_px, labels=None, difficult=None):
    """Truth in pixels: an image of 1x1 keeps pixel numbers exact."""
    n = len(boxes_px)
    boxes = np.float32(boxes_px).reshape(n, 4)
    labels = np.zeros(n, int) if labels is None else np.array(labels, int)
    difficult = np.zeros(n, bool) if difficult is None else np.array(difficult, bool)
    return Sample("x", Path("x"), 1, 1, boxes, labels, difficult)


def found(boxes_px, scores, labels=None, names=("a",)):
    labels = np.zeros(len(scores), int) if labels is None else labels
    return Detections(np.float32(boxes_px).reshape(-1, 4), labels, scores, names, 1, 1)


def score(samples, detections, names=("a",), iou=0.5):
    out = evaluate_voc(samples, detections, names, iou)
    return out["voc07"]["mAP"], out["voc10"]["mAP"]


def test_average_precision_by_hand():
    # Two true boxes; hit, miss, hit: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    precision, recall = np.array([1, 1 / 2, 2 / 3]), np.array([0.5, 0.5, 1])
    assert average_precision_10(precision, recall) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # Levels 0 to 0.5 see precision 1 (6 of them), 0.6 to 1 see 2/3 (5).
    assert average_precision_07(precision, recall) == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert average_precision_07(np.zeros(0), np.zeros(0)) == 0


def test_eleven_points_compare_as_published_programs_do():
    # Ten true boxes, three found: recall 3/10 < 0.30000000000000004, so levels 0, 0.1, 0.2 count.
    assert average_precision_07(np.ones(3), np.arange(1, 4) / 10) == pytest.approx(3 / 11)


def test_a_box_that_was_hit_before_makes_a_false_positive():
    truth = [sample([[0, 0, 10, 10], [50, 50, 60, 60]])]
    twice = [found([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8, 0.7])]
    assert score(truth, twice)[1] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_only_the_best_overlapping_box_counts():
    # The second detection overlaps box A best, which is taken, and box B by 0.6 too: still false.
    truth = [sample([[0, 0, 10, 10], [4, 0, 14, 10]])]
    detections = [found([[0, 0, 10, 10], [1, 0, 11, 10]], [0.9, 0.8])]
    assert score(truth, detections)[1] == pytest.approx(0.5)


def test_difficult_boxes_count_neither_way():
    truth = [sample([[0, 0, 10, 10], [50, 50, 60, 60]], difficult=[True, False])]
    both = [found([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8, 0.7])]
    assert score(truth, both) == pytest.approx((1, 1))
    only = [sample([[0, 0, 10, 10]], difficult=[True])]
    assert score(only, both) == (None, None)


def test_inclusive_pixels():
    # 1-based inclusive (1,1,10,10) and (1,1,10,5): 100 and 50 pixels, IoU exactly 0.5: a hit.
    assert score([sample([[0, 0, 10, 10]])], [found([[0, 0, 10, 5]], [0.9])]) == pytest.approx((1, 1))


def test_classes_without_truth_stay_out_of_the_mean():
    out = evaluate_voc([sample([[0, 0, 9, 9]])], [found([[0, 0, 9, 9]], [1.0], names=("a", "b"))], ("a", "b"))
    assert out["voc07"] == {"mAP": pytest.approx(1), "AP": {"a": pytest.approx(1), "b": None}}


def test_empty_images():
    assert score([sample([])], [found([], [])]) == (None, None)
    assert score([sample([[0, 0, 1, 1]])], [found([], [])]) == (0, 0)
    with pytest.raises(ValueError, match="every image"):
        evaluate_voc([sample([])], [], ("a",))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_order_of_images_and_of_detections_with_other_scores_is_no_matter(data):
    count = data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    truth, results = [], []
    for _ in range(count):
        low = rng.uniform(0, 80, (rng.integers(0, 6), 2))
        boxes = np.concatenate([low, low + rng.uniform(5, 20, low.shape)], 1)
        truth.append(sample(boxes, difficult=rng.random(len(boxes)) < 0.2))
        noisy = np.concatenate([boxes + rng.normal(0, 2, boxes.shape), boxes + 30])
        results.append(found(noisy, rng.permutation(len(noisy)) / 100 + rng.random() / 1000))
    straight = score(truth, results)
    order, inner = rng.permutation(count), [rng.permutation(len(r)) for r in results]
    mixed = score([truth[i] for i in order], [results[i][inner[i]] for i in order])
    assert mixed == pytest.approx(straight)


def _padilla(folder, kind, columns):
    """name -> (boxes in x, y, x + w, y + h with Padilla's +1, scores), files by name."""
    out = {}
    for file in sorted((folder / kind).glob("*.txt")):
        rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
        numbers = np.array([[float(v) for v in row[1:]] for row in rows]).reshape(len(rows), columns)
        box = numbers[:, -4:]
        # Corners x .. x + w, inclusive: one pixel wider in exclusive corners.
        corners = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:] + 1], 1)
        out[file.stem] = corners, numbers[:, 0] if columns == 5 else None
    return out


def test_padilla_case1(shared):
    folder = shared / "data/eval_reference/padilla_case1"
    expected = json.loads((folder / "expected.json").read_text())
    truth, dets = _padilla(folder, "gts", 4), _padilla(folder, "dets", 5)
    samples = [sample(truth[k][0]) for k in sorted(truth)]
    results = [found(*dets[k]) if k in dets else found([], []) for k in sorted(truth)]
    for threshold in ("0.1", "0.3", "0.5", "0.75"):
        eleven, area = score(samples, results, iou=float(threshold))
        assert eleven == pytest.approx(expected["eleven_point"][threshold], abs=1e-9)
        assert area == pytest.approx(expected["every_point"][threshold], abs=1e-9)


def test_padilla_toy_cats(shared):
    folder = shared / "data/eval_reference/padilla_toy_cats"
    expected = json.loads((folder / "expected.json").read_text())
    dets = _padilla(folder, "dets_xywh", 5)
    samples, results = [], []
    for xml in sorted((folder / "gts_voc_xml").glob("*.xml")):
        objects = [o for o in read_annotation(xml)[2] if o[0] == "cat"]
        # That program reads XML corners as 0-based inclusive: shift by the 1 that VOC takes off.
        boxes = [[x0 + 1, y0 + 1, x1 + 1, y1 + 1] for _, (x0, y0, x1, y1), _ in objects]
        samples.append(sample(boxes, difficult=[hard for *_, hard in objects]))
        results.append(found(*dets[xml.stem]) if xml.stem in dets else found([], []))
    for threshold in ("0.5", "0.75"):
        eleven, area = score(samples, results, iou=float(threshold))
        assert round(eleven, 4) == expected["eleven_point"][threshold]
        assert round(area, 4) == expected["every_point"][threshold]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_voc2007_truth_as_detections_scores_one(shared, threshold):
    folder = shared / "data/eval_reference"
    truth = json.loads(gzip.decompress((folder / "voc_groundtruth/voc2007.json.gz").read_bytes()))
    ids = sorted(k for k, v in truth.items() if v["split"] == "test")
    rows = {k: ([], []) for k in ids}
    for label, name in enumerate(VOC_CLASSES):
        for line in (folder / f"voc2007_test/label_det/label_det_test_{name}.txt").read_text().splitlines():
            image, _, x0, y0, x1, y1 = line.split()
            rows[image][0].append([float(x0) - 1, float(y0) - 1, float(x1), float(y1)])
            rows[image][1].append(label)
    samples, results = [], []
    for k in ids:
        objects = truth[k]["objects"]
        boxes = [[o[1] - 1, o[2] - 1, o[3], o[4]] for o in objects]
        samples.append(sample(boxes, [VOC_CLASSES.index(o[0]) for o in objects], [o[5] for o in objects]))
        results.append(found(rows[k][0], np.ones(len(rows[k][0])), rows[k][1], VOC_CLASSES))
    out = evaluate_voc(samples, results, VOC_CLASSES, threshold)
    assert {round(v, 4) for v in out["voc07"]["AP"].values()} == {1.0}


def ap10(truth, detections):
    curves = [precision_recall(ranking) for ranking in rank_voc(truth, detections)]
    return [None if curve is None else average_precision_10(*curve) for curve in curves]


def one_more(found, image, label, box, score):
    parts = [(found.image, image), (found.labels, label), (found.boxes_px, [box]), (found.scores, score)]
    return Found(*(np.concatenate([a, np.atleast_1d(b) if np.ndim(b) < 2 else b]) for a, b in parts))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 200), st.booleans())
def test_one_more_detection_of_the_lowest_score(seed, images, most, on_a_box):
    """As a miss it leaves AP by area as it is; as a hit it raises it by what the definition allows."""
    truth, detections = random_columns(seed, images, 2, most, difficult=0.1)
    rng = np.random.default_rng(seed)
    image, label, box = 0, int(rng.integers(2)), np.array([900.0, 900, 950, 950])
    if on_a_box and len(truth):
        pick = int(rng.integers(len(truth)))
        image, label, box = truth.image[pick], int(truth.labels[pick]), truth.boxes_px[pick]
    more = one_more(detections, image, label, box, -1.0)
    before, after = ap10(truth, detections), ap10(truth, more)
    assert before[1 - label] == after[1 - label]
    if before[label] is None:
        assert after[label] is None
        return
    ranking = rank_voc(truth, more)[label]
    hit = ranking.verdict[-1] == 1
    verdict = ranking.verdict[ranking.verdict != -1]
    hits, counted = (verdict == 1).sum(), len(verdict)
    if not hit:
        assert after[label] == pytest.approx(before[label])
        return
    # All that the definition allows: the new step has the precision at the end, and hits that stood below
    # it in the envelope rise to it.
    last = hits / counted
    old = verdict[:-1]
    envelope = np.maximum.accumulate((np.cumsum(old == 1) / np.arange(1, counted))[::-1])[::-1]
    allowed = (np.maximum(envelope[old == 1], last).sum() + last) / ranking.truths.sum()
    assert after[label] == pytest.approx(allowed)
    assert after[label] > before[label]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 200))
def test_shuffling_changes_nothing(seed, images, most):
    """Images and detections in any order, all scores different: the same numbers by all three rules."""
    truth, detections = random_columns(seed, images, 3, most, difficult=0.1, whole=False)
    rng = np.random.default_rng(seed)
    place = rng.permutation(images)  # where each image goes
    order = rng.permutation(len(detections))
    ids = tuple(str(i + 1) for i in range(images))
    boxes = np.arange(len(truth))  # of true boxes that are overlapped equally the first counts
    columns = (truth.boxes_px, truth.sides_px, truth.difficult, truth.crowd, truth.area)
    mixed = Truth(
        ids, truth.class_names, place[truth.image][boxes], truth.labels[boxes], *(c[boxes] for c in columns)
    )
    moved = detections[order]
    moved = Found(place[moved.image], moved.labels, moved.boxes_px, moved.scores)
    for score_all in (
        lambda t, f: score_voc(rank_voc(t, f), t.class_names),
        lambda t, f: {"coco": score_coco(rank_coco(t, f))},
    ):
        assert score_all(mixed, moved) == score_all(truth, detections)


def test_equal_scores_keep_the_order_given():
    """Hit first or miss first, at one score: 1 or 1/2."""
    truth = truth_of_samples([sample([[0, 0, 10, 10]])], ("a",))
    boxes, zeros = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]]), np.zeros(2, int)
    assert ap10(truth, Found(zeros, zeros, boxes, np.full(2, 0.5))) == [1]
    assert ap10(truth, Found(zeros, zeros, boxes[::-1].copy(), np.full(2, 0.5))) == [0.5]


def test_the_threshold_itself_is_a_hit():
    """IoU exactly 1/2 and a little less; the devkit asks for >=."""
    truth = truth_of_samples([sample([[0, 0, 10, 10]])], ("a",))
    zero = np.zeros(1, int)
    assert ap10(truth, Found(zero, zero, np.array([[0.0, 0, 10, 5]]), np.ones(1))) == [1]
    assert ap10(truth, Found(zero, zero, np.array([[0.0, 0, 10, 4.99]]), np.ones(1))) == [0]
