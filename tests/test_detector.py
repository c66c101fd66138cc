import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.anchors import encode, make_anchors
from ssd.card import ModelCard, card_from_json, card_to_json
from ssd.detector import Detector, find_model
from ssd.images import load_image
from ssd.postprocess import postprocess
from ssd.spec import SPECS

SPEC = SPECS["ssd300"]
ANCHORS = make_anchors(SPEC)


class FakeNetwork:
    """Answers what it was given at its start."""

    batch, streams, limits, about = 1, 1, None, "fake"

    def __init__(self, outputs=None):
        self.outputs = outputs

    def __call__(self, batch):
        return self.outputs


def raw_output(rows, classes=3):
    """Logits and deltas that say: at this anchor, this box of this class with this logit."""
    logits = np.zeros((len(ANCHORS), classes + 1), np.float32)
    logits[:, 0] = 20
    deltas = np.zeros((len(ANCHORS), 4), np.float32)
    for anchor, box, label, logit in rows:
        logits[anchor, :] = -20
        logits[anchor, 0] = 0
        logits[anchor, label + 1] = logit
        deltas[anchor] = encode(np.float32([box]), ANCHORS[anchor : anchor + 1], SPEC.variances)
    return logits, deltas


def test_postprocess_by_hand():
    box, near, far = [0.2, 0.2, 0.6, 0.7], [0.21, 0.2, 0.6, 0.7], [0.7, 0.1, 0.9, 0.3]
    output = raw_output([(8000, box, 1, 5), (8001, near, 1, 4), (8002, near, 2, 3), (100, far, 0, 2)])
    boxes, labels, scores = postprocess(*output, ANCHORS, SPEC)
    # The second box of class 1 goes; the same place in class 2 stays.
    assert labels.tolist() == [1, 2, 0]
    assert np.allclose(boxes, [box, near, far], atol=1e-5)
    assert np.allclose(scores, [np.exp(x) / (np.exp(x) + 1) for x in (5, 3, 2)], atol=1e-6)
    assert len(postprocess(*output, ANCHORS, SPEC, score_threshold=0.99)[0]) == 1
    assert len(postprocess(*output, ANCHORS, SPEC, max_detections=2)[0]) == 2


