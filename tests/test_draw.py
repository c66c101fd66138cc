import numpy as np

from ssd.draw import PALETTE, draw
from ssd.records import Detections


def test_a_box_is_drawn_inside_its_edges_and_the_picture_stays():
    image = np.full((200, 300, 3), 7, np.uint8)
    found = Detections([[0.5, 0.5, 0.8, 0.9]], [1], [0.9], ("a", "b"), 200, 300)
    canvas = draw(image, found)
    assert (image == 7).all()
    # Left edge at x = 150, right edge at 240, exclusive: the last pixel is 239.
    assert canvas[150, 150].tolist() == list(PALETTE[1])
    assert canvas[150, 239].tolist() == list(PALETTE[1])
    assert canvas[150, 200].tolist() == [7, 7, 7]
    assert canvas[100:].any()
    assert (canvas[:80] == 7).all()


def test_labels_stay_in_the_picture_and_names_may_be_long():
    image = np.zeros((40, 60, 3), np.uint8)
    boxes = [[0, 0, 1, 1], [0.9, 0.9, 1, 1]]
    found = Detections(boxes, [0, 0], [0.9, 0.8], ("ein sehr langer Name, ü 猫",), 40, 60)
    assert draw(image, found).shape == (40, 60, 3)


def test_nothing_found_is_the_same_picture():
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert (draw(image, Detections([], [], [], ("a",), 10, 10)) == image).all()
