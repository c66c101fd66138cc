import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.loss import ConfidenceLoss, LocationLoss, MatchedAccuracy, hard_negatives


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
