import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.anchors import decode, encode, encode_targets, make_anchors, match
from ssd.boxes import iou, to_centres
from ssd.spec import SPECS, FeatureMap, SSDSpec, get_spec

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def caffe_priors(layer_size, step, min_size, max_size, ratios, clip):
    """One PriorBox layer, loop by loop as prior_box_layer.cpp has it, in pixels then divided."""
    rows = []
    for h in range(layer_size):
        for w in range(layer_size):
            cx, cy = (w + 0.5) * step, (h + 0.5) * step
            sides = [(min_size, min_size)]
            if max_size:
                sides.append((math.sqrt(min_size * max_size),) * 2)
            for ar in ratios:  # flip=True: each ratio and its reciprocal
                sides.append((min_size * math.sqrt(ar), min_size / math.sqrt(ar)))
                sides.append((min_size * math.sqrt(1 / ar), min_size / math.sqrt(1 / ar)))
            for bw, bh in sides:
                rows.append(
                    [(cx - bw / 2) / 300, (cy - bh / 2) / 300, (cx + bw / 2) / 300, (cy + bh / 2) / 300]
                )
    rows = np.array(rows)
    return rows.clip(0, 1) if clip else rows


# Literals of the Caffe scripts, typed again here on purpose: (size, step, min, max, ratios).
VOC = [
    (38, 8, 30, 60, [2]),
    (19, 16, 60, 111, [2, 3]),
    (10, 32, 111, 162, [2, 3]),
    (5, 64, 162, 213, [2, 3]),
    (3, 100, 213, 264, [2]),
    (1, 300, 264, 315, [2]),
]
COCO = [
    (38, 8, 21, 45, [2]),
    (19, 16, 45, 99, [2, 3]),
    (10, 32, 99, 153, [2, 3]),
    (5, 64, 153, 207, [2, 3]),
    (3, 100, 207, 261, [2]),
    (1, 300, 261, 315, [2]),
]
V1 = [
    (38, 300 / 38, 30, None, [2]),
    (19, 300 / 19, 60, 114, [2, 3]),
    (10, 30, 114, 168, [2, 3]),
    (5, 60, 168, 222, [2, 3]),
    (3, 100, 222, 276, [2, 3]),
    (1, 300, 276, 330, [2, 3]),
]


@pytest.mark.parametrize(
    ("name", "rows", "clip", "count"),
    [("ssd300", VOC, False, 8732), ("ssd300_coco", COCO, False, 8732), ("ssd300_v1", V1, True, 7308)],
)
def test_anchors_equal_caffe(name, rows, clip, count):
    expected = np.concatenate([caffe_priors(*row, clip) for row in rows])
    anchors = make_anchors(SPECS[name])
    assert anchors.shape == (count, 4)
    assert SPECS[name].num_anchors == count
    assert np.abs(anchors - expected).max() < 1e-6


def test_anchors_of_one_cell_by_hand():
    spec = SSDSpec("one", (FeatureMap("x", 1, 300, 90, 160, (4,)),), clip="none")
    # Centre 150; 90x90, sqrt(90 * 160) = 120, then 180x45 and 45x180.
    expected = np.array(
        [[105, 105, 195, 195], [90, 90, 210, 210], [60, 127.5, 240, 172.5], [127.5, 60, 172.5, 240]]
    )
    assert np.allclose(make_anchors(spec), expected / 300, atol=1e-7)


@pytest.mark.parametrize("name", SPECS)
def test_encode_and_decode_are_inverse_on_every_anchor(name):
    anchors = make_anchors(SPECS[name])
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.6, (len(anchors), 2))
    boxes = np.concatenate([low, low + rng.uniform(0.02, 0.4, low.shape)], 1).astype(np.float32)
    assert np.abs(decode(encode(boxes, anchors, VARIANCES), anchors, VARIANCES) - boxes).max() < 1e-5


def test_decode_scales_y_by_the_height_of_the_anchor():
    anchor = np.float32([[0.2, 0.4, 0.8, 0.6]])  # 0.6 wide, 0.2 high, centre (0.5, 0.5)
    moved = decode(np.float32([[1, 1, 0, 0]]), anchor, VARIANCES)
    # Centre moves by 0.1 * 0.6 and 0.1 * 0.2.
    assert np.allclose(moved, [[0.26, 0.42, 0.86, 0.62]], atol=1e-6)


