"""ssd data: check, measure, convert, split and look at labelled photos before training."""

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.cli import run, track

if TYPE_CHECKING:
    from ssd.datasets.doctor import Checkup

DATA = click.Path(exists=True, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
SHOWN = 5  # faults of a kind on the screen


@click.group()
def main() -> None:
    """Check, measure, convert and split labelled photos; DATA is a folder or file of any format."""


@main.command()
@click.argument("data", nargs=-1, required=True, type=DATA, metavar="DATA...")
@click.option("--split", "splits", multiple=True, help="Only this split; repeatable.")
@click.option("--classes", help="All classes that may occur: a,b, a text file, voc or coco.")
@click.option("--fix", "fixed", type=FOLDER, help="Write a mended copy in VOC layout to this new folder.")
@click.option("--json", "json_path", type=FILE, help="Write all faults here.")
@click.option("--all", "show_all", is_flag=True, help=f"Show more than {SHOWN} faults of a kind.")
def check(
    data: tuple,
    splits: tuple,
    classes: str | None,
    fixed: Path | None,
    json_path: Path | None,
    show_all: bool,
) -> None:
    """Find faults in labels and photos; exit status 1 if there are errors. Nothing in DATA is changed."""
    from ssd.datasets.doctor import check as examine
    from ssd.datasets.doctor import fix
    from ssd.transfer.classes import parse_classes

    if fixed and len(data) > 1:
        raise click.UsageError("--fix takes one DATA at a time")
    names = run(parse_classes, classes) if classes else ()
    report = run(examine, data, splits, names, track)
    _print_faults(report, show_all)
    if json_path:
        facts = {"data": [str(root) for root in data], "images": report.images, "boxes": report.boxes}
        faults = [fault.as_dict() for fault in report.faults]
        run(_write, json_path, facts | {"errors": report.errors, "faults": faults})
    if fixed:
        counts = run(fix, report, data[0], fixed)
        click.echo(f"mended copy -> {fixed} ({', '.join(f'{name} {n}' for name, n in counts.items())})")
    if report.errors:
        raise SystemExit(1)


def _print_faults(report: "Checkup", show_all: bool) -> None:
    groups = defaultdict(list)
    for fault in report.faults:
        groups[fault.level, fault.kind, fault.remedy].append(fault)
    order = ("error", "warning", "note")
    for (level, kind, remedy), faults in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        click.echo(f"{level} {kind} ({len(faults)}): {remedy}")
        shown = faults if show_all else faults[:SHOWN]
        for fault in shown:
            click.echo(f"  {fault.file}: {fault.text}")
        if len(shown) < len(faults):
            click.echo(f"  and {len(faults) - len(shown)} more (--all shows them)")
    counts = [sum(fault.level == level for fault in report.faults) for level in order]
    said = ", ".join(f"{n} {level}{'' if n == 1 else 's'}" for n, level in zip(counts, order, strict=True))
    click.echo(f"{report.images} images, {report.boxes} boxes: {said}")


def _write(path: Path, content: dict) -> None:
    beside = path.with_name(f".part-{path.name}")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    beside.replace(path)


if __name__ == "__main__":
    main()
