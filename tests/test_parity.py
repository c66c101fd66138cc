"""The parity gate on a network made of NumPy: an honest copy passes, each kind of fault does not."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ssd.anchors import make_anchors
from ssd.card import ModelCard
from ssd.detector import Detector
from ssd.images import load_image
from ssd.parity import AGREEMENT, EXACT, compare
from ssd.postprocess import postprocess
from ssd.records import Sample
from ssd.runtimes.network import Limits, Outputs
from ssd.spec import FeatureMap, Preprocessing

CARD = ModelCard("x", "ssd300", "vgg16", ("cat", "dog"))
ANCHORS = make_anchors(CARD.ssd_spec)


class Network:
    """Logits and deltas that depend on each channel of the picture, differently for each anchor."""

    batch, streams, limits, about = 1, 1, None, "numpy f32"

    def __init__(self, change=lambda logits, deltas: (logits, deltas)):
        draw = np.random.default_rng(0)
        self._of_logits = draw.normal(0, 0.02, (3, len(ANCHORS), 3))
        self._of_deltas = draw.normal(0, 0.02, (3, len(ANCHORS), 4))
        self._change = change

    def __call__(self, batch: np.ndarray) -> Outputs:
        colour = batch.mean((0, 1, 2)) + np.array([30, -20, 50])
        outputs = [
            np.tensordot(colour, w, 1)[None].astype(np.float32) for w in (self._of_logits, self._of_deltas)
        ]
        return Outputs(*self._change(*outputs))


@pytest.fixture
def pictures(samples):
    return [(name, load_image(samples / name)) for name in ("astronaut.jpg", "chelsea.png")]


def judge(pictures, precision="f32", change=None, anchors=None, **card):
    other = Detector(replace(CARD, precision=precision, **card), Network(change) if change else Network())
    other.anchors = ANCHORS if anchors is None else anchors
    return compare(Detector(CARD, Network()), other, pictures)


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_the_same_detector_passes(pictures, precision):
    parity = judge(pictures, precision)
    assert parity.fault == ""
    assert [d.layer for d in parity.differences] == [m.layer for m in CARD.ssd_spec.feature_maps]
    assert parity.summary() == {"scores": 0, "boxes": 0, "logits_share": 0, "deltas_share": 0}


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing("RGB", (104.0, 117.0, 123.0), 1.0), Preprocessing("BGR", (0.0, 0.0, 0.0), 1.0)],
    ids=["flipped channels", "dropped mean"],
)
def test_a_wrong_input_fails(pictures, precision, preprocessing):
    fault = judge(pictures, precision, preprocessing=preprocessing).fault
    assert fault.startswith("first apart at conv4_3_norm: ")
    assert "astronaut.jpg" in fault or "chelsea.png" in fault


def test_a_wrong_anchor_step_fails_and_is_found_in_its_feature_map(pictures, monkeypatch):
    spec = CARD.ssd_spec
    wrong = tuple(replace(m, step=17) if m.layer == "fc7" else m for m in spec.feature_maps)
    assert isinstance(wrong[1], FeatureMap)
    fault = judge(pictures, anchors=make_anchors(replace(spec, feature_maps=wrong))).fault
    assert fault.startswith("first apart at fc7: boxes differ by up to 0.0")
    assert fault.endswith("1 of 6 feature maps")


def test_the_tolerance_is_where_it_is_said_to_be(pictures):
    def shifted(by):
        return lambda logits, deltas: (logits, deltas + np.float32(by))

    # A corner moves by 0.1 of the anchor's side times the delta: the largest side is about 1.
    assert judge(pictures, change=shifted(EXACT / 10)).fault == ""
    assert "boxes differ" in judge(pictures, change=shifted(EXACT * 100)).fault
    spread = Network()(np.zeros((1, 2, 2, 3)))[0].std()
    assert AGREEMENT == 0.25
    assert judge(pictures, "int8", change=lambda a, b: (a + np.float32(0.05 * spread), b)).fault == ""
    assert "class logits differ" in judge(pictures, "int8", change=lambda a, b: (a + 2 * spread, b)).fault


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_nan_fails_and_is_named(pictures, precision):
    def broken(logits, deltas):
        logits = logits.copy()
        logits[0, -1, 1] = np.nan
        return logits, deltas

    fault = judge(pictures, precision, change=broken).fault
    assert fault == "conv9_2 of astronaut.jpg is not finite"


class Suppressing(Network):
    """A graph that suppresses by itself; `change` spoils what it has found."""

    limits = Limits(0.01, 0.45, 200)

    def __init__(self, spoil=lambda boxes, labels, scores: (boxes, labels, scores)):
        super().__init__()
        self._spoil = spoil

    def __call__(self, batch):
        raw = super().__call__(batch)
        one = raw.class_logits[0], raw.box_deltas[0]
        found = postprocess(*one, ANCHORS, CARD.ssd_spec, *self.limits)
        return raw._replace(found=[self._spoil(*found)])


def suppressed(pictures, spoil):
    other = Detector(CARD, Suppressing(spoil))
    return compare(Detector(CARD, Network()), other, pictures).fault


def test_suppression_in_the_graph_must_keep_what_numpy_keeps(pictures):
    def turned(boxes, labels, scores):  # equal scores in another order are the same
        return boxes[::-1], labels[::-1], scores[::-1]

    assert suppressed(pictures, turned) == ""
    for spoil in (
        lambda boxes, labels, scores: (boxes[5:], labels[5:], scores[5:]),
        lambda boxes, labels, scores: (boxes, 1 - labels, scores),
        lambda boxes, labels, scores: (boxes * np.float32(0.99), labels, scores),
        lambda boxes, labels, scores: (boxes, labels, scores - np.float32(0.01)),
    ):
        fault = suppressed(pictures, spoil)
        assert fault.startswith("suppression in the graph differs in ")
        assert fault.endswith((" most in astronaut.jpg", " most in chelsea.png"))


def test_each_picture_of_a_batch_must_answer_as_it_does_alone(pictures):
    class Pair(Network):
        batch = 2

        def __init__(self, order):
            super().__init__()
            self._order = order

        def __call__(self, batch):
            assert len(batch) == 2
            alone = [Network.__call__(self, batch[i : i + 1]) for i in self._order]
            return Outputs(*(np.concatenate(parts) for parts in list(zip(*alone, strict=True))[:2]))

    for three in (pictures, [*pictures, pictures[0]]):  # the last batch may not be full
        for order, same in (([0, 1], True), ([1, 0], False), ([0, 0], False)):
            fault = compare(Detector(CARD, Network()), Detector(CARD, Pair(order)), three).fault
            assert (fault == "") is same


def test_labels_are_looked_at_in_float_too(samples):
    image = load_image(samples / "chelsea.png")
    box, labels = np.array([[0.1, 0.1, 0.9, 0.9]], np.float32), (np.array([0]), np.array([False]))
    sample = Sample("chelsea", samples / "chelsea.png", *image.shape[:2], box, *labels)
    one = Detector(CARD, Network())
    parity = compare(one, Detector(CARD, Network()), [("chelsea.png", image)], [sample])
    assert (parity.fault, parity.map_reference) == ("", parity.map_other)
    assert parity.map_other is not None


def test_with_labels_a_rounded_model_is_judged_by_its_map(samples):
    # Both call every anchor a cat; the reference at the right place, the other one elsewhere.
    photo = samples / "chelsea.png"
    image = load_image(photo)
    best = ANCHORS[len(ANCHORS) - 1]
    sample = Sample("chelsea", photo, *image.shape[:2], best[None], np.array([0]), np.array([False]))

    def find(index):
        def change(logits, deltas):
            logits, deltas = np.zeros_like(logits), np.zeros_like(deltas)
            logits[..., 0], logits[0, index] = 9, (0, 9, 0)
            return logits, deltas

        return change

    def against(index):
        reference = Detector(CARD, Network(find(len(ANCHORS) - 1)))
        other = Detector(replace(CARD, precision="int8"), Network(find(index)))
        return compare(reference, other, [("chelsea.png", image)], [sample])

    same = against(len(ANCHORS) - 1)
    assert (same.fault, same.map_reference, same.map_other) == ("", 1.0, 1.0)
    wrong = against(0)
    assert wrong.fault.startswith("VOC07 mAP 0.0000 beside 1.0000 over 1 photos; furthest apart at ")


@pytest.mark.parametrize(
    ("turned", "photos_needed", "gains", "passes"),
    [(1, 200, False, True), (1, 1, False, False), (12, 200, False, False), (12, 1, True, True)],
)
def test_chance_and_a_gain_are_no_fault(tmp_path, monkeypatch, turned, photos_needed, gains, passes):
    # The right box scores just above a wrong one; one of the models has them turned in some photos.
    monkeypatch.setattr("ssd.parity.MAP_PHOTOS", photos_needed)
    right, wrong = len(ANCHORS) - 1, 0
    samples = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), np.full((30, 30, 3), 200 if i < turned else 100, np.uint8))
        truth = ANCHORS[right][None], np.array([0]), np.array([False])
        samples.append(Sample(str(i), path, 30, 30, *truth))

    class Close(Network):
        def __init__(self, turns):
            super().__init__()
            self._turns = turns

        def __call__(self, batch):
            logits = np.zeros((1, len(ANCHORS), 3), np.float32)
            logits[..., 0] = 9
            logits[0, right], logits[0, wrong] = (0, 3.0, 0), (0, 2.98, 0)
            if self._turns and batch.mean() > 0:
                logits[0, [right, wrong]] = logits[0, [wrong, right]]
            return Outputs(logits, np.zeros((1, len(ANCHORS), 4), np.float32))

    other = Detector(replace(CARD, precision="int8"), Close(not gains))
    pictures = [(s.image_id, load_image(s.path)) for s in samples]
    parity = compare(Detector(CARD, Close(gains)), other, pictures, samples)
    low, high = sorted((parity.map_reference, parity.map_other))
    assert low < 0.995
    assert high == (parity.map_other if gains else parity.map_reference) == 1.0
    assert (parity.fault == "") is passes
