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


@main.command()
@click.argument("data", type=DATA)
@click.option("--split", "splits", multiple=True, help="Count only this split; repeatable; all unless told.")
@click.option("--out", type=FOLDER, help="Draw the counts into this folder: classes, sizes, shapes, objects.")
@click.option("--json", "json_path", type=FILE, help="Write the counts here.")
def stats(data: Path, splits: tuple, out: Path | None, json_path: Path | None) -> None:
    """Count boxes a class, their sizes and shapes, and objects an image."""
    from ssd.datasets.stats import summary

    counted = run(_count, data, splits)
    facts = {"data": str(data), "split": ", ".join(splits) or "all"} | summary(counted)
    _print_counts(facts)
    if json_path:
        run(_write, json_path, facts)
    if out:
        from ssd.datasets.charts import draw_charts

        title = f"{data.resolve().name}, {facts['split']}"
        for path in run(draw_charts, counted, out, title):
            click.echo(f"chart -> {path}")


@main.command()
@click.argument("data", type=DATA)
@click.option("--split", default="train", show_default=True, help="A name, all, or a file that lists images.")
@click.option("--spec", default="ssd300", show_default=True, help="ssd300, ssd300_coco or ssd300_v1.")
@click.option("--classes", help="Only these classes: a,b, a text file, voc or coco.")
@click.option("--json", "json_path", type=FILE, help="Write everything here.")
def fit(data: Path, split: str, spec: str, classes: str | None, json_path: Path | None) -> None:
    """Tell before any training which boxes the anchors can meet, and which scales would meet more.

    Sizes are COCO's (32 and 96 pixels), measured in the 300x300 square that the network sees.
    """
    facts = run(_fit, data, split, spec, classes)
    _print_fit(facts)
    if json_path:
        run(_write, json_path, facts)


@main.command()
@click.argument("data", type=DATA)
@click.option(
    "--to", type=click.Choice(["voc", "coco", "yolo", "csv"]), required=True, help="The new layout."
)
@click.option("--out", type=FOLDER, required=True, help="New folder.")
@click.option("--split", "splits", multiple=True, help="Only this split; repeatable; all unless told.")
@click.option("--link", is_flag=True, help="Link the photos in place of copying them.")
def convert(data: Path, to: str, out: Path, splits: tuple, link: bool) -> None:
    """Write DATA in another layout, with its photos."""
    from ssd.datasets.convert import convert as write

    counts = run(write, data, to, out, splits=splits, link=link)
    click.echo(f"{', '.join(f'{name} {n}' for name, n in counts.items())} images -> {out}")


