"""The multibox loss: softmax with hard negatives, and smooth L1, both divided by the matches.

The two terms are two Keras losses, one for each output of the model, because the location term
needs no logits once the matches travel with its target.
Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; normalisation as in weiliu89/caffe,
src/caffe/layers/multibox_loss_layer.cpp (VALID).
"""

from ssd.backend import keras
from ssd.distribute import sum_over_devices

ops = keras.ops


class ConfidenceLoss(keras.losses.Loss):
    """Cross entropy over the matched anchors and the hardest background anchors.

    Per image, `negative_ratio` times as many background anchors as matched ones count: those of
    highest loss. An image without objects trains as background too, with `negative_ratio` anchors.

    Args:
        negative_ratio: background anchors a match.
        label_smoothing: share of each target that is spread over all classes, for labels may be wrong; the
            hardest anchors are chosen without it. Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """

    def __init__(
        self, negative_ratio: int = 3, label_smoothing: float = 0.0, name: str = "confidence_loss"
    ) -> None:
        super().__init__(name=name, reduction=None, dtype="float32")
        self.negative_ratio, self.label_smoothing = negative_ratio, label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """(B, A) int classes and (B, A, C + 1) logits -> scalar."""
        classes = ops.cast(y_true, "int32")
        losses = cross_entropy(classes, y_pred)
        positive = classes > 0
        counted = ops.logical_or(positive, hard_negatives(losses, positive, self.negative_ratio))
        if self.label_smoothing:
            losses = cross_entropy(classes, y_pred, self.label_smoothing)
        return ops.sum(ops.where(counted, losses, 0.0)) / _matches(positive)


class LocationLoss(keras.losses.Loss):
    """Smooth L1 of the box deltas over the matched anchors, times `weight`."""

    def __init__(self, weight: float = 1.0, name: str = "location_loss") -> None:
        super().__init__(name=name, reduction=None, dtype="float32")
        self.weight = weight

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """(B, A, 5) box_deltas and matched (1 or 0), and (B, A, 4) box_deltas -> scalar."""
        matched = y_true[..., 4]
        error = ops.abs(y_true[..., :4] - y_pred)
        smooth = ops.where(error < 1.0, 0.5 * ops.square(error), error - 0.5)
        return self.weight * ops.sum(ops.sum(smooth, axis=-1) * matched) / _matches(matched > 0)


def cross_entropy(
    classes: keras.KerasTensor, logits: keras.KerasTensor, label_smoothing: float = 0.0
) -> keras.KerasTensor:
    """(B, A) softmax cross entropy of (B, A) int classes and (B, A, C + 1) logits."""
    chosen = ops.sum(logits * ops.one_hot(classes, logits.shape[-1]), axis=-1)
    if label_smoothing:
        chosen += label_smoothing * (ops.mean(logits, axis=-1) - chosen)
    return ops.logsumexp(logits, axis=-1) - chosen


def hard_negatives(losses: keras.KerasTensor, positive: keras.KerasTensor, ratio: int) -> keras.KerasTensor:
    """Choose the background anchors of highest loss, `ratio` times the matches of each image.

    Args:
        losses: (B, A) loss of each anchor.
        positive: (B, A) bool, matched anchors.
        ratio: background anchors a match; an image without a match counts as having one.
    Returns:
        (B, A) bool; of equal losses (flat picture areas give many) those of lower index count.
    """
    matches = ops.sum(ops.cast(positive, "int32"), axis=1, keepdims=True)
    wanted = ops.minimum(ops.maximum(matches, 1) * ratio, losses.shape[1] - matches)
    negative_losses = ops.stop_gradient(ops.where(positive, -1.0, losses))
    place = ops.argsort(ops.argsort(-negative_losses, axis=1), axis=1)  # 0: highest loss
    return ops.logical_and(ops.cast(place, "int32") < wanted, ops.logical_not(positive))


class MatchedAccuracy(keras.metrics.Mean):
    """Share of the matched anchors whose likeliest class is the right one.

    The plain accuracy over all anchors is nearly 1 for a network that calls everything background.
    """

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,
    ) -> None:
        """(B, A) int classes and (B, A, C + 1) logits."""
        classes = ops.cast(y_true, "int32")
        right = ops.cast(ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), classes), "float32")
        super().update_state(right, ops.cast(classes > 0, "float32"))


def _matches(positive: keras.KerasTensor) -> keras.KerasTensor:
    """Of the whole batch, of which other devices may hold the rest."""
    return ops.maximum(sum_over_devices(ops.sum(ops.cast(positive, "float32"))), 1.0)
