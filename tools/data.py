"""ssd data: check, measure, convert, split, crop and look at labelled photos before training."""

from pathlib import Path

import click

from ssd.beside import replace_json
from ssd.cli import run, say, track
from ssd.datasets.tables import SHOWN, counts_text, faults_text, fit_text, parts_text

DATA = click.Path(exists=True, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


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
    say(faults_text(report, show_all))
    if json_path:
        facts = {"data": [str(root) for root in data], "images": report.images, "boxes": report.boxes}
        faults = [fault.as_dict() for fault in report.faults]
        run(replace_json, json_path, facts | {"errors": report.errors, "faults": faults})
    if fixed:
        counts = run(fix, report, data[0], fixed)
        say(f"mended copy -> {fixed} ({', '.join(f'{name} {n}' for name, n in counts.items())})")
    if report.errors:
        raise SystemExit(1)


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
    say(counts_text(facts))
    if json_path:
        run(replace_json, json_path, facts)
    if out:
        from ssd.datasets.charts import draw_charts

        title = f"{data.resolve().name}, {facts['split']}"
        for path in run(draw_charts, counted, out, title):
            say(f"chart -> {path}")


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
    say(fit_text(facts))
    if json_path:
        run(replace_json, json_path, facts)


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
    say(f"{', '.join(f'{name} {n}' for name, n in counts.items())} images -> {out}")


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
    say(parts_text(made))
    say(f"lists -> {lists_folder(data)}")


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
    say(f"{shown} photos, {views} views of each -> {out}")


@main.command()
@click.argument("data", type=DATA)
@click.option("--out", type=FOLDER, required=True, help="New folder.")
@click.option("--split", "splits", multiple=True, help="Repeatable; train and val unless told.")
@click.option("--classes", help="Only these classes: a,b, a text file, voc or coco.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 10),
    default=0.1,
    show_default=True,
    help="Share of the sides of a box that is added on each side.",
)
@click.option(
    "--least-size",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Pixels that both sides of a box must have.",
)
def crops(data: Path, out: Path, splits: tuple, classes: str | None, margin: float, least_size: int) -> None:
    """Cut labelled objects out of their photos into class folders, OUT/SPLIT/CLASS, for `ssd classify`.

    Difficult objects are left out.
    """
    from ssd.datasets.crops import write_crops
    from ssd.transfer.classes import parse_classes

    wanted = run(parse_classes, classes) if classes else None
    how = {"margin": margin, "least": least_size, "class_names": wanted, "track": track}
    counts = run(write_crops, data, out, splits, **how)
    for split, found in counts.items():
        say(f"{split}: {', '.join(f'{name} {count:,}' for name, count in found.items())}")
    say(f"crops -> {out}")


def _count(data: Path, splits: tuple):
    from ssd.datasets.read import find_classes, read_split
    from ssd.datasets.stats import count

    chosen = splits or ("all",)
    names = tuple(sorted({name for split in chosen for name in find_classes(data, split)}))
    samples = [s for split in chosen for s in read_split(data, split, names, photos=False)]
    return count(samples, names)


def _fit(data: Path, split: str, spec: str, classes: str | None) -> dict:
    from ssd.datasets.fit import fit
    from ssd.datasets.read import find_classes, read_split
    from ssd.spec import get_spec
    from ssd.transfer.classes import parse_classes

    wanted = get_spec(spec)
    names = parse_classes(classes) if classes else find_classes(data, split)
    samples = read_split(data, split, names, photos=False)
    return {"data": str(data), "split": split} | fit(samples, wanted, names)


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


if __name__ == "__main__":
    main()
