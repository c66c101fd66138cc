"""Intervals of average precision: the images are drawn again, with replacement, many times.

Detections are matched once. A resample gives each image the number of times that it was drawn, and
each detection and true box counts as often as its image. The interval is from the 2.5th to the
97.5th percentile of the resampled values (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", chapter 13). It says what other images of the same kind would change, not what another
training would.
"""

from collections.abc import Sequence

import numpy as np

from ssd.metrics.coco import LEVELS, THRESHOLDS, CocoRanking, counted
from ssd.metrics.voc import HIT, IGNORED, Ranking

SEED = 0
CHUNK = 4_000_000  # counts at once; bounds the memory
PERCENTILES = (2.5, 97.5)
# Number of COCO -> thresholds and size that it is the mean of.
COCO_NUMBERS = {
    "AP": (slice(None), 0),
    "AP50": (slice(0, 1), 0),
    "AP75": (slice(5, 6), 0),
    "APs": (slice(None), 1),
    "APm": (slice(None), 2),
    "APl": (slice(None), 3),
}


def intervals(
    voc: Sequence[Ranking],
    coco: Sequence[CocoRanking],
    class_names: Sequence[str],
    resamples: int,
    seed: int = SEED,
) -> dict:
    """95 % intervals of VOC's and COCO's means, and of each class by VOC's rules.

    Returns:
        {"voc07": {"mAP": [low, high], "AP": {class: [low, high]}}, "voc10": the same,
        "coco": {"AP": [low, high], ...}}; None where there is no value.
    """
    values = resample(voc, coco, resamples, seed)
    out = {}
    for rule in ("voc07", "voc10"):
        rows = [interval(row) for row in values[rule]]
        mean = interval(mean_of_classes(values[rule]))
        out[rule] = {"mAP": mean, "AP": dict(zip(class_names, rows, strict=True))}
    return out | {"coco": {name: interval(row) for name, row in values["coco"].items()}}


def resample(
    voc: Sequence[Ranking],
    coco: Sequence[CocoRanking],
    resamples: int,
    seed: int = SEED,
    numbers: Sequence[str] = tuple(COCO_NUMBERS),
) -> dict:
    """The values of every resample, the same draws for whatever has as many images; `numbers` of COCO's.

    Returns:
        {"voc07": (C, B), "voc10": (C, B), "coco": {number: (B,)}}; not a number where a resample
        has no true box of the class.
    """
    draws = draw(len(voc[0].truths), resamples, seed) if voc else np.zeros((resamples, 0), np.int32)
    pairs = [resample_voc(ranking, draws) for ranking in voc]
    out = {rule: np.array([pair[i] for pair in pairs]) for i, rule in enumerate(("voc07", "voc10"))}
    sizes = sorted({COCO_NUMBERS[name][1] for name in numbers})
    by_size = {a: np.array([resample_coco(r, a, draws) for r in coco]) for a in sizes}  # (C, T, B)
    out["coco"] = {
        name: mean_of_classes(by_size[a][:, steps].reshape(-1, resamples))
        for name, (steps, a) in ((name, COCO_NUMBERS[name]) for name in numbers)
    }
    return out


def draw(images: int, resamples: int, seed: int = SEED) -> np.ndarray:
    """(B, I) int32: how often each image was drawn, as many as there are in each resample."""
    rng = np.random.default_rng(seed)
    rows = [np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(resamples)]
    return np.array(rows, dtype=np.int32).reshape(resamples, images)