@main.command()
@click.argument("data", type=DATA)
@click.option("--parts", required=True, help="NAME:SHARE, comma between, such as train:0.8,val:0.2.")
@click.option(
    "--split", "pool", default="all", show_default=True, help="What is divided; a split test stays out."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace lists of these names.")
def split(data: Path, parts: str, pool: str, seed: int, overwrite: bool) -> None:
    """Divide DATA into splits: every class in every part, photos that show the same in one part."""
    from ssd.datasets.parts import split_data
    from ssd.datasets.read import lists_folder

    made = run(split_data, data, _parts(parts), pool=pool, seed=seed, overwrite=overwrite)
    _print_parts(made)
    click.echo(f"lists -> {lists_folder(data)}")


@main.command()
@click.argument("data", type=DATA)
@click.option("--out", type=FILE, required=True, help="A picture (.png, .jpg) or a page (.html).")
@click.option("--split", default="train", show_default=True, help="A name, all, or a file that lists images.")
@click.option(
    "--images", type=click.IntRange(1, 200), default=6, show_default=True, help="Photos; a row each."
)
@click.option(
    "--views", type=click.IntRange(1, 50), default=5, show_default=True, help="Seeds; a column each."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first of them.")
@click.option("--max-expand", type=click.FloatRange(1), default=4.0, show_default=True)
def augment(data: Path, out: Path, split: str, images: int, views: int, seed: int, max_expand: float) -> None:
    """Show photos as training sees them, with their boxes."""
    shown = run(_augment, data, out, split, images, list(range(seed, seed + views)), max_expand)
    click.echo(f"{shown} photos, {views} views of each -> {out}")


def _count(data: Path, splits: tuple):
    from ssd.datasets.read import find_classes, read_split
    from ssd.datasets.stats import count

    chosen = splits or ("all",)
    names = tuple(sorted({name for split in chosen for name in find_classes(data, split)}))
    samples = [s for split in chosen for s in read_split(data, split, names, photos=False)]
    return count(samples, names)


def _print_counts(facts: dict) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    columns = ("boxes", "difficult", "images", "small", "medium", "large")
    title = f"{facts['data']}, split {facts['split']}"
    table = Table("class", title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in (*columns, "side", "aspect"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in sorted(facts["classes"].items(), key=lambda item: -item[1]["boxes"]):
        cells = [str(row[key]) for key in columns]
        if row["boxes"]:
            cells += [f"{row['side'][1]:.0f}", "{0:.1f}-{2:.1f}".format(*row["aspect"])]
        table.add_row(name, *cells)
    _show(table)
    per_image = facts["objects_per_image"]
    click.echo(f"{facts['images']} images ({facts['background']} without a box), {facts['boxes']} boxes")
    if per_image:
        click.echo("boxes in an image: {1:g} in the middle, {0:g} to {2:g} in nine of ten".format(*per_image))
    click.echo(
        "in the 300x300 square: small below 32x32 pixels, large from 96x96; side: the middle root of area"
    )
    click.echo("aspect: width by height in the photo, of nine boxes in ten")


def _fit(data: Path, split: str, spec: str, classes: str | None) -> dict:
    from ssd.datasets.fit import fit
    from ssd.datasets.read import find_classes, read_split
    from ssd.spec import get_spec
    from ssd.transfer.classes import parse_classes

    wanted = get_spec(spec)
    names = parse_classes(classes) if classes else find_classes(data, split)
    samples = read_split(data, split, names, photos=False)
    return {"data": str(data), "split": split} | fit(samples, wanted, names)


def _print_fit(facts: dict) -> None:
    from rich.table import Table

    now, proposed = facts["ceiling"], facts["proposed"]
    then = proposed["ceiling"] if proposed else None
    title = f"share of boxes with an anchor of IoU 0.5: {facts['spec']} on {facts['data']}, {facts['split']}"
    table = Table("boxes", facts["spec"], *(["proposed"] if then else []), title=title)
    for group in ("by_class", "by_size"):
        for name in now[group]:
            table.add_row(name, *(_share(c[group][name]) for c in (now, then) if c))
        table.add_section()
    for key, text in (("ceiling", "all"), ("bipartite", "with no anchor but by the bipartite step")):
        table.add_row(text, *(_share(c[key]) for c in (now, then) if c))
    table.add_row("anchors a box", *(str(c["anchors_per_box"]) for c in (now, then) if c))
    _show(table)
    for name, scales in ((facts["spec"], facts["scales"]), ("proposed", proposed)):
        if scales:
            pairs = zip(scales["min_size"], scales["max_size"], strict=True)
            said = ", ".join(f"{low:g}" if high is None else f"{low:g} to {high:g}" for low, high in pairs)
            click.echo(f"{name}: scales of the feature maps {said} pixels")
    for flag in facts["flags"]:
        click.echo(f"note: {flag}")
    if not proposed:
        click.echo(f"no other scales bring a point more: keep those of {facts['spec']}")


def _share(value: float | None) -> str:
    return "no boxes" if value is None else f"{value:.3f}"


def _parts(text: str) -> dict[str, float]:
    """The shares of "train:0.8,val:0.2"."""
    try:
        rows = [part.split(":") for part in text.split(",")]
        parts = {name.strip(): float(share) for name, share in rows}
    except ValueError:
        raise click.BadParameter(f"--parts must be NAME:SHARE, comma between. Received: {text!r}") from None
    if len(parts) < len(rows):
        raise click.BadParameter(f"--parts must have names of their own. Received: {text!r}")
    return parts


def _print_parts(made: dict) -> None:
    from rich.table import Table

    table = Table("class", *made)
    names = sorted({name for part in made.values() for name in part["boxes"]})
    for name in names:
        table.add_row(name, *(str(part["boxes"].get(name, 0)) for part in made.values()))
    table.add_section()
    table.add_row("images", *(str(part["images"]) for part in made.values()))
    _show(table)
    if lacking := [name for name in names if any(name not in part["boxes"] for part in made.values())]:
        click.echo(f"note: too rare for every part: {', '.join(lacking)}")


def _augment(data: Path, out: Path, split: str, count: int, seeds: list[int], max_expand: float) -> int:
    from ssd.datasets.read import find_classes, read_split
    from ssd.views_page import augmented_rows, write_page

    names = find_classes(data, split)
    samples = [s for s in read_split(data, split, names) if len(s.boxes)]
    if not samples:
        raise ValueError(f"split must hold boxes. Received: {split!r} of {data}, which has none")
    chosen = samples[:: max(1, len(samples) // count)][:count]
    rows = augmented_rows(chosen, names, seeds, max_expand=max_expand)
    write_page(out, rows, [s.path.name for s in chosen], seeds)
    return len(chosen)


def _show(table: object) -> None:
    from rich.console import Console

    Console().print(table)


def _write(path: Path, content: dict) -> None:
    beside = path.with_name(f".part-{path.name}")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    beside.replace(path)


if __name__ == "__main__":
    main()
