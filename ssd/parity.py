"""Is an exported model the same detector? Two detectors side by side on the same pictures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ssd.anchors import decode
from ssd.detector import Detector
from ssd.metrics.bootstrap import draw, interval, mean_of_classes, resample_voc
from ssd.metrics.tables import found_of_detections, truth_of_samples
from ssd.metrics.voc import Ranking, rank_voc, score_voc
from ssd.postprocess import choose, postprocess, softmax
from ssd.records import Sample

EXACT = 1e-4  # largest difference of a score, or of a corner as a share of the picture, in float32
# Of a rounded model without labelled photos: RMS difference of class logits and of box deltas in a feature
# map, as a share of how much they vary over all anchors. Measured: docs/export.md.
AGREEMENT = 0.25
MAP_POINTS = 0.005  # of mAP, with labelled photos
MAP_PHOTOS = 200  # of fewer, half a point is less than chance: docs/export.md
RESAMPLES = 1000
# Of the boxes that a graph suppresses itself: a score or an overlap at its very limit may fall either way.
CLOSE_CALLS = 0.02


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
        other: what was made of it; its card's precision decides the tolerance. It sees as many pictures
            at once as its network takes.
        pictures: names and (H, W, 3) uint8 RGB pictures, at least one.
        labelled: photos with boxes; both must have the same VOC07 mAP on them, which alone judges a
            rounded model.
    Returns:
        differences a feature map, in the order of the network, and the fault if there is one.
    """
    sums, exact, pictures = _Sums(reference), other.card.precision == "f32", list(pictures)
    images = [image for _, image in pictures]
    theirs = [answer for some in _batches(other, images) for answer in _answers(other, some)]
    for (name, image), answer in zip(pictures, theirs, strict=True):
        sums.add(name, _answers(reference, [image])[0], answer)
    differences = sums.differences()
    if broken := [d for d in differences if not np.isfinite([d.scores, d.boxes]).all()]:
        return Parity(differences, f"{broken[0].layer} of {broken[0].picture} is not finite")
    far = [(d, d.far(exact)) for d in differences]
    faults = [f"{d.layer}: {' and '.join(words)} ({d.picture})" for d, words in far if words]
    if faults and (exact or not labelled):
        return Parity(differences, f"first apart at {faults[0]}, {len(faults)} of {len(far)} feature maps")
    if fault := _suppression_fault(other, pictures):
        return Parity(differences, fault)
    return _by_map(differences, reference, other, labelled) if labelled else Parity(differences, "")


def mean_ap(detector: Detector, samples: list[Sample]) -> float:
    """VOC07 mAP on labelled photos; 0 where they have no object of its classes."""
    return _score(_ranked(detector, samples), detector.class_names)


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


def _batches(detector: Detector, items: list) -> Iterator[list]:
    """As many at a time as the network takes; the last ones may be fewer."""
    return (items[i : i + detector.network.batch] for i in range(0, len(items), detector.network.batch))


def _answers(detector: Detector, images: list[np.ndarray]) -> list[tuple]:
    """Class logits, box deltas, scores and boxes of all anchors, of each picture of one call."""
    outputs = detector.network(detector.prepare(images))
    found = []
    for i in range(len(images)):
        logits, deltas = np.array(outputs.class_logits[i]), np.array(outputs.box_deltas[i])
        boxes = decode(deltas, detector.anchors, detector.card.ssd_spec.variances)
        found.append((logits, deltas, softmax(logits), boxes))
    return found


def _suppression_fault(detector: Detector, pictures: list[tuple[str, np.ndarray]]) -> str:
    """How the boxes that the graph keeps differ from those of its own raw outputs; empty if they do not."""
    limits, lost, kept, most = detector.network.limits, 0, 0, (0, "")
    for some in _batches(detector, pictures) if limits else ():
        outputs = detector.network(detector.prepare([image for _, image in some]))
        for i, (name, _) in enumerate(some):
            raw = outputs.class_logits[i], outputs.box_deltas[i]
            ours = postprocess(*raw, detector.anchors, detector.card.ssd_spec, *limits)
            theirs = choose(*outputs.found[i], limits.score_threshold, limits.max_detections)
            alone = _alone(ours, theirs)
            lost, kept, most = lost + alone, kept + len(ours[0]), max(most, (alone, name))
    if lost <= CLOSE_CALLS * kept:
        return ""
    return f"suppression in the graph differs in {lost} boxes from NumPy's {kept}, most in {most[1]}"


def _alone(ours: tuple, theirs: tuple) -> int:
    """How many of two sets of boxes, labels and scores are without their like in the other."""
    left = np.ones(len(ours[0]), bool)
    for box, label, score in zip(*theirs, strict=True):
        same = left & (ours[1] == label) & (np.abs(ours[2] - score) <= EXACT)
        same &= (np.abs(ours[0] - box) <= EXACT).all(1)
        left[np.flatnonzero(same)[:1]] = False
    return 2 * int(left.sum()) + len(theirs[0]) - len(left)


def _by_map(
    differences: tuple[Difference, ...], reference: Detector, other: Detector, samples: list[Sample]
) -> Parity:
    ranked = [_ranked(detector, samples) for detector in (reference, other)]
    ours, theirs = (_score(rankings, reference.class_names) for rankings in ranked)
    far = [d for d in differences if d.far(exact=False)]
    # Outputs that agree pass if mAP rose, or if so few photos cannot tell half a point from chance.
    excused = not far and (theirs > ours or (len(samples) < MAP_PHOTOS and _by_chance(*ranked)))
    if abs(ours - theirs) <= MAP_POINTS or excused:
        return Parity(differences, "", ours, theirs)
    worst = max(differences, key=lambda d: d.logits_share)
    fault = (
        f"VOC07 mAP {theirs:.4f} beside {ours:.4f} over {len(samples)} photos; furthest apart at "
        f"{worst.layer} (logits by {worst.logits_share:.2f} of their spread, {worst.picture})"
    )
    return Parity(differences, fault, ours, theirs)


def _ranked(detector: Detector, samples: list[Sample]) -> list[Ranking]:
    found = [future.result()[1] for future in detector.find_all(sample.path for sample in samples)]
    return rank_voc(truth_of_samples(samples, detector.class_names), found_of_detections(found))


def _score(rankings: list[Ranking], class_names: tuple[str, ...]) -> float:
    return score_voc(rankings, class_names)["voc07"]["mAP"] or 0.0


def _by_chance(ours: list[Ranking], theirs: list[Ranking]) -> bool:
    """Whether the 95 % interval of the difference of two mAPs, photos drawn anew, has 0 in it."""
    draws = draw(len(ours[0].truths), RESAMPLES)
    means = [
        mean_of_classes(np.array([resample_voc(ranking, draws)[0] for ranking in rankings]))
        for rankings in (ours, theirs)
    ]
    low, high = interval(means[1] - means[0]) or (0, 0)
    return low <= 0 <= high
