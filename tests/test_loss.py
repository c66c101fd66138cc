import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.backend import keras
from ssd.loss import ConfidenceLoss, LocationLoss, MatchedAccuracy, hard_negatives
from ssd.stages import Stage
from ssd.steps import compile_stage


def reference(classes, boxes, logits, deltas, ratio=3):
    """The multibox loss in plain loops."""
    confidence = location = matches = 0.0
    for c, b, x, d in zip(classes, boxes, logits, deltas, strict=True):
        losses = [
            np.log(np.exp(row - row.max()).sum()) + row.max() - row[k] for row, k in zip(x, c, strict=True)
        ]
        positive = [i for i in range(len(c)) if c[i] > 0]
        negative = sorted((i for i in range(len(c)) if c[i] == 0), key=lambda i: -losses[i])
        wanted = ratio * max(1, len(positive))
        confidence += sum(losses[i] for i in positive + negative[:wanted])
        for i in positive:
            for k in range(4):
                error = abs(b[i, k] - d[i, k])
                location += 0.5 * error**2 if error < 1 else error - 0.5
        matches += len(positive)
    return confidence / max(matches, 1), location / max(matches, 1)


@pytest.mark.parametrize("seed", range(6))
def test_loss_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)
    batch, anchors, classes = 3, 60, 4
    target = np.where(rng.random((batch, anchors)) < 0.1, rng.integers(1, classes, (batch, anchors)), 0)
    target[0] = 0  # an image without objects
    if seed == 5:
        target[:] = 0  # a batch without objects
    if seed == 4:
        target[1] = 1  # no background at all
    boxes = np.concatenate([rng.normal(size=(batch, anchors, 4)), (target > 0)[..., None]], -1).astype(
        np.float32
    )
    logits = rng.normal(size=(batch, anchors, classes)).astype(np.float32) * 3
    deltas = rng.normal(size=(batch, anchors, 4)).astype(np.float32) * 2
    expected = reference(target, boxes, logits, deltas)
    assert float(ConfidenceLoss()(target, logits)) == pytest.approx(expected[0], rel=1e-5)
    assert float(LocationLoss()(boxes, deltas)) == pytest.approx(expected[1], rel=1e-5)


def test_label_smoothing_by_hand():
    # One match of class 1 of two, no other anchor: (1 - 0.2 + 0.1) of its loss and 0.1 of background's.
    logits = np.float32([[[0, np.log(3)]]])
    smooth = ConfidenceLoss(label_smoothing=0.2)(np.array([[1]]), logits)
    assert float(smooth) == pytest.approx(0.9 * np.log(4 / 3) + 0.1 * np.log(4))
    assert float(ConfidenceLoss()(np.array([[1]]), logits)) == pytest.approx(np.log(4 / 3))


def test_label_smoothing_equals_a_published_one():
    """PyTorch's, over all anchors: a ratio so high that none is left out."""
    torch = pytest.importorskip("torch", reason="needs the extra 'bench'")
    rng = np.random.default_rng(1)
    target, logits = rng.integers(0, 4, (2, 30)), rng.normal(size=(2, 30, 4)).astype(np.float32)
    ours = ConfidenceLoss(negative_ratio=60, label_smoothing=0.1)(target, logits)
    tensors = torch.tensor(logits.reshape(-1, 4)), torch.tensor(target.ravel())
    theirs = torch.nn.functional.cross_entropy(*tensors, label_smoothing=0.1, reduction="sum")
    assert float(ours) == pytest.approx(float(theirs) / (target > 0).sum(), rel=1e-5)


def test_a_stage_hands_its_label_smoothing_to_the_loss():
    picture = keras.Input((2, 2))
    network = keras.Model(picture, [picture, keras.layers.Dense(4, use_bias=False)(picture)])
    target = np.array([[1, 0]]), np.zeros((1, 2, 5), np.float32)
    losses = []
    for smoothing in (0.0, 0.3):
        stage = Stage("all", 1, label_smoothing=smoothing)
        compile_stage(network, keras.optimizers.SGD(0.0), stage)
        losses.append(network.evaluate(np.float32([[[0, 2], [2, 0]]]), target, return_dict=True, verbose=0))
    assert losses[1]["loss"] - losses[0]["loss"] == pytest.approx(
        2 * 0.3 * (2 - 1)
    )  # two anchors; a mean logit of 1


def test_background_images_train():
    loss = ConfidenceLoss()(np.zeros((1, 10), int), np.zeros((1, 10, 2), np.float32))
    assert float(loss) == pytest.approx(3 * np.log(2))


def test_equal_losses_are_not_all_taken():
    chosen = np.asarray(hard_negatives(np.ones((1, 20), np.float32), np.eye(1, 20, dtype=bool), 3))
    assert chosen.sum() == 3
    assert not chosen[0, 0]


def test_location_loss_by_hand():
    true = np.float32([[[0, 0, 0, 0, 1], [9, 9, 9, 9, 0]]])
    # 0.5 * 0.5**2 + (2 - 0.5), one match; the second anchor does not count.
    assert float(LocationLoss()(true, np.float32([[[0.5, 2, 0, 0], [0, 0, 0, 0]]]))) == pytest.approx(1.625)


def test_matched_accuracy_leaves_background_out():
    metric = MatchedAccuracy()
    logits = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0]]]
    metric.update_state(np.array([[0, 1, 1, 0]]), logits)
    assert float(metric.result()) == 0.5
