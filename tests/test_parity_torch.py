"""Matching and the multibox loss, with its gradients, against an independent implementation in torch."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")
torch = pytest.importorskip("torch", reason="needs torch, for the independent implementation")

from ssd.anchors import encode_targets, make_anchors  # noqa: E402
from ssd.batches import Views  # noqa: E402
from ssd.datasets.read import find_classes, read_split  # noqa: E402
from ssd.loss import ConfidenceLoss, LocationLoss  # noqa: E402
from ssd.spec import PREPROCESSING, SPECS  # noqa: E402

VARIANCES = torch.tensor([0.1, 0.1, 0.2, 0.2])


def torch_targets(anchors, boxes, labels):
    """The paper's matching: best pairs first, then every anchor above 0.5; encoded as Caffe does."""
    # float32 as in the program: two anchors may overlap a box equally but for the last digit.
    anchors, boxes = torch.from_numpy(anchors), torch.from_numpy(boxes)
    low = torch.maximum(anchors[None, :, :2], boxes[:, None, :2])
    high = torch.minimum(anchors[None, :, 2:], boxes[:, None, 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    area = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, anchors)]
    overlap = inside / (area[0][:, None] + area[1][None] - inside)
    best, index = overlap.max(0)
    index[best <= 0.5] = -1
    left = overlap.clone()
    for _ in range(len(boxes)):
        box, anchor = divmod(int(left.argmax()), len(anchors))
        if left[box, anchor] <= 0:
            break
        index[anchor] = box
        left[box], left[:, anchor] = -1, -1
    matched = index >= 0
    classes = torch.where(matched, torch.from_numpy(labels)[index.clamp(min=0)] + 1, 0)
    target = boxes[index.clamp(min=0)]
    size = anchors[:, 2:] - anchors[:, :2]
    centre = (target[:, :2] + target[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / size
    deltas = torch.cat([centre, ((target[:, 2:] - target[:, :2]) / size).log()], 1) / VARIANCES
    return classes, torch.where(matched[:, None], deltas, 0.0).float()


def torch_loss(classes, targets, logits, deltas):
    """Cross entropy of matches and the 3:1 hardest others of each image; smooth L1 of the matches."""
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), classes, reduction="none")
    positive = classes > 0
    counted = positive.clone()
    for i in range(len(classes)):
        wanted = 3 * max(1, int(positive[i].sum()))
        hard = each[i].detach().masked_fill(positive[i], -1).topk(wanted).indices
        counted[i, hard] = True
    matches = max(1, int(positive.sum()))
    smooth = torch.nn.functional.smooth_l1_loss(deltas[positive], targets[positive], reduction="sum")
    return each[counted].sum() / matches, smooth / matches


def compare(rows, seed):
    """Ours and torch's targets, losses and gradients on random outputs."""
    spec = SPECS["ssd300"]
    anchors = make_anchors(spec)
    ours = [encode_targets(spec, anchors, boxes, labels) for boxes, labels in rows]
    theirs = [torch_targets(anchors, boxes, labels) for boxes, labels in rows]
    for (classes, deltas), (other, targets) in zip(ours, theirs, strict=True):
        assert np.array_equal(classes, other.numpy())
        assert np.abs(deltas - targets.numpy()).max() < 1e-4 * max(1, np.abs(deltas).max())
    classes, boxes = (np.stack([row[i] for row in ours]) for i in (0, 1))
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (*classes.shape, 7)).astype(np.float32)
    deltas = rng.normal(0, 2, boxes.shape).astype(np.float32)
    given = [torch.from_numpy(a).requires_grad_() for a in (logits, deltas)]
    expected = torch_loss(torch.from_numpy(classes).long(), torch.from_numpy(boxes), *given)
    sum(expected).backward()
    with_mask = np.concatenate([boxes, (classes > 0)[..., None]], -1).astype(np.float32)
    losses = (lambda x: ConfidenceLoss()(classes, x), lambda x: LocationLoss()(with_mask, x))
    for loss, value, wanted, tensor in zip(losses, (logits, deltas), expected, given, strict=True):
        found, gradient = gradient_of(loss, value)
        assert found == pytest.approx(wanted.item(), rel=1e-5)
        assert np.abs(gradient - tensor.grad.numpy()).max() < 1e-5 * tensor.grad.abs().max()


def gradient_of(loss, value):
    import tensorflow as tf

    x = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = loss(x)
    return float(found), tape.gradient(found, x).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_random_batches(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for count in (1, 5, 30):
        corner = rng.uniform(0, 0.8, (count, 2))
        size = rng.uniform(0.02, 0.6, (count, 2))
        boxes = np.concatenate([corner, np.minimum(corner + size, 1)], 1).astype(np.float32)
        rows.append((boxes, rng.integers(0, 6, count)))
    compare(rows, seed)


def test_real_batches(shared):
    folder = shared / "data/voc_animals"
    classes = tuple(sorted(find_classes(folder, "val")))[:6]
    samples = [s for s in read_split(folder, "val", classes) if len(s.boxes)][:16]
    views = Views(samples, SPECS["ssd300"], PREPROCESSING["vgg16"], seed=3)
    rows = [views(i)[1:] for i in range(16)]
    compare([(boxes, labels) for boxes, labels in rows if len(boxes)], 1)