def resample_voc(ranking: Ranking, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) VOC07 and (B,) VOC2010+ average precision of one class in every resample."""
    kept = ranking.verdict != IGNORED
    image, hits = ranking.image[kept], np.flatnonzero(ranking.verdict[kept] == HIT)
    truths = draws @ ranking.truths
    both = _sums_until(draws, image, hits)
    true = np.cumsum(draws[:, image[hits]], axis=1, dtype=np.int32)
    return average_precisions(true, both, truths, 11), average_precisions(true, both, truths, None)


def resample_coco(ranking: CocoRanking, a: int, draws: np.ndarray) -> np.ndarray:
    """(T, B) COCO's average precision of one class and size at every threshold and resample."""
    truths = draws @ ranking.truths[a]
    ours = ranking.candidates
    plain = ranking.sized[a].copy()
    plain[ours] = False
    # False at every threshold, up to each candidate: the places of those among the plain ones.
    until = np.cumsum(plain)[ours]
    before = _sums_before(draws, ranking.image[plain], until)
    weights = draws[:, ranking.image[ours]]
    out = np.full((len(THRESHOLDS), len(draws)), np.nan)
    for t, (hit, count) in enumerate(zip(ranking.hits[a], counted(ranking, a), strict=True)):
        true = np.cumsum(weights[:, hit], axis=1, dtype=np.int32)
        both = before + np.cumsum(weights * count, axis=1, dtype=np.int32)
        out[t] = average_precisions(true, both[:, hit], truths, len(LEVELS))
    return out


def average_precisions(
    true: np.ndarray, both: np.ndarray, truths: np.ndarray, levels: int | None
) -> np.ndarray:
    """(B,) average precision of resamples, from what is counted after each hit.

    Args:
        true: (B, H) true positives so far.
        both: (B, H) true and false positives so far.
        truths: (B,) true boxes.
        levels: 11 or 101 recalls from 0 to 1; None for the area.
    """
    rows = len(truths)
    precision = np.divide(true, both, out=np.zeros(true.shape, np.float32), where=both > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if levels is None:
        steps = np.diff(true, prepend=0, axis=1)
        total = truths
    else:
        # How many levels each hit is the first to reach; level 0 is reached by the first. Levels are the
        # floats that the scores are made with: 3 of 10 does not reach 0.30000000000000004.
        recall = true / np.maximum(truths, 1)[:, None]
        level = np.floor(recall * (levels - 1) + 1e-9).astype(np.int32)
        reached = level + (np.linspace(0, 1, levels)[level] <= recall)
        steps = np.diff(reached, prepend=0, axis=1)
        total = np.full(rows, levels)
    sums = np.einsum("bh,bh->b", steps, envelope)
    return np.divide(sums, total, out=np.full(rows, np.nan), where=truths > 0)


def mean_of_classes(values: np.ndarray) -> np.ndarray:
    """(B,) means of (C, B) over the classes that a resample has true boxes of."""
    known = ~np.isnan(values)
    counts = known.sum(0)
    sums = np.where(known, values, 0).sum(0)
    return np.divide(sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0)


def replicate_means(values: dict) -> dict[str, np.ndarray]:
    """(B,) values of each mean: voc07, voc10 and COCO's numbers under coco.NAME."""
    means = {rule: mean_of_classes(values[rule]) for rule in ("voc07", "voc10")}
    return means | {f"coco.{name}": row for name, row in values["coco"].items()}


def interval(values: np.ndarray) -> list[float] | None:
    """Its two percentiles; None where no resample has a value."""
    known = values[~np.isnan(values)]
    return [float(v) for v in np.percentile(known, PERCENTILES)] if len(known) else None


def _sums_until(draws: np.ndarray, image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(B, H) weights of all rows up to each of the rising places, itself included."""
    return _sums_before(draws, image, places + 1)


def _sums_before(draws: np.ndarray, image: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(B, H) weights of the first so many rows, for rising `ends`."""
    images = draws.shape[1]
    begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    weights = draws.astype(np.float32)
    out = np.zeros((len(draws), len(ends)), dtype=np.float32)
    step = max(1, CHUNK // max(1, images))
    for h in range(0, len(ends), step):
        # How many rows of each stretch between two ends are of each image; whole numbers below 2 ** 24
        # are exact in float32, whose product of matrices is the fastest sum there is.
        lengths = (ends - begins)[h : h + step]
        stretch = np.repeat(np.arange(len(lengths)), lengths)
        rows = image[begins[h] : begins[h] + len(stretch)]
        counts = np.bincount(rows * len(lengths) + stretch, minlength=images * len(lengths))
        out[:, h : h + step] = weights @ counts.reshape(images, -1).astype(np.float32)
    return np.cumsum(out, axis=1, dtype=np.float64).astype(np.int32)
