"""Intervals, comparison, errors, confusion, calibration and the operating point."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_boxes import random_columns

from ssd.evaluation import Evaluation
from ssd.metrics import bootstrap
from ssd.metrics.calibration import calibrate
from ssd.metrics.coco import coco_curves, rank_coco
from ssd.metrics.confusion import confusion_matrix
from ssd.metrics.errors import KINDS, find_errors
from ssd.metrics.matches import compare, pack_matches, read_scored, unpack_matches
from ssd.metrics.operating import Share, choose_threshold, operating_points
from ssd.metrics.tables import Found, Truth
from ssd.metrics.voc import average_precision_07, average_precision_10, precision_recall, rank_voc, score_voc

NAMES = ("cat", "dog")


def truth_of(rows, difficult=None, images=1):
    """Rows of (image, class, box)."""
    boxes = np.array([r[2] for r in rows], float).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    hard = np.zeros(len(rows), bool) if difficult is None else np.array(difficult)
    ids = tuple(f"p{i}" for i in range(images))
    image, labels = (np.array([r[i] for r in rows], int) for i in (0, 1))
    return Truth(ids, NAMES, image, labels, boxes, sides, hard, hard & False, sides.prod(1))


def found_of(rows):
    """Rows of (image, class, box, score)."""
    boxes = np.array([r[2] for r in rows], float).reshape(-1, 4)
    image, labels = (np.array([r[i] for r in rows], int) for i in (0, 1))
    return Found(image, labels, boxes, np.array([r[3] for r in rows], float))


A, B, FAR = [0, 0, 100, 100], [200, 0, 300, 100], [500, 500, 600, 600]
HALF = [0, 0, 100, 40]  # overlaps A by 0.4


def drawn(truth, found, counts):
    """The columns of a resample, written out image by image."""
    picks = np.repeat(np.arange(len(counts)), counts)
    t = np.concatenate([np.flatnonzero(truth.image == i) for i in picks])
    f = np.concatenate([np.flatnonzero(found.image == i) for i in picks])
    image = [
        np.repeat(np.arange(len(picks)), [(c == i).sum() for i in picks]) for c in (truth.image, found.image)
    ]
    columns = (truth.labels, truth.boxes_px, truth.sides_px, truth.difficult, truth.crowd, truth.area)
    ids = tuple(str(i) for i in range(len(picks)))
    again = Truth(ids, truth.class_names, image[0], *(c[t] for c in columns))
    return again, Found(image[1], found.labels[f], found.boxes_px[f], found.scores[f])


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_is_what_evaluating_it_anew_gives(seed):
    truth, found = random_columns(seed, images=12, classes=2, difficult=0.1, whole=False)
    draws = bootstrap.draw(12, 3, seed)
    voc, coco = rank_voc(truth, found), rank_coco(truth, found)
    for b, counts in enumerate(draws):
        again = drawn(truth, found, counts)
        for label, ranking in enumerate(rank_voc(*again)):
            seven, ten = bootstrap.resample_voc(voc[label], draws)
            curve = precision_recall(ranking)
            # Copies of an image are one step here, several there, each no better than the last.
            if curve is not None:
                assert seven[b] == pytest.approx(average_precision_07(*curve), abs=0.02)
                assert ten[b] == pytest.approx(average_precision_10(*curve), abs=0.02)
        precision, _ = coco_curves(rank_coco(*again))
        for label in range(2):
            for a in range(4):
                ours = bootstrap.resample_coco(coco[label], a, draws)[:, b]
                theirs = precision[:, :, label, a].mean(1)
                assert np.allclose(ours, theirs, atol=0.03) or (np.isnan(ours).all() and (theirs == -1).all())


def test_every_image_drawn_once_is_the_score_itself():
    truth, found = random_columns(3, difficult=0.1, whole=False)
    once = np.ones((1, 20), np.int32)
    voc, coco = rank_voc(truth, found), rank_coco(truth, found)
    scores = score_voc(voc, truth.class_names)
    precision, _ = coco_curves(coco)
    for label, name in enumerate(truth.class_names):
        seven, ten = bootstrap.resample_voc(voc[label], once)
        assert seven[0] == pytest.approx(scores["voc07"]["AP"][name], abs=1e-6)
        assert ten[0] == pytest.approx(scores["voc10"]["AP"][name], abs=1e-6)
        for a in range(4):
            ours = bootstrap.resample_coco(coco[label], a, once)[:, 0]
            assert ours == pytest.approx(precision[:, :, label, a].mean(1), abs=1e-6)


def test_intervals_are_the_same_again_and_hold_the_score():
    truth, found = random_columns(1, images=40)
    evaluation = Evaluation(truth, found)
    first, again = (evaluation.intervals(200) for _ in range(2))
    assert first == again
    for rule in ("voc07", "voc10"):
        low, high = first[rule]["mAP"]
        assert low < evaluation.scores[rule]["mAP"] < high
    low, high = first["coco"]["AP50"]
    assert low < evaluation.scores["coco"]["AP50"] < high
    assert evaluation.intervals(0) is None


def test_an_interval_by_hand():
    """Two images, one found and one not: AP is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4."""
    truth = truth_of([(0, 0, A), (1, 0, A)], images=2)
    evaluation = Evaluation(truth, found_of([(0, 0, A, 0.9)]))
    values = bootstrap.resample(evaluation.voc, evaluation.coco, 4000)["voc10"][0]
    assert {v: float((values == v).mean()) for v in (0, 0.5, 1)} == pytest.approx(
        {0: 0.25, 0.5: 0.5, 1: 0.25}, abs=0.03
    )
    out = evaluation.intervals(1000)
    assert out["voc10"]["AP"] == {"cat": [0, 1], "dog": None}


def saved(path, evaluation, **truth):
    about = {"sha256": evaluation.truth.sha256, "data": "d", "split": "s", "iou": 0.5}
    scores = evaluation.scores | {"truth": about | truth, "matches": evaluation.matches()}
    path.write_text(json.dumps(scores))
    return path


def test_comparing(tmp_path):
    truth, found = random_columns(5, images=40)
    # The second system is the first without the true positives of ten images.
    fewer = found[found.image >= 10]
    one, two = (Evaluation(truth, f) for f in (found, fewer))
    files = [read_scored(saved(tmp_path / f"{n}.json", e)) for n, e in enumerate((one, two))]
    out = compare(*files, 300)
    row = out["voc07"]["mAP"]
    assert row["difference"] == pytest.approx(two.scores["voc07"]["mAP"] - one.scores["voc07"]["mAP"])
    assert row["interval"][0] < row["difference"] < row["interval"][1] < 0
    assert out["coco"]["AP"]["interval"][1] < 0
    same = compare(files[0], files[0], 50)
    assert same["voc10"]["mAP"]["interval"] == [0, 0]
    # Paired: narrower than the intervals of the two apart.
    width = np.diff(one.intervals(300)["voc07"]["mAP"]) + np.diff(two.intervals(300)["voc07"]["mAP"])
    assert row["interval"][1] - row["interval"][0] < width


def test_matches_come_back():
    truth, found = random_columns(2)
    voc, coco = rank_voc(truth, found), rank_coco(truth, found)
    ours = unpack_matches(json.loads(json.dumps(pack_matches(voc, coco))), 3)
    draws = bootstrap.draw(20, 5)
    for a, b in zip(voc, ours[0], strict=True):
        assert np.array_equal(bootstrap.resample_voc(a, draws), bootstrap.resample_voc(b, draws))
    for a, b in zip(coco, ours[1], strict=True):
        assert np.array_equal(bootstrap.resample_coco(a, 0, draws), bootstrap.resample_coco(b, 0, draws))


def test_what_cannot_be_compared(tmp_path):
    truth, found = random_columns(2)
    evaluation = Evaluation(truth, found)
    good = saved(tmp_path / "good.json", evaluation)
    other = saved(tmp_path / "other.json", evaluation, sha256="0" * 64, data="elsewhere")
    with pytest.raises(ValueError, match=r"same true boxes.*good\.json of d.*other\.json of elsewhere"):
        compare(read_scored(good), read_scored(other), 10)
    overlap = saved(tmp_path / "iou.json", evaluation, iou=0.7)
    with pytest.raises(ValueError, match="same overlap"):
        compare(read_scored(good), read_scored(overlap), 10)
    text = json.loads(good.read_text())
    for key, fault in (("data", "AAAA"), ("data", "?"), ("count", 3), ("count", 1 << 40), ("type", "|O")):
        damaged = json.loads(good.read_text())
        damaged["matches"]["voc_image"][key] = fault
        (tmp_path / "bad.json").write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=r"must be the JSON of ssd evaluate.*bad\.json"):
            read_scored(tmp_path / "bad.json")
    for fault in ({}, [], text | {"matches": None}, text | {"truth": {}}, text | {"voc07": {"AP": {}}}):
        (tmp_path / "bad.json").write_text(json.dumps(fault))
        with pytest.raises(ValueError, match=r"bad\.json"):
            read_scored(tmp_path / "bad.json")


def errors_of(truth, found):
    return find_errors(truth, found, rank_voc(truth, found), 0.5)


def test_each_kind_of_error():
    truth = truth_of([(0, 0, A), (0, 1, B)])
    rows = [
        (0, 0, A, 0.9),  # right
        (0, 0, A, 0.8),  # again
        (0, 0, HALF, 0.7),  # too little of the cat
        (0, 0, B, 0.6),  # the dog called a cat
        (0, 1, HALF, 0.5),  # a dog on a little of the cat
        (0, 0, FAR, 0.4),  # nothing there
    ]
    errors = errors_of(truth, found_of(rows))
    names = [KINDS[k] if k >= 0 else None for k in errors.kind]
    assert names == [None, "duplicate", "localisation", "classification", "both", "background"]
    # The dog is not missed, for the cat on it is an error of the class.
    assert errors.counts()["missed"] == 0
    # Cat: AP 1; dog: AP 0. With the class put right the dog at 0.6 stands before the false one at 0.5: AP 1.
    assert errors.mean == pytest.approx(0.5)
    assert errors.gain["classification"] == pytest.approx(0.5)
    assert errors.gain["background"] == errors.gain["duplicate"] == 0
    shares = {row["kind"]: row["share"] for row in errors.rows()}
    assert shares["classification"] == pytest.approx(1)


def test_repairs_by_hand():
    truth = truth_of([(0, 0, A), (0, 0, B), (0, 1, FAR)], difficult=[False, False, True])
    # Background before the hit: precision 1/2 at recall 1/2. B is missed.
    errors = errors_of(truth, found_of([(0, 0, FAR, 0.9), (0, 0, A, 0.8)]))
    assert errors.mean == pytest.approx(0.25)
    assert errors.gain["background"] == pytest.approx(0.25)  # precision 1 at recall 1/2
    assert errors.gain["missed"] == pytest.approx(0.25)  # precision 1/2 at recall 1
    # Two detections too far off B: the better one is repaired, the other goes.
    near = [[200, 0, 300, 40], [200, 60, 300, 100]]
    errors = errors_of(truth, found_of([(0, 0, near[0], 0.9), (0, 0, near[1], 0.8), (0, 0, A, 0.7)]))
    assert errors.mean == pytest.approx(1 / 6)
    assert errors.gain["localisation"] == pytest.approx(1 - 1 / 6)
    assert errors.counts()["missed"] == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_errors_of_anything(seed, most):
    truth, found = random_columns(seed, 3, 3, most, difficult=0.1)
    rankings = rank_voc(truth, found)
    errors = find_errors(truth, found, rankings, 0.5)
    false = sum(int((r.verdict == 0).sum()) for r in rankings)
    assert (errors.kind >= 0).sum() == false
    assert min(errors.gain.values(), default=0) >= -1e-9
    evaluation = Evaluation(truth, found)
    # Every true box that counts stands once in its row.
    counts = np.bincount(truth.labels[~truth.difficult], minlength=3)
    assert evaluation.confusion.sum(1)[:-1].tolist() == counts.tolist()


def test_confusion_by_hand():
    truth = truth_of([(0, 0, A), (0, 1, B), (1, 1, A), (1, 0, FAR)], [False, False, False, True], images=2)
    found = found_of(
        [
            (0, 0, A, 0.9),
            (0, 0, B, 0.8),  # dog called cat
            (0, 1, A, 0.7),  # the cat is taken: background
            (1, 0, FAR, 0.6),  # difficult: not counted
        ]
    )
    assert confusion_matrix(truth, found, 0.5).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    nothing = found[np.zeros(4, bool)]
    assert confusion_matrix(truth, nothing, 0.5).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_calibration_by_hand():
    truth = truth_of([(0, 0, A), (0, 0, B)])
    rows = [(0, 0, A, 0.95), (0, 0, B, 0.55), (0, 0, FAR, 0.55), (0, 0, FAR, 0.05)]
    bins, error = calibrate(rank_voc(truth, found_of(rows)))
    assert [(b.count, b.precision) for b in bins if b.count] == [(1, 0), (2, 0.5), (1, 1)]
    # 0.05 * 1/4 + |0.55 - 0.5| * 2/4 + |0.95 - 1| * 1/4
    assert error == pytest.approx(0.05)
    assert calibrate([])[1] is None
    assert calibrate(rank_voc(truth, found_of([(0, 0, A, 1.0)])))[1] == pytest.approx(0)


def test_a_threshold_by_hand():
    scores, hits = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 1, 0, 1, 0], bool)
    assert choose_threshold(scores, hits, 0.75) == 0.6  # 3 of 4
    assert choose_threshold(scores, hits, 0.8) == 0.8
    assert choose_threshold(scores, hits, 0.6) == 0.5  # 3 of 5
    assert choose_threshold(scores, hits, 0.6, least=0.55) == 0.6
    assert choose_threshold(scores, hits, 0.8, least=0.85) == 0.9
    assert choose_threshold(scores, hits, 0.6, least=0.95) is None
    assert choose_threshold(scores, ~hits, 0.9) is None
    assert choose_threshold(scores[:0], hits[:0], 0.9) is None
    # Equal scores pass together: 1 of 2, whatever stands first.
    assert choose_threshold(np.array([0.5, 0.5]), np.array([True, False]), 0.9) is None


def test_wilson_by_hand():
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81 of 263."""
    assert Share(81, 263).interval == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert Share(15, 148).interval == pytest.approx([0.0624, 0.1605], abs=5e-5)
    assert Share(0, 20).interval == pytest.approx([0, 0.1611], abs=5e-5)
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, None)


def test_the_operating_point_is_measured_on_other_photos():
    """Scores that mean nothing: on their own photos thresholds look better than on others."""
    rng = np.random.default_rng(1)
    rows, true = [], []
    for image in range(60):
        true.append((image, 0, A))
        rows += [(image, 0, A if rng.random() < 0.6 else FAR, rng.random())]
    truth = truth_of(true, images=60)
    points = operating_points(rank_voc(truth, found_of(rows)), 0.65)
    assert points[0].precision >= 0.65
    assert points[0].held_out.value < points[0].precision
    assert points[1].threshold is None
    assert points[1].recall is None
    again = operating_points(rank_voc(truth, found_of(rows)), 0.65)
    assert again == points
