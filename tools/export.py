"""ssd export: a trained checkpoint in, a compiled model folder out."""

from pathlib import Path

import click

from ssd.cli import run


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="New model folder."
)
@click.option("--precision", type=click.Choice(["f32", "int8"]), default="f32", show_default=True)
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True),
    help="Data set whose photos calibrate int8; repeatable.",
)
@click.option("--split", default="train", show_default=True, help="Its split.")
@click.option(
    "--images", type=click.IntRange(1), default=128, show_default=True, help="Photos to calibrate with."
)
@click.option("--note", multiple=True, help="KEY=TEXT for the model card, such as data=...; repeatable.")
def main(
    checkpoint: Path, out: Path, precision: str, data: tuple, split: str, images: int, note: tuple
) -> None:
    """Compile CHECKPOINT, a .weights.h5 file of ssd train, for detection without TensorFlow."""
    if precision == "int8" and not data:
        raise click.UsageError("--precision int8 needs --data to calibrate with")
    if wrong := [text for text in note if "=" not in text]:
        raise click.UsageError(f"--note must be KEY=TEXT. Received: {wrong[0]!r}")
    notes = dict(text.split("=", 1) for text in note)
    run(_export, checkpoint, out, precision, data, split, images, notes)
    click.echo(f"model -> {out}\nuse it with: ssd detect PHOTO --model {out}")


def _export(
    checkpoint: Path, out: Path, precision: str, data: tuple, split: str, count: int, notes: dict
) -> None:
    from ssd.checkpoint import read_card
    from ssd.datasets.read import read_split
    from ssd.export import export_model
    from ssd.images import load_image, preprocess

    card = read_card(checkpoint)
    paths = [s.path for root in data for s in read_split(root, split, card.class_names)]
    step = max(1, len(paths) // count)
    size = card.ssd_spec.image_size
    pictures = [preprocess(load_image(path), size, card.preprocessing) for path in paths[::step][:count]]
    export_model(checkpoint, out, precision, pictures, notes)


if __name__ == "__main__":
    main()
