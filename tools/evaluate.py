"""ssd evaluate: a model and labelled photos in, average precision out."""

import json
from pathlib import Path

import click

from ssd.cli import run, track


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--split", default="val", show_default=True, help="A name, or a file that lists images.")
@click.option(
    "--model", default="default", show_default=True, help="Name of a shipped model, or a model folder."
)
@click.option(
    "--iou",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Least overlap of a hit.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the scores here."
)
@click.option("--store", is_flag=True, help="Write the scores into the card of the model, too.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the network; all cores unless told.")
def main(
    data: Path,
    split: str,
    model: str,
    iou: float,
    json_path: Path | None,
    store: bool,
    threads: int | None,
) -> None:
    """Score a model on the photos of DATA (VOC, COCO, YOLO or CSV), as PASCAL VOC does."""
    scores = run(_evaluate, data, split, model, iou, threads)
    _print(scores)
    if store:
        run(_store, model, scores)
    if json_path:
        run(_write, json_path, json.dumps(scores, indent=2, ensure_ascii=False) + "\n")
        click.echo(f"scores -> {json_path}")


def _evaluate(data: Path, split: str, model: str, iou: float, threads: int | None) -> dict:
    import time

    from ssd.datasets.read import read_split
    from ssd.detector import Detector
    from ssd.images import load_image
    from ssd.metrics.voc import evaluate_voc

    detector = Detector.load(model, threads)
    samples = read_split(data, split, detector.class_names)
    if not samples:
        raise ValueError(f"split must name images. Received: {split!r} of {data}, which is empty")
    started = time.monotonic()
    # 0.01, not the threshold for the eye: average precision needs the weak detections too.
    found = [
        detector(load_image(s.path), score_threshold=0.01) for s in track(samples, "evaluating", len(samples))
    ]
    seconds = time.monotonic() - started
    facts = {"model": detector.card.name, "data": str(data), "split": split, "iou": iou}
    facts |= {"images": len(samples), "images_per_s": round(len(samples) / seconds, 2)}
    return evaluate_voc(samples, found, detector.class_names, iou) | facts


def _store(model: str, scores: dict) -> None:
    from dataclasses import replace

    from ssd.card import CARD_NAME, card_from_json, card_to_json
    from ssd.detector import find_model

    path = find_model(model) / CARD_NAME
    card = card_from_json(path.read_text("utf-8"), str(path))
    name = f"{Path(scores['data']).resolve().name}/{scores['split']}"
    measured = {key: scores[key] for key in ("voc07", "voc10", "iou", "images")}
    _write(path, card_to_json(replace(card, scores=card.scores | {name: measured})))
    click.echo(f"scores -> {path}")


def _print(scores: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("class", "VOC07", "VOC2010+", title=f"{scores['model']} on {scores['images']} images")
    for name in scores["voc07"]["AP"]:
        table.add_row(name, *(_number(scores[rule]["AP"][name]) for rule in ("voc07", "voc10")))
    table.add_section()
    table.add_row("mAP", *(_number(scores[rule]["mAP"]) for rule in ("voc07", "voc10")))
    Console().print(table)


def _number(value: float | None) -> str:
    return "no boxes" if value is None else f"{value:.4f}"


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".part-{path.name}")
    beside.write_text(text, "utf-8")
    beside.replace(path)


if __name__ == "__main__":
    main()