def test_postprocess_of_nothing():
    boxes, labels, scores = postprocess(*raw_output([]), ANCHORS, SPEC)
    assert boxes.shape == (0, 4)
    assert len(labels) == len(scores) == 0


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 1.0]),
    st.sampled_from([0.1, 3.0, 30.0]),
)
def test_no_score_above_the_threshold_is_lost(seed, threshold, spread):
    """Against a softmax over all anchors; no two of the anchors overlap, so nothing is suppressed."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (64, 4)).astype(np.float32)
    corners = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) / 8
    anchors = np.concatenate([corners, corners + 0.1], 1).astype(np.float32)
    spec = SPECS["ssd300"]
    _, labels, scores = postprocess(logits, np.zeros((64, 4), np.float32), anchors, spec, threshold)
    every = np.exp(logits - logits.max(1, keepdims=True))
    every = (every / every.sum(1, keepdims=True))[:, 1:]
    expected = np.sort(every[every > np.float32(threshold)])[::-1][:200]
    np.testing.assert_array_equal(scores, expected)
    assert len(labels) == len(expected)


def test_boxes_are_cut_to_the_image():
    boxes, _, _ = postprocess(*raw_output([(5, [-0.2, 0.1, 0.4, 1.3], 0, 5)]), ANCHORS, SPEC)
    assert np.allclose(boxes, [[0, 0.1, 0.4, 1]], atol=1e-5)


def test_an_image_of_the_wrong_kind_is_refused():
    detector = Detector(ModelCard("x", "ssd300", "vgg16", ("a",)), FakeNetwork())
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
            detector(image)


def test_card_round_trip_and_refusals():
    card = ModelCard("x", "ssd300", "inception_v3", ("a", "b"), cut="mixed2", scores={"mAP": 0.5})
    assert card_from_json(card_to_json(card)) == card
    for change in ({"spec": "ssd9"}, {"class_names": ["a", "a"]}, {"colour": 1}, {"backbone": "vgg"}):
        text = json.dumps(json.loads(card_to_json(card)) | change)
        with pytest.raises(ValueError, match=r"model card must be valid.*m\.json"):
            card_from_json(text, "m.json")
    with pytest.raises(ValueError, match="model card"):
        card_from_json("[]")


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"default, .*Received: 'nothing'"):
        find_model("nothing")
    with pytest.raises(FileNotFoundError, match=r"a checkpoint, .*best\.weights\.h5"):
        find_model("best.weights.h5")


def test_a_changed_model_is_refused(tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(find_model("default").parent, folder)
    with open(folder / "model.bin", "r+b") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"SHA-256.*model\.bin"):
        Detector.load(folder)


@pytest.fixture(scope="module")
def detector():
    return Detector.load("default")


# Drawn by hand around each object, in pixels.
REAL = [
    ("astronaut.jpg", "person", (15, 0, 390, 512)),
    ("chelsea.png", "cat", (100, 0, 400, 300)),
    ("camera.png", "person", (30, 65, 300, 512)),
]


@pytest.mark.parametrize(("name", "label", "box"), REAL)
def test_real_pictures(detector, samples, name, label, box):
    found = detector(load_image(samples / name), score_threshold=0.5)
    assert set(found.names) == {label}
    from ssd.boxes import iou

    overlap = iou(found.boxes_px, np.float32([box]))
    assert overlap[0, 0] > 0.5, found.boxes_px


def test_the_default_model_says_what_it_is(detector):
    assert detector.class_names == ("person", "cat", "dog", "horse", "sheep", "cow")
    assert detector.card.precision == "int8"
    assert detector.card.scores


def test_the_second_model_finds_them_too(samples):
    detector = Detector.load("ssd300_inceptionv3_animals6_v1")
    assert detector.card.preprocessing.channel_order == "RGB"
    for name, what in {"astronaut.jpg": "person", "chelsea.png": "cat"}.items():
        found = detector(load_image(samples / name))
        likely = found[found.scores >= 0.5]
        assert [found.class_names[label] for label in likely.labels] == [what]


def test_pictures_of_any_shape(detector):
    for shape in ((1, 1, 3), (7, 900, 3), (300, 300, 3)):
        found = detector(np.zeros(shape, np.uint8))
        assert (found.height, found.width) == shape[:2]


def test_many_pictures_are_found_as_one_by_one(samples):
    """Threads and streams change neither the order nor a digit; a file that is none fails alone."""
    one, many = Detector.load("default"), Detector.load("default", many=True)
    files = sorted(samples.glob("*.png")) * 2
    futures = list(many.find_all([*files, samples / "none.png", load_image(files[0])]))
    for file, future in zip(files, futures, strict=False):
        image, found = future.result()
        alone = one(load_image(file))
        assert image.shape == load_image(file).shape
        assert np.array_equal(found.boxes, alone.boxes)
        assert np.array_equal(found.scores, alone.scores)
    with pytest.raises(FileNotFoundError):
        futures[-2].result()
    assert len(futures[-1].result()[1]) == len(futures[0].result()[1])


def test_batches_of_mixed_sizes_give_what_singles_give(detector, samples):
    """int8 sums are exact, so a batch changes no digit; a bad file in a batch fails alone."""
    files = [*sorted(samples.glob("*.png")), samples / "none.png", samples / "astronaut.jpg"]
    several = Detector.load("default", many=True, batch=3)
    for file, future in zip(files, several.find_all(files), strict=True):
        if not file.exists():
            assert isinstance(future.exception(), FileNotFoundError)
            continue
        image, found = future.result()
        alone = detector(load_image(file))
        assert image.shape[:2] == (found.height, found.width)
        assert np.allclose(found.boxes, alone.boxes, atol=1e-5)
        assert np.allclose(found.scores, alone.scores, atol=1e-5)


def test_what_follows_a_picture_is_done_by_the_same_thread_and_fails_alone(detector, samples):
    files = sorted(samples.glob("*.png"))

    def then(number, image, found):
        if number == 1:
            raise OSError("disk full")
        return number, image.shape, found.names

    first, second = detector.find_all(files, then, score_threshold=0.5)
    assert first.result() == (0, load_image(files[0]).shape, ["person"])
    assert str(second.exception()) == "disk full"


def test_thresholds_of_a_card():
    """Old cards have none; a class that is unknown or a score above 1 is refused."""
    old = card_to_json(ModelCard("x", "ssd300", "vgg16", ("a", "b")))
    assert card_from_json(old.replace('"thresholds": {},', "")).thresholds == {}
    card = ModelCard("x", "ssd300", "vgg16", ("a", "b"), thresholds={"b": 0.25})
    assert card_from_json(card_to_json(card)) == card
    assert Detector(card, FakeNetwork()).operating_point(0.5).tolist() == pytest.approx([0.5, 0.25])
    for wrong in ({"c": 0.5}, {"a": 1.5}, {"a": float("nan")}, {"a": "x"}):
        with pytest.raises(ValueError, match=r"thresholds|valid|float"):
            ModelCard("x", "ssd300", "vgg16", ("a", "b"), thresholds=wrong)


def test_a_threshold_a_class():
    """Two boxes, softmax scores 0.73 and 0.5 against background: each class has its own least score."""
    anchors = ANCHORS[[0, 4000]]
    logits, deltas = np.float32([[0, 1, -20], [0, -20, 0]]), np.zeros((2, 4), np.float32)
    for limits, labels in (([0.6, 0.4], [0, 1]), ([0.8, 0.4], [1]), ([0.6, 0.6], [0]), ([0.8, 0.6], [])):
        assert postprocess(logits, deltas, anchors, SPEC, np.float32(limits))[1].tolist() == labels
