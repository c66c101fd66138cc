import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssd import boxes as b

corners = arrays(np.float32, st.tuples(st.integers(0, 20), st.just(4)), elements=st.floats(0, 1, width=32))


def test_iou_by_hand():
    # Two squares of 2x2 that share 1x1: 1 / (4 + 4 - 1).
    assert b.iou(np.float32([[0, 0, 2, 2]]), np.float32([[1, 1, 3, 3]]))[0, 0] == pytest.approx(1 / 7)
    assert b.iou(np.float32([[0, 0, 1, 1]]), np.float32([[1, 0, 2, 1]]))[0, 0] == 0  # edges touch
    assert b.iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert b.iou(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0  # no area, no division by zero


@given(corners)
def test_iou_is_symmetric_and_bounded(boxes):
    overlap = b.iou(boxes, boxes)
    assert np.allclose(overlap, overlap.T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-6)).all()


@given(corners, st.integers(1, 4000), st.integers(1, 4000))
def test_round_trips(boxes, height, width):
    assert np.allclose(b.from_pixels(b.to_pixels(boxes, height, width), height, width), boxes, atol=1e-6)
    assert np.allclose(b.to_corners(b.to_centres(boxes)), boxes, atol=1e-6)


def test_pixels_take_width_for_x_and_height_for_y():
    assert b.to_pixels(np.float32([[0.5, 0.5, 1, 1]]), 100, 200).tolist() == [[100, 50, 200, 100]]


def test_nms_keeps_the_best_of_overlapping_boxes():
    boxes = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]])
    # The first two share 90 of 110: IoU 0.818.
    assert b.nms(boxes, np.float32([0.5, 0.9, 0.1]), 0.45).tolist() == [1, 2]
    assert b.nms(boxes, np.float32([0.5, 0.9, 0.1]), 0.85).tolist() == [1, 0, 2]
    assert b.nms(np.zeros((0, 4)), np.zeros(0), 0.45).tolist() == []


@given(corners, st.floats(0.05, 0.95))
def test_nms_leaves_no_overlap_and_drops_only_overlapped(boxes, threshold):
    scores = np.linspace(1, 0, len(boxes), dtype=np.float32)
    kept = b.nms(boxes, scores, threshold)
    overlap = b.iou(boxes, boxes)
    inside = overlap[np.ix_(kept, kept)]
    assert (inside[np.triu_indices(len(kept), 1)] <= threshold).all()
    for gone in set(range(len(boxes))) - set(kept.tolist()):
        assert any(overlap[k, gone] > threshold for k in kept if k < gone)


@pytest.mark.parametrize("box", [[0.5, 0, 0.5, 1], [0, 0.6, 1, 0.5], [0, 0, np.nan, 1]])
def test_check_boxes_names_the_culprit(box):
    with pytest.raises(ValueError, match=r"x_min < x_max.*box 1 = .*a\.xml"):
        b.check_boxes(np.float32([[0, 0, 1, 1], box]), "a.xml")


def test_as_boxes():
    assert b.as_boxes([]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        b.as_boxes([[1, 2, 3]])
