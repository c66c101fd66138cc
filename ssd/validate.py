"""Validation: loss, accuracies and average precision of a model over a split, from one pass."""

import math

import numpy as np

from ssd.anchors import make_anchors
from ssd.backend import keras
from ssd.batches import Batches
from ssd.history import AP
from ssd.loss import ConfidenceLoss, LocationLoss, MatchedAccuracy
from ssd.metrics.voc import evaluate_voc
from ssd.postprocess import postprocess
from ssd.records import Detections, Sample
from ssd.spec import SSDSpec


def validate(
    back: keras.Model,
    batches: Batches,
    samples: list[Sample],
    spec: SSDSpec,
    names: tuple[str, ...],
    found: list[Detections],
) -> dict:
    """Loss, accuracies, VOC07 mAP and AP over a split, from one pass.

    Args:
        back: the model, or its part behind the frozen layers.
        batches: the split in order, as `back` takes it.
        samples: the same split.
        spec: of the model.
        names: its classes.
        found: empty; takes what is found in each sample.
    Returns:
        val_loss, val_acc (all anchors), val_matched_acc (matched anchors only), val_mAP and AP_CLASS
        (None without a true box): plain numbers.
    Raises:
        ValueError: a loss is not finite; with the photos.
    """
    losses = ConfidenceLoss(), LocationLoss()
    accuracies = keras.metrics.SparseCategoricalAccuracy(), MatchedAccuracy()
    anchors, total = make_anchors(spec), 0.0
    for i in range(len(batches)):
        inputs, targets = batches[i]
        outputs = [np.asarray(out) for out in back.predict_on_batch(inputs)]
        loss = sum(float(f(t, y)) for f, t, y in zip(losses, targets, outputs, strict=True))
        if not math.isfinite(loss):
            photos = ", ".join(str(s.path) for s in samples[len(found) :][: len(outputs[0])])
            raise ValueError(f"val_loss must be finite. Received: {loss} for {photos}")
        total += loss
        for accuracy in accuracies:
            accuracy.update_state(targets[0], outputs[0])
        for row in zip(*outputs, strict=True):
            sample = samples[len(found)]
            parts = postprocess(*row, anchors, spec)
            found.append(Detections(*parts, names, sample.height, sample.width))
    scores = evaluate_voc(samples, found, names)["voc07"]
    measured = {
        "val_loss": total / len(batches),
        "val_acc": float(accuracies[0].result()),
        "val_matched_acc": float(accuracies[1].result()),
        "val_mAP": scores["mAP"] or 0.0,
    }
    return measured | {f"{AP}{name}": value for name, value in scores["AP"].items()}
