"""The page of an evaluation: curves, confusion, errors, calibration and the worst images."""

import os
import platform
from pathlib import Path

import numpy as np

from ssd.boxes import from_pixels
from ssd.draw import PALETTE
from ssd.evaluation import DEFAULT_SCORE, Evaluation, Split
from ssd.metrics.errors import KINDS
from ssd.metrics.voc import HIT, IGNORED, Ranking, judge_voc, precision_recall
from ssd.page import Picture, css, figure_picture, new_figure, photo_picture, render, save_page
from ssd.records import Detections, Sample

WORST = 12  # images shown
MOST_POINTS = 500  # of a curve; more cannot be seen
MOST_CELLS = 25  # classes whose confusion is written in numbers
BLUE, ORANGE = css(PALETTE[4]), css(PALETTE[5])
WORDS = {
    "localisation": "overlaps a true box of its class, but too little",
    "classification": "overlaps a true box of another class enough",
    "duplicate": "a better detection has the true box already",
    "background": "overlaps nothing",
    "both": "overlaps a true box of another class, but too little",
    "missed": "a true box that nothing hits and no error of the first two kinds lies on",
}


def write_evaluation(source: Split, evaluation: Evaluation, scores: dict, path: str | Path) -> None:
    """Write the page.

    Args:
        source: the split, which knows the photos; those that are missing are drawn grey.
        evaluation: with the operating point to show.
        scores: what `ssd evaluate --json` writes.
        path: of the page.
    Raises:
        OSError: it cannot be written.
    """
    save_page(path, evaluation_html(source, evaluation, scores))


def evaluation_html(source: Split, evaluation: Evaluation, scores: dict) -> str:
    """The HTML of the page; arguments as `write_evaluation`."""
    names, intervals = evaluation.truth.class_names, scores.get("intervals", {})
    bins, ece = evaluation.calibration
    told = scores.get("model") or scores.get("detections")
    points = scores.get("operating_points", {})
    sizes = evaluation.by_size()
    return render(
        "evaluation.html",
        title=f"Evaluation of {told}",
        source=told,
        data=scores["data"],
        split=scores["split"],
        images=scores["images"],
        detections=len(evaluation.found),
        boxes=sum(scores["truth"]["boxes"].values()),
        class_names=names,
        iou=evaluation.iou_threshold,
        headline=_headline(scores, intervals),
        rows=_rows(scores, intervals),
        coco=scores["coco"],
        resamples=intervals.get("resamples"),
        curves=_curves(evaluation, scores),
        target=points.get("target"),
        points=points.get("classes", {}),
        limits=list(zip(names, evaluation.limits.tolist(), strict=True)),
        default_score=DEFAULT_SCORE,
        confusion=_confusion(evaluation.confusion, names),
        calibration=_calibration(bins),
        ece=ece,
        sizes=[[name, *row.values()] for name, row in sizes.items()],
        errors=[
            [r["kind"], WORDS[r["kind"]], r["count"], r["gain"], r["share"]] for r in evaluation.errors.rows()
        ],
        errors_picture=_errors(evaluation),
        worst=_worst(source, evaluation),
        rate=scores.get("images_per_s"),
        streams=scores.get("streams"),
        machine=f"{os.cpu_count()} cores, {platform.machine()}",
    )


def _headline(scores: dict, intervals: dict) -> list[tuple]:
    return [
        ("VOC07 mAP", scores["voc07"]["mAP"], intervals.get("voc07", {}).get("mAP")),
        ("VOC2010+ mAP", scores["voc10"]["mAP"], intervals.get("voc10", {}).get("mAP")),
        ("COCO AP", scores["coco"]["AP"], intervals.get("coco", {}).get("AP")),
        ("COCO AP50", scores["coco"]["AP50"], intervals.get("coco", {}).get("AP50")),
    ]


def _rows(scores: dict, intervals: dict) -> list[dict]:
    counts = scores["truth"]["boxes"]

    def cells(rule: str, name: str | None) -> tuple:
        found, around = scores[rule], intervals.get(rule, {})
        if name is None:
            return found["mAP"], around.get("mAP")
        return found["AP"][name], around.get("AP", {}).get(name)

    rows = [(name, counts[name], name) for name in counts] + [("mAP", sum(counts.values()), None)]
    return [
        {"name": text, "boxes": boxes, "is_mean": name is None}
        | {rule: cells(rule, name) for rule in ("voc07", "voc10")}
        for text, boxes, name in rows
    ]


def _curves(evaluation: Evaluation, scores: dict) -> list[Picture]:
    pictures = []
    for name, ranking, limit in zip(
        evaluation.truth.class_names, evaluation.voc, evaluation.limits, strict=True
    ):
        curve = precision_recall(ranking)
        if curve is not None:
            text = f"{name}: VOC2010+ AP {scores['voc10']['AP'][name]:.3f}"
            pictures.append(_curve(name, *curve, _passed(ranking, limit), text))
    return pictures


def _passed(ranking: Ranking, limit: float) -> int:
    """How many counted detections pass the operating point."""
    return int((ranking.scores[ranking.verdict != IGNORED] >= limit).sum())


