"""Scales of the feature maps that fit the boxes of a data set, and what to think of those of a spec."""

from dataclasses import asdict, replace

import numpy as np

from ssd.boxes import area, to_centres
from ssd.datasets.ceiling import IOU, Ceiling, counted_boxes, measure_ceiling
from ssd.records import Sample
from ssd.spec import FeatureMap, SSDSpec

LOW_CEILING = 0.9  # below it the scales are worth a change
WORTH = 0.01  # of the ceiling that other scales must bring
BEYOND = 8.0  # pixels: a side below the step of the finest map is more than anchors can mend
_CANDIDATES = np.geomspace(5, 300, 48)  # pixels, sides that are tried
_MAX_BOXES = 4000  # that the scales are fitted to, drawn at random from more
_STEP_UP = 1.15  # least factor from one scale to the next


def propose_scales(samples: list[Sample], spec: SSDSpec, seed: int = 0) -> SSDSpec:
    """Other scales of the same feature maps that more boxes of the data reach.

    Each scale in turn takes the candidate of the highest ceiling (then the highest mean IoU) while the
    others stay, from the spec's own and from the quantiles of the data, until nothing moves. As in the
    original, the largest side of a map is the scale of the next one.

    Returns:
        the spec with other scales, or itself where they bring no more than WORTH.
    """
    boxes = counted_boxes(samples)
    if len(boxes) > _MAX_BOXES:
        boxes = np.random.default_rng(seed).choice(boxes, _MAX_BOXES, replace=False)
    if len(boxes) == 0:
        return spec
    sides = np.sqrt(area(boxes)) * spec.image_size
    own = _scales(spec)
    quantiles = np.quantile(sides, np.linspace(0.02, 0.98, len(own)))
    starts = [own, _rising(quantiles), _rising(np.geomspace(max(5, quantiles[0]), 315, len(own)))]
    climbed = [_climb(start, boxes, spec) for start in starts]
    score, scales = max(climbed, key=lambda pair: pair[0])
    if score[0] < _score(own, boxes, spec)[0] + WORTH:
        return spec
    return _with_scales(spec, scales)


def fit(samples: list[Sample], spec: SSDSpec, class_names: tuple[str, ...]) -> dict:
    """The ceiling of a spec, proposed scales and theirs, and what to think of it, as plain data.

    Returns:
        spec, ceiling (`Ceiling`), scales and proposed ({"min_size", "max_size", "ceiling"}), both one
        number a feature map in pixels of the network's square, and flags: sentences.
    """
    now, better = measure_ceiling(samples, spec, class_names), propose_scales(samples, spec)
    then = now if better is spec else measure_ceiling(samples, better, class_names)
    if then.boxes and then.ceiling < now.ceiling + WORTH:
        better, then = spec, now
    sides = (counted_boxes(samples)[:, 2:] - counted_boxes(samples)[:, :2]) * spec.image_size
    return {
        "spec": spec.name,
        "image_size": spec.image_size,
        "ceiling": asdict(now),
        "scales": _plain(spec),
        "proposed": None if better is spec else _plain(better) | {"ceiling": asdict(then)},
        "flags": _flags(now, then, better is not spec, sides),
    }


def _flags(now: Ceiling, then: Ceiling, changed: bool, sides: np.ndarray) -> list[str]:
    if not now.boxes:
        return ["there are no boxes"]
    flags = []
    if now.ceiling < LOW_CEILING:
        flags.append(
            f"{1 - now.ceiling:.0%} of the boxes have no anchor of IoU {IOU}: the anchors do not fit"
        )
    if changed:
        flags.append(f"the proposed scales raise the ceiling from {now.ceiling:.3f} to {then.ceiling:.3f}")
    if (tiny := float((sides.min(1) < BEYOND).mean())) > 0.1:
        flags.append(
            f"{tiny:.0%} of the boxes have a side below {BEYOND:g} pixels as the network sees them: "
            "cut the photos into tiles, or crop them"
        )
    return flags


def _plain(spec: SSDSpec) -> dict:
    maps = spec.feature_maps
    return {"min_size": [m.min_size for m in maps], "max_size": [m.max_size for m in maps]}


def _scales(spec: SSDSpec) -> np.ndarray:
    """The scale of each map, and the largest side of the last."""
    last = spec.feature_maps[-1]
    return np.array([*(m.min_size for m in spec.feature_maps), last.max_size or 1.2 * last.min_size])


def _with_scales(spec: SSDSpec, scales: np.ndarray) -> SSDSpec:
    """Whole pixels; a map without a second square stays without."""
    whole = [float(round(value)) for value in scales]
    maps = [
        replace(m, min_size=whole[i], max_size=None if m.max_size is None else whole[i + 1])
        for i, m in enumerate(spec.feature_maps)
    ]
    return replace(spec, feature_maps=tuple(maps))


def _rising(scales: np.ndarray) -> np.ndarray:
    rising = scales.copy()
    for i in range(1, len(rising)):
        rising[i] = max(rising[i], rising[i - 1] * _STEP_UP)
    return np.minimum(rising, 315 * _STEP_UP ** np.arange(1 - len(rising), 1))


def _climb(scales: np.ndarray, boxes: np.ndarray, spec: SSDSpec) -> tuple[tuple, np.ndarray]:
    """Coordinate ascent; ends when a round over all scales changes none."""
    score, moved = _score(scales, boxes, spec), True
    while moved:
        moved = False
        for i in range(len(scales)):
            low = scales[i - 1] * _STEP_UP if i else 0
            high = scales[i + 1] / _STEP_UP if i + 1 < len(scales) else np.inf
            for value in (v for v in _CANDIDATES if low < v < high):
                tried = scales.copy()
                tried[i] = value
                if (new := _score(tried, boxes, spec)) > score:
                    scales, score, moved = tried, new, True
    return score, scales


def _score(scales: np.ndarray, boxes: np.ndarray, spec: SSDSpec) -> tuple[float, float]:
    """Ceiling and mean best IoU, for anchors that are not clipped."""
    best = np.zeros(len(boxes))
    centres = to_centres(boxes) * spec.image_size
    for i, feature_map in enumerate(spec.feature_maps):
        top = None if feature_map.max_size is None else scales[i + 1]
        best = np.maximum(best, _best_iou(replace(feature_map, min_size=scales[i], max_size=top), centres))
    return float((best >= IOU).mean()), float(best.mean())


def _best_iou(feature_map: FeatureMap, centres: np.ndarray) -> np.ndarray:
    """(N,) best IoU of one map with boxes_cxcywh in pixels: of each shape the nearest cell is the best."""
    cell = np.clip(np.floor(centres[:, :2] / feature_map.step), 0, feature_map.size - 1)
    offset = np.abs(centres[:, :2] - (cell + 0.5) * feature_map.step)
    small, large = feature_map.min_size, feature_map.max_size
    shapes = [(small, small)] + ([] if large is None else [(np.sqrt(small * large),) * 2])
    for ratio in feature_map.aspect_ratios:
        shapes += [
            (small * np.sqrt(ratio), small / np.sqrt(ratio)),
            (small / np.sqrt(ratio), small * np.sqrt(ratio)),
        ]
    shape = np.array(shapes)[:, None]  # (shapes, 1, 2)
    sides = centres[None, :, 2:]
    shared = np.minimum(np.minimum(shape, sides), np.maximum((shape + sides) / 2 - offset, 0)).prod(-1)
    return (shared / (shape.prod(-1) + sides.prod(-1) - shared)).max(0)
