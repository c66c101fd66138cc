import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("albumentations", reason="needs the extra 'train'")

from ssd.augment import MEAN_COLOUR, Expand, MinIoUCrop, SSDAugmentation, mosaic
from ssd.batches import Views
from ssd.boxes import iou
from ssd.datasets.read import read_split
from ssd.images import load_image
from ssd.spec import PREPROCESSING, SPECS

AUGMENT = SSDAugmentation(300)


def marked(height=200, width=300):
    """A green picture whose boxes are filled with colours of their own."""
    image = np.full((height, width, 3), (0, 120, 0), np.uint8)
    boxes = np.float32([[0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.9]])
    image[20:100, 30:120] = (250, 0, 0)
    image[80:180, 150:270] = (0, 0, 250)
    return image, boxes, np.array([3, 5])


def test_the_same_seed_gives_the_same_view():
    first, second = AUGMENT(*marked(), seed=7), AUGMENT(*marked(), seed=7)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert (first[0] != AUGMENT(*marked(), seed=8)[0]).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_stay_valid_and_on_their_objects(seed):
    image, boxes, labels = AUGMENT(*marked(), seed=seed)
    assert image.shape == (300, 300, 3)
    assert image.dtype == np.uint8
    assert boxes.shape == (len(labels), 4)
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert set(labels) <= {3, 5}


def test_boxes_move_with_the_picture():
    # Without photometric changes the colour inside every box must be the one of its label.
    geometry = SSDAugmentation(300)
    geometry._chain.transforms[0].p = 0
    seen = 0
    for seed in range(40):
        image, boxes, labels = geometry(*marked(), seed=seed)
        for box, label in zip(boxes, labels, strict=True):
            x, y = ((box[:2] + box[2:]) / 2 * 300).astype(int)
            pixel = image[min(y, 299), min(x, 299)].astype(int)
            assert pixel[0 if label == 3 else 2] > 150, (seed, box, pixel)
            seen += 1
    assert seen > 40


def test_an_image_without_boxes_passes():
    image, boxes, labels = AUGMENT(marked()[0], np.zeros((0, 4), np.float32), np.zeros(0, int), seed=1)
    assert image.shape == (300, 300, 3)
    assert boxes.shape == (0, 4)
    assert len(labels) == 0


def test_expand_lays_the_picture_on_the_mean_colour():
    expand = Expand(4.0, p=1.0)
    expand.set_random_seed(3)
    image, boxes, _ = marked()
    params = expand.get_params_dependent_on_data({"shape": image.shape}, {})
    canvas = expand.apply(image, **params)
    height, width = params["canvas"]
    assert 200 <= height <= 800
    assert canvas.shape == (height, width, 3)
    moved = expand.apply_to_bboxes(boxes, **params)
    x, y = (moved[0, :2] * [width, height]).round().astype(int)
    assert canvas[y + 2, x + 2].tolist() == [250, 0, 0]
    outside = canvas.reshape(-1, 3)
    assert (outside == MEAN_COLOUR).all(1).sum() == height * width - 200 * 300


