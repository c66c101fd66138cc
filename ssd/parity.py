"""Is an exported model the same detector? Two detectors side by side on the same pictures."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ssd.anchors import decode
from ssd.detector import Detector
from ssd.metrics.voc import evaluate_voc
from ssd.postprocess import softmax
from ssd.records import Sample

EXACT = 1e-4  # largest difference of a score, or of a corner as a share of the picture, in float32
# Of a rounded model without labelled photos: RMS difference of class logits and of box deltas in a feature
# map, as a share of how much they vary over all anchors. Measured: docs/export.md.
AGREEMENT = 0.25
MAP_POINTS = 0.005  # of mAP, of a rounded model with labelled photos


@dataclass(frozen=True)
class Difference:
    """How far two detectors are apart in one feature map, over all pictures."""

    layer: str
    scores: float  # largest difference of a class probability
    boxes: float  # largest difference of a corner, as a share of the picture
    logits_share: float  # RMS difference of logits, as a share of their spread over all maps
    deltas_share: float  # the same of box deltas
    picture: str  # where the largest difference is

    def far(self, exact: bool) -> list[str]:
        """What is over the tolerance, in words."""
        if exact:
            values = {"scores": self.scores, "boxes": self.boxes}
            return [f"{what} differ by up to {v:.2g}" for what, v in values.items() if not v <= EXACT]
        values = {"class logits": self.logits_share, "box deltas": self.deltas_share}
        return [
            f"{what} differ by {v:.2f} of their spread" for what, v in values.items() if not v <= AGREEMENT
        ]


@dataclass(frozen=True)
class Parity:
    """What a comparison found; `fault` is empty where the two are the same detector."""

    differences: tuple[Difference, ...]
    fault: str
    map_reference: float | None = None
    map_other: float | None = None

    def summary(self) -> dict:
        """Plain numbers, for a card."""
        worst = {
            "scores": max(d.scores for d in self.differences),
            "boxes": max(d.boxes for d in self.differences),
            "logits_share": max(d.logits_share for d in self.differences),
            "deltas_share": max(d.deltas_share for d in self.differences),
        }
        scores = {"mAP": self.map_other, "mAP_of_keras": self.map_reference}
        return {key: round(float(v), 6) for key, v in (worst | scores).items() if v is not None}


def compare(
    reference: Detector,
    other: Detector,
    pictures: Iterable[tuple[str, np.ndarray]],
    labelled: list[Sample] | None = None,
) -> Parity:
    """Run two detectors on the same pictures, each with its own preprocessing and anchors.

    Args:
        reference: the model as it was trained.
        other: what was made of it; its card's precision decides the tolerance.
        pictures: names and (H, W, 3) uint8 RGB pictures, at least one.
        labelled: photos with boxes; a rounded model is then judged by VOC07 mAP on them.
    Returns:
        differences a feature map, in the order of the network, and the fault if there is one.
    """
    sums, exact = _Sums(reference), other.card.precision == "f32"
    for name, image in pictures:
        sums.add(name, _answers(reference, image), _answers(other, image))
    differences = sums.differences()
    if broken := [d for d in differences if not np.isfinite([d.scores, d.boxes]).all()]:
        return Parity(differences, f"{broken[0].layer} of {broken[0].picture} is not finite")
    if labelled and not exact:
        return _by_map(differences, reference, other, labelled)
    far = [(d, d.far(exact)) for d in differences]
    faults = [f"{d.layer}: {' and '.join(words)} ({d.picture})" for d, words in far if words]
    where = f"first apart at {faults[0]}, {len(faults)} of {len(far)} feature maps" if faults else ""
    return Parity(differences, where)


def mean_ap(detector: Detector, samples: list[Sample]) -> float:
    """VOC07 mAP on labelled photos; 0 where they have no object of its classes."""
    found = [future.result()[1] for future in detector.find_all(sample.path for sample in samples)]
    return evaluate_voc(samples, found, detector.class_names)["voc07"]["mAP"] or 0.0


class _Sums:
    """Sums over pictures, a row a feature map."""

    def __init__(self, reference: Detector) -> None:
        maps = reference.card.ssd_spec.feature_maps
        ends = np.cumsum([m.size**2 * m.anchors_per_cell for m in maps])
        self._rows = [
            (m.layer, slice(end - m.size**2 * m.anchors_per_cell, end))
            for m, end in zip(maps, ends, strict=True)
        ]
        self._most = {layer: [0.0, 0.0, ""] for layer, _ in self._rows}
        self._squares = {layer: np.zeros(4) for layer, _ in self._rows}

    def add(self, name: str, ours: tuple, theirs: tuple) -> None:
        spread = [np.square(values - values.mean(0)).mean() for values in ours[:2]]
        for layer, rows in self._rows:
            logits, deltas, scores, boxes = (
                np.abs(a[rows] - b[rows]) for a, b in zip(ours, theirs, strict=True)
            )
            most = self._most[layer]
            worst, now = np.max(most[:2]), np.max([scores.max(), boxes.max()])
            if now > worst or (np.isnan(now) and not np.isnan(worst)):
                most[2] = name
            most[0], most[1] = np.maximum(most[0], scores.max()), np.maximum(most[1], boxes.max())
            self._squares[layer] += [np.square(logits).mean(), spread[0], np.square(deltas).mean(), spread[1]]

    def differences(self) -> tuple[Difference, ...]:
        rows = []
        for layer, _ in self._rows:
            scores, boxes, picture = self._most[layer]
            logits, logits_spread, deltas, deltas_spread = np.sqrt(self._squares[layer])
            shares = logits / (logits_spread or 1.0), deltas / (deltas_spread or 1.0)
            rows.append(Difference(layer, float(scores), float(boxes), *map(float, shares), picture))
        return tuple(rows)


def _answers(detector: Detector, image: np.ndarray) -> tuple:
    """Class logits, box deltas, scores and boxes of all anchors."""
    outputs = detector.network(detector.prepare([image]))
    logits, deltas = np.array(outputs.class_logits[0]), np.array(outputs.box_deltas[0])
    boxes = decode(deltas, detector.anchors, detector.card.ssd_spec.variances)
    return logits, deltas, softmax(logits), boxes


def _by_map(
    differences: tuple[Difference, ...], reference: Detector, other: Detector, samples: list[Sample]
) -> Parity:
    fault, (ours, theirs) = "", (mean_ap(reference, samples), mean_ap(other, samples))
    if abs(ours - theirs) > MAP_POINTS:
        worst = max(differences, key=lambda d: d.logits_share)
        fault = (
            f"VOC07 mAP {theirs:.4f} beside {ours:.4f} over {len(samples)} photos; furthest apart at "
            f"{worst.layer} (logits by {worst.logits_share:.2f} of their spread, {worst.picture})"
        )
    return Parity(differences, fault, ours, theirs)
