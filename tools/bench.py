"""ssd bench: models in, what they cost on this CPU out."""

import json
from pathlib import Path

import click

from ssd.beside import replace_text
from ssd.cli import run, say

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Photos: a folder or a file, repeatable; samples/ unless told. With --split: labelled data.",
)
@click.option("--split", help="Of --data: its photos are timed, and mAP is measured on all of them.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the network; all cores unless told.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Photos in one call.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Turns of every network; the warm-up not counted.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Begin no round after this time; three are done anyway.",
)
@click.option(
    "--against",
    multiple=True,
    type=click.Choice(["torch", "onnxruntime", "opencv"]),
    help="The first model's network there, in float32, in turns; repeatable.",
)
@click.option(
    "--onnx",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ONNX file for onnxruntime and opencv; written unless told.",
)
@click.option("--limits", is_flag=True, help="Measure what this machine can do at best, in the same turns.")
@click.option("--rates", is_flag=True, help="Measure ssd detect of a folder and a video, too.")
@click.option(
    "--video",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Of --rates; the sample unless told.",
)
@click.option(
    "--cold-starts",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Processes a model; 0: neither cold start nor memory.",
)
@click.option("--json", "json_path", type=FILE, help="Write everything here.")
@click.option("--markdown", "markdown_path", type=FILE, help="Write the tables here.")
def main(
    models: tuple,
    data: tuple,
    split: str | None,
    json_path: Path | None,
    markdown_path: Path | None,
    **options,
) -> None:
    """Measure what MODEL... cost on this CPU: from a photo to drawn boxes, part by part.

    MODEL is the name of a shipped model, a model folder or file, or a checkpoint; default unless told.
    """
    if split and len(data) != 1:
        raise click.UsageError(f"--split needs one --data. Received: {len(data)}")
    for path in (json_path, markdown_path):
        if path and not path.parent.is_dir():
            raise click.UsageError(f"results need a folder that is there. Received: {path}")
    report = run(_bench, models or ("default",), data, split, options)
    _print(report)
    for path, make in ((json_path, _json), (markdown_path, _markdown)):
        if path:
            run(replace_text, path, make(report))
            say(f"results -> {path}")


def _bench(models: tuple, data: tuple, split: str | None, options: dict) -> dict:
    from ssd.bench.run import Plan, bench
    from ssd.bench.sources import find_photos, labelled_photos, sample_video

    photos = labelled_photos(data[0], split) if split else find_photos(data)
    if options["rates"] and not options["video"]:
        options["video"] = sample_video()
    labelled = data[0] if split else None
    plan = Plan(models, tuple(photos), data=labelled, split=split, **options)
    return bench(plan, lambda text: click.echo(f"{text} ...", err=True))


def _print(report: dict) -> None:
    from rich import box
    from rich.table import Table

    from ssd.bench.tables import about, tables
    from ssd.terminal import table_text

    say(about(report))
    for table in tables(report):
        shown = Table(title=table.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for text in table.header:
            shown.add_column(text, overflow="fold")
        for row in table.rows:
            shown.add_row(*(cell.replace(" / ", "\n") for cell in row))  # p95 below p50: 80 columns do
        say(table_text(shown))
        for note in table.notes:
            say(f"- {note}")


def _json(report: dict) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _markdown(report: dict) -> str:
    from ssd.bench.tables import markdown

    return markdown(report)


if __name__ == "__main__":
    main()
