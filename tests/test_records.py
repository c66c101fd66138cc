import numpy as np
import pytest

from ssd.records import Detections


def detections():
    return Detections([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], [0, 1], [0.9, 0.4], ("a", "b"), height=100, width=200)


def test_pixels_names_and_masks():
    found = detections()
    assert found.boxes_px.tolist() == [[0, 0, 100, 100], [100, 0, 200, 100]]
    assert found.names == ["a", "b"]
    assert found[found.scores > 0.5].names == ["a"]
    none = found[found.scores > 1]
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="equally long"):
        Detections([[0, 0, 1, 1]], [0, 0], [0.5], ("a",), 1, 1)
    with pytest.raises(ValueError, match="labels must index"):
        Detections([[0, 0, 1, 1]], [1], [0.5], ("a",), 1, 1)
    assert np.isclose(detections().scores[0], 0.9)