def _curve(name: str, precision: np.ndarray, recall: np.ndarray, passed: int, text: str) -> Picture:
    figure = new_figure(3.6, 2.6)
    axes = figure.axes[0]
    # The corners of the curve: each hit, and the last miss before it.
    hits = np.flatnonzero(np.diff(recall, prepend=0) > 0)
    corners = np.unique(np.concatenate([hits, np.maximum(hits - 1, 0), [max(len(recall) - 1, 0)]]))
    corners = corners[corners < len(recall)]
    some = corners[:: max(1, len(corners) // MOST_POINTS)]
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    axes.plot(recall[some], precision[some], color=BLUE, linewidth=1.4)
    axes.plot(recall[some], envelope[some], color=BLUE, linewidth=0.9, linestyle=":")
    if passed:
        axes.plot(recall[passed - 1], precision[passed - 1], "o", color=ORANGE, markersize=5)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    # Names are shown as they are: a "$" starts no formula.
    axes.set_title(name, fontsize=10, parse_math=False)
    return figure_picture(figure, text)


def _confusion(matrix: np.ndarray, names: tuple[str, ...]) -> Picture:
    labels = [*names, "background"]
    side = max(3.6, 1.6 + 0.42 * min(len(labels), 40))
    figure = new_figure(side + 0.6, side)
    axes = figure.axes[0]
    axes.grid(False)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    small = 8 if len(labels) <= MOST_CELLS else 4
    for (row, column), count in np.ndenumerate(matrix):
        if count and len(labels) <= MOST_CELLS:
            ink = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=ink)
    columns = [*names, "not found"]
    axes.set_xticks(range(len(labels)), columns, rotation=60, ha="right", fontsize=small, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=small, parse_math=False)
    axes.set_xlabel("found")
    axes.set_ylabel("true")
    return figure_picture(figure, "Confusion matrix; shades are shares of a row")


def _calibration(bins: list) -> Picture:
    figure = new_figure(5.0, 3.9)
    axes = figure.axes[0]
    known = [b for b in bins if b.count]
    axes.plot([0, 1], [0, 1], color="#9aa4ae", linewidth=1, linestyle="--")
    axes.bar(
        [(b.low + b.high) / 2 for b in known],
        [b.precision for b in known],
        width=0.9 / len(bins),
        color=BLUE,
    )
    axes.plot([b.score for b in known], [b.precision for b in known], "o", color=ORANGE, markersize=4)
    for b in known:
        axes.text((b.low + b.high) / 2, b.precision + 0.02, f"{b.count:,}", ha="center", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("score; dots at the mean of each bin")
    axes.set_ylabel("share of hits")
    return figure_picture(figure, "Reliability of scores; numbers are detections")


def _errors(evaluation: Evaluation) -> Picture:
    rows = evaluation.errors.rows()
    figure = new_figure(5.4, 2.6)
    axes = figure.axes[0]
    bars = axes.barh(range(len(KINDS)), [row["gain"] for row in rows], color=BLUE)
    axes.set_yticks(range(len(KINDS)), [row["kind"] for row in rows])
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("gain in VOC2010+ mAP if repaired")
    return figure_picture(figure, "What each kind of error costs")


def _worst(source: Split, evaluation: Evaluation) -> list[Picture]:
    missed, false = count_image_faults(evaluation)
    order = np.argsort(-(missed + false), kind="stable")[:WORST]
    pictures = []
    for i in order[(missed + false)[order] > 0].tolist():
        image = source.images[i]
        sample, found = _records(source, evaluation, i)
        if sample is not None:
            text = f"{image.path.name}: {missed[i]} missed, {false[i]} false"
            pictures.append(photo_picture(sample, found, text))
    return pictures


def count_image_faults(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """(I,) missed true boxes and (I,) false detections of each image at the operating point."""
    truth, found = evaluation.truth, evaluation.passed
    found = found[np.lexsort((-found.scores, found.labels))]
    verdict, _ = judge_voc(truth, found, evaluation.iou_threshold)
    count = len(truth.image_ids)
    true = np.bincount(truth.image[~truth.difficult], minlength=count)
    hit = np.bincount(found.image[verdict == HIT], minlength=count)
    return true - hit, np.bincount(found.image[verdict == 0], minlength=count)


def _records(source: Split, evaluation: Evaluation, i: int) -> tuple[Sample | None, Detections | None]:
    """Truth and detections of one image; None where its size is not known."""
    image, truth, found = source.images[i], evaluation.truth, evaluation.passed
    height, width = image.height, image.width
    if height <= 0 or width <= 0:
        return None, None
    mine, ours = truth.image == i, found.image == i
    boxes = np.clip(from_pixels(truth.boxes_px[mine], height, width), 0, 1)
    sample = Sample(
        image.image_id, image.path, height, width, boxes, truth.labels[mine], truth.difficult[mine]
    )
    theirs = np.clip(from_pixels(found.boxes_px[ours], height, width), 0, 1)
    order = np.argsort(-found.scores[ours], kind="stable")
    detections = Detections(theirs, found.labels[ours], found.scores[ours], truth.class_names, height, width)
    return sample, detections[order]