def test_match_by_hand():
    anchors = np.float32([[0, 0, 0.5, 0.5], [0, 0, 0.4, 0.5], [0.5, 0.5, 1, 1], [0.9, 0.9, 1, 1]])
    boxes = np.float32([[0, 0, 0.5, 0.5], [0.6, 0, 0.7, 0.4], [0.4, 0.4, 1, 1]])
    # Box 0: anchor 0 exactly, anchor 1 by IoU 0.8. Box 2: anchor 2 by 0.25 / 0.36 = 0.69.
    # Box 1 touches no anchor at all and gets none; anchor 3 overlaps box 2 by 0.03: background.
    assert match(anchors, boxes).tolist() == [0, 0, 2, -1]


def test_every_box_gets_its_own_anchor_below_the_threshold():
    anchors = np.float32([[0, 0, 1, 1], [0, 0, 0.9, 1]])
    boxes = np.float32([[0, 0, 0.3, 0.3], [0, 0, 0.31, 0.3]])
    # Both overlap anchor 1 most, by 0.1 and 0.103: box 1 gets it, box 0 takes what is left.
    assert match(anchors, boxes).tolist() == [0, 1]


def test_threshold_must_be_exceeded():
    anchors = np.float32([[0, 0, 1, 1], [0, 0, 0.5, 1]])
    box = np.float32([[0, 0, 1, 1]])  # anchor 1: exactly 0.5
    assert match(anchors, box).tolist() == [0, -1]


def test_no_boxes_is_background():
    anchors = make_anchors(SPECS["ssd300"])
    classes, deltas = encode_targets(SPECS["ssd300"], anchors, np.zeros((0, 4)), np.zeros(0))
    assert not classes.any()
    assert not deltas.any()


def test_match_refuses_a_box_without_area():
    with pytest.raises(ValueError, match="box 0"):
        match(make_anchors(SPECS["ssd300"]), np.float32([[0.5, 0.5, 0.5, 0.9]]))


side = st.floats(0.02, 0.5)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), side, side), min_size=1, max_size=12, unique=True
    )
)
def test_targets_decode_to_the_boxes_they_came_from(rows):
    spec = SPECS["ssd300"]
    anchors = make_anchors(spec)
    boxes = np.float32([[x, y, x + w, y + h] for x, y, w, h in rows])
    labels = np.arange(len(boxes))
    classes, deltas = encode_targets(spec, anchors, boxes, labels)
    positive = classes > 0
    decoded = decode(deltas[positive], anchors[positive], spec.variances)
    assert np.abs(decoded - boxes[classes[positive] - 1]).max() < 1e-4
    assert set(classes[positive] - 1) == set(labels)  # no box is left without an anchor
    overlap = iou(boxes, anchors)
    assert (overlap[:, ~positive] <= 0.5).all()


def test_the_four_kinds_of_clipping():
    # Published: ssd.pytorch's clamp of all four numbers moves 134 anchors by up to 0.245, torchvision's
    # clamp of the sides 2 anchors by up to 0.230 (of ssd300 and ssd300_coco, in centre form).
    def moved(name, clip):
        plain, clipped = (to_centres(make_anchors(get_spec(name, kind))) for kind in ("none", clip))
        change = np.abs(plain - clipped).max(1)
        return int((change > 1e-6).sum()), round(float(change.max()), 3)

    assert moved("ssd300", "centres") == (134, 0.245)
    assert moved("ssd300_coco", "sides") == (2, 0.23)
    corners = make_anchors(get_spec("ssd300", "corners"))
    assert corners.min() == 0
    assert corners.max() == 1
    plain = make_anchors(get_spec("ssd300"))
    assert np.array_equal(corners, plain.clip(0, 1))
    assert plain.min() < 0
    with pytest.raises(ValueError, match="clip must be one of none, corners, centres, sides"):
        get_spec("ssd300", "all")