@pytest.mark.parametrize("least", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_crop_overlaps_some_box_as_much_as_was_drawn(least):
    crop = MinIoUCrop()
    boxes = marked()[1].astype(np.float64)
    drawn = 0
    for seed in range(60):
        crop.set_random_seed(seed)
        patch = crop._draw(boxes, least)
        if patch is not None:
            drawn += 1
            assert iou(patch[None], boxes).max() >= least
            assert (patch >= 0).all()
            assert (patch <= 1).all()
            sides = patch[2:] - patch[:2]
            assert 0.5 - 1e-9 <= sides[0] / sides[1] <= 2 + 1e-9
    assert drawn > 0 or least >= 0.7  # patches that fit a small box this well are rare


def test_a_crop_drops_boxes_whose_centre_is_outside():
    boxes = np.array([[0.1, 0.1, 0.4, 0.5, 3.0], [0.5, 0.4, 0.9, 0.9, 5.0]])
    kept = MinIoUCrop().apply_to_bboxes(boxes, np.array([0.0, 0.0, 0.5, 0.5]))
    # The first box's centre (0.25, 0.3) is inside; the second's (0.7, 0.65) is not.
    assert np.allclose(kept, [[0.2, 0.2, 0.8, 1.0, 3.0]])


def test_threads_draw_what_one_alone_draws(samples):
    from concurrent.futures import ThreadPoolExecutor

    image = load_image(samples / "chelsea.png")
    augment = SSDAugmentation(64)
    boxes, labels = np.array([[0.2, 0.2, 0.8, 0.9]], np.float32), np.array([1])

    def view(seed):
        return augment(image, boxes, labels, seed)

    alone = [view(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(view, range(24)))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


COLOURS = np.uint8([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)])


def quarters(boxes):
    """Four black views of 100 pixels, a box in each, painted in a colour of its own."""
    for label, (colour, box) in enumerate(zip(COLOURS, boxes, strict=True)):
        image, (x0, y0, x1, y1) = (
            np.zeros((100, 100, 3), np.uint8),
            np.round(np.multiply(box, 100)).astype(int),
        )
        image[y0:y1, x0:x1] = colour
        yield image, np.float32([box]), np.array([label])


def test_a_mosaic_by_hand():
    _, boxes, labels = mosaic(list(quarters([(0.2, 0.4, 0.6, 0.8)] * 4)), (0.5, 0.5))
    halves = np.array(
        [(0.1, 0.2, 0.3, 0.4), (0.6, 0.2, 0.8, 0.4), (0.1, 0.7, 0.3, 0.9), (0.6, 0.7, 0.8, 0.9)]
    )
    np.testing.assert_allclose(boxes, halves, atol=1e-6)
    assert labels.tolist() == [0, 1, 2, 3]
    # The top left quarter is 80 wide and 50 high: of its view, scaled to 80, the upper 30 are cut off.
    _, boxes, _ = mosaic(list(quarters([(0.25, 0.5, 0.75, 1.0)] * 4)), (0.8, 0.5))
    np.testing.assert_allclose(boxes[0], (0.2, 0.1, 0.6, 0.5), atol=1e-6)
    # Of the others the centres are cut off: at 25 where 20 stay, and at 60 where 50 stay.
    assert len(boxes) == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_boxes_of_a_mosaic_stay_on_their_objects(data):
    corner, side = st.floats(0.02, 0.5), st.floats(0.1, 0.45)
    draws = [(data.draw(corner), data.draw(corner), data.draw(side), data.draw(side)) for _ in range(4)]
    centre = data.draw(st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)))
    image, boxes, labels = mosaic(list(quarters([(x, y, x + w, y + h) for x, y, w, h in draws])), centre)
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert ((boxes >= 0) & (boxes <= 1)).all()
    for label in range(4):
        near = (np.abs(image.astype(int) - COLOURS[label]) < 60).all(-1)
        if label not in labels:
            continue
        x0, y0, x1, y1 = boxes[labels.tolist().index(label)] * 100
        rows, columns = np.nonzero(near)
        seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_allclose((x0, y0, x1, y1), seen, atol=2.1)


def test_views_with_mosaics_are_as_many_as_asked_for_and_the_same_at_every_call(mini_voc):
    samples = read_split(mini_voc, "train", ("blue", "red"))
    plain = Views(samples, SPECS["ssd300"], PREPROCESSING["vgg16"], seed=5)
    some = plain.with_mosaic(0.3)
    other = [not np.array_equal(plain(i)[0], some(i)[0]) for i in range(90)]
    assert 0.15 < np.mean(other) < 0.45
    for first, again in zip(some(other.index(True)), some(other.index(True)), strict=True):
        np.testing.assert_array_equal(first, again)
    assert {len(plain.with_mosaic(1.0)(i)[1]) for i in range(40)} >= {2, 3, 4}  # a photo has one object
    assert max(len(plain(i)[1]) for i in range(40)) == 1
    assert plain.key != some.key
