"""ssd evaluate: labelled photos and a model or its detections in, average precision out."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.beside import replace_json, replace_text
from ssd.cli import fail, names, run, say, track

if TYPE_CHECKING:
    from ssd.evaluation import Evaluation, Split
    from ssd.metrics.operating import Point

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("data", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--split", default="val", show_default=True, help="Name of a split, or a file that lists images."
)
@click.option("--model", help="Name of a shipped model, or a model folder; default unless told.")
@click.option(
    "--detections",
    type=click.Path(exists=True, path_type=Path),
    help="Score these, not a model: COCO results, a folder of VOC comp4 text, or what ssd detect saves.",
)
@click.option("--classes", help="With --detections: only these classes: a,b.")
@click.option(
    "--iou",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Least overlap of a hit by VOC's rules.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    help="Resamples of the images for 95 % intervals; 0: none.",
)
@click.option(
    "--target-precision",
    type=click.FloatRange(0, 1, min_open=True),
    help="Choose a score threshold a class that reaches this; kept in the card of a model folder.",
)
@click.option(
    "--least-score",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="No threshold of --target-precision below this.",
)
@click.option("--report", "report_path", type=FILE, help="Write a page here (.html).")
@click.option("--json", "json_path", type=FILE, help="Write the scores here, and what --compare needs.")
@click.option("--compare", type=(FILE, FILE), metavar="A.json B.json", help="Second minus first, paired.")
@click.option("--store", is_flag=True, help="Write scores, and thresholds, into the card of the model, too.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the network; all cores unless told.")
def main(
    data: Path | None,
    split: str,
    model: str | None,
    detections: Path | None,
    classes: str | None,
    iou: float,
    bootstrap: int,
    target_precision: float | None,
    least_score: float,
    report_path: Path | None,
    json_path: Path | None,
    compare: tuple[Path, Path] | None,
    store: bool,
    threads: int | None,
) -> None:
    """Score a model, or detections of any program, on the labelled photos of DATA by VOC's and COCO's rules.

    DATA is a folder or file in VOC, COCO, YOLO or CSV layout. Photos are needed for a model only.
    """
    from ssd.evaluation_tables import comparison_text, points_text, scores_text

    if least_score and not target_precision:
        raise click.UsageError("--least-score goes with --target-precision")
    if compare:
        if data or detections or model:
            raise click.UsageError(
                "--compare takes two files that --json wrote, and neither DATA nor a model"
            )
        compared = run(_compare, *compare, bootstrap)
        say(comparison_text(compared, compare))
        if json_path:
            run(replace_json, json_path, compared)
            say(f"comparison -> {json_path}")
        return
    if data is None:
        raise click.UsageError("Missing argument 'DATA', or --compare A.json B.json.")
    if detections and (model or store or threads):
        raise click.UsageError("--detections come without a model: no --model, --store or --threads")
    if classes and not detections:
        raise click.UsageError("--classes goes with --detections; a model has classes of its own")
    if detections:
        source, evaluation, facts = run(_read, data, split, detections, names(classes), iou)
    else:
        source, evaluation, facts = run(_detect, data, split, model or "default", iou, threads)
    if target_precision:
        evaluation, points = run(_choose, evaluation, target_precision, least_score)
        facts["operating_points"] = {
            "target": target_precision,
            "least_score": least_score,
            "classes": _points(evaluation, points),
        }
    scores = run(_score, source, evaluation, facts, bootstrap)
    say(scores_text(scores))
    if target_precision:
        say(points_text(scores["operating_points"]))
    if not detections:
        run(_store, model or "default", scores, store)
    if json_path:
        packed = scores | {"matches": run(evaluation.matches)}
        run(replace_json, json_path, packed)
        say(f"scores -> {json_path}")
    if report_path:
        run(_write_report, source, evaluation, scores, report_path)
        say(f"report -> {report_path}")


def _detect(data: Path, split: str, model: str, iou: float, threads: int | None) -> tuple:
    import time

    from ssd.detector import Detector
    from ssd.evaluation import Evaluation, open_split
    from ssd.metrics.tables import found_of_detections

    detector = Detector.load(model, threads, many=True)
    source = open_split(data, split, detector.class_names)
    truth = source.truth  # faults of the labels come before the work
    started = time.monotonic()
    # 0.01, not the threshold for the eye: average precision needs the weak detections too.
    futures = detector.find_all((image.path for image in source.images), score_threshold=0.01)
    found = [future.result()[1] for future in track(futures, "evaluating", len(source.images))]
    seconds = time.monotonic() - started
    facts = {"model": detector.card.name, "images_per_s": round(len(found) / seconds, 2)}
    facts["streams"] = detector.network.streams
    columns = found_of_detections(found)
    return source, Evaluation(truth, columns, iou, detector.card.thresholds), facts


def _read(data: Path, split: str, path: Path, classes: tuple[str, ...], iou: float) -> tuple:
    from ssd.datasets.detections import read_detections
    from ssd.evaluation import Evaluation, open_split

    source = open_split(data, split, classes, photos=False)
    if unknown := [name for name in classes if name not in source.known_names]:
        raise ValueError(
            f"--classes must be of the data set: {', '.join(source.known_names)}. Received: {unknown[0]}"
        )
    found = read_detections(
        path,
        source.images,
        source.class_names,
        category_names=source.category_names,
        other_classes=bool(classes),
    )
    return source, Evaluation(source.truth, found, iou), {"detections": str(path)}


def _choose(evaluation: "Evaluation", target: float, least: float) -> tuple:
    from dataclasses import replace

    points = evaluation.operating_points(target, least)
    chosen = zip(evaluation.truth.class_names, points, strict=True)
    thresholds = {name: point.threshold for name, point in chosen if point.threshold is not None}
    return replace(evaluation, thresholds=thresholds), points


def _points(evaluation: "Evaluation", points: list["Point"]) -> dict:
    return {
        name: {
            "threshold": point.threshold,
            "precision": point.precision,
            "recall": point.recall,
            "held_out": point.held_out.as_dict(),
        }
        for name, point in zip(evaluation.truth.class_names, points, strict=True)
    }


def _score(source: "Split", evaluation: "Evaluation", facts: dict, resamples: int) -> dict:
    truth = evaluation.truth
    scores = dict(evaluation.scores)
    if resamples:
        told = {"level": 0.95, "resamples": resamples, "method": "percentiles over resampled images"}
        scores["intervals"] = told | evaluation.intervals(resamples)
    facts = facts | {"data": str(source.data), "split": source.name, "iou": evaluation.iou_threshold}
    facts |= {"images": len(truth.image_ids), "detections_scored": len(evaluation.found)}
    counts = {name: int(r.truths.sum()) for name, r in zip(truth.class_names, evaluation.voc, strict=True)}
    about = {"sha256": truth.sha256, "data": str(source.data), "split": source.name}
    about |= {"iou": evaluation.iou_threshold, "boxes": counts}
    return scores | facts | {"truth": about}


def _store(model: str, scores: dict, wanted: bool) -> None:
    """Scores go into the card if wanted; thresholds also if the model is a folder of the user's."""
    from dataclasses import replace

    from ssd.card import CARD_NAME, card_from_json, card_to_json
    from ssd.detector import WEIGHTS, find_model

    path = find_model(model).with_name(CARD_NAME)
    if not path.is_file():  # a checkpoint, whose card training wrote
        if wanted:
            fail(f"--store is for compiled models. Received: {model}")
        return
    card = card_from_json(path.read_text("utf-8"), str(path))
    chosen = scores.get("operating_points", {}).get("classes", {})
    is_own = WEIGHTS.resolve() not in path.resolve().parents
    if chosen and (wanted or is_own):
        limits = {name: row["threshold"] for name, row in chosen.items() if row["threshold"] is not None}
        card = replace(card, thresholds=limits)
        say(f"thresholds -> {path}")
    elif chosen:
        say(f"{card.name} is shipped: --store writes the thresholds into its card")
    if wanted:
        name = f"{Path(scores['data']).resolve().name}/{scores['split']}"
        told = ("voc07", "voc10", "coco", "iou", "images", "intervals", "operating_points")
        measured = {key: scores[key] for key in told if key in scores}
        card = replace(card, scores=card.scores | {name: measured})
        say(f"scores -> {path}")
    if wanted or (chosen and is_own):
        replace_text(path, card_to_json(card))


def _write_report(source: "Split", evaluation: "Evaluation", scores: dict, path: Path) -> None:
    from ssd.evaluation_page import write_evaluation

    write_evaluation(source, evaluation, scores, path)


def _compare(first: Path, second: Path, resamples: int) -> dict:
    from ssd.metrics.matches import compare, read_scored

    if not resamples:
        raise ValueError("--compare needs resamples. Received: --bootstrap 0")
    one, two = read_scored(first), read_scored(second)
    about = {"first": str(first), "second": str(second), "resamples": resamples, "level": 0.95}
    return about | compare(one, two, resamples)


if __name__ == "__main__":
    main()
