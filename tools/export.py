"""ssd export: a trained checkpoint in, a compiled model folder out."""

from pathlib import Path

import click

from ssd.cli import run, say

SAMPLES = 4  # pictures of --data that the gate looks at, beside mAP


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="New model folder."
)
@click.option(
    "--format",
    type=click.Choice(["openvino", "onnx", "litert", "saved_model"]),
    default="openvino",
    show_default=True,
)
@click.option(
    "--precision",
    type=click.Choice(["f32", "bf16", "int8"]),
    default="f32",
    show_default=True,
    help="bf16: openvino; int8: openvino, onnx, litert.",
)
@click.option(
    "--batch",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Pictures of one call of the network; 0: any number.",
)
@click.option(
    "--nms/--no-nms", default=False, show_default=True, help="Suppress boxes in the graph too (openvino)."
)
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True),
    help="Data set whose photos calibrate int8 and check the export; repeatable.",
)
@click.option("--split", default="train", show_default=True, help="Its split that calibrates.")
@click.option(
    "--images", type=click.IntRange(1), default=128, show_default=True, help="Photos to calibrate with."
)
@click.option(
    "--eval-split",
    help="Its split whose mAP must stay; val, if there is one, unless told.",
)
@click.option("--eval-images", type=click.IntRange(0), help="At most this many of it; 0: no mAP.")
@click.option(
    "--accuracy-control",
    is_flag=True,
    help="Keep in floating point what costs mAP on --eval-split (openvino int8; slow).",
)
@click.option("--note", multiple=True, help="KEY=TEXT for the model card, such as data=...; repeatable.")
def main(checkpoint: Path, out: Path, precision: str, data: tuple, note: tuple, **options: object) -> None:
    """Compile CHECKPOINT, a .weights.h5 file of ssd train, for detection without TensorFlow.

    The export must be the detector that was trained: on real photos scores and boxes within 1e-4 (f32), with
    --data VOC07 mAP within 0.5 points, without it outputs that agree (bf16, int8); else nothing is written.
    """
    if precision == "int8" and not data:
        raise click.UsageError("--precision int8 needs --data to calibrate with")
    if wrong := [text for text in note if "=" not in text]:
        raise click.UsageError(f"--note must be KEY=TEXT. Received: {wrong[0]!r}")
    notes = dict(text.split("=", 1) for text in note)
    run(_export, checkpoint, out, precision, data, notes, **options)
    say(f"model -> {out}\nuse it with: ssd detect PHOTO --model {out}")


def _export(
    checkpoint: Path,
    out: Path,
    precision: str,
    data: tuple,
    notes: dict,
    split: str,
    images: int,
    eval_split: str | None,
    eval_images: int | None,
    batch: int,
    **options: object,
) -> None:
    from ssd.checkpoint import read_card
    from ssd.export import Gate, check_request, export_model
    from ssd.images import load_image, preprocess

    check_request(out, options["format"], precision, options["nms"], options["accuracy_control"])
    card = read_card(checkpoint)
    chosen = _photos(data, split, card.class_names, images) if precision == "int8" else []
    size = card.ssd_spec.image_size
    pictures = [preprocess(load_image(sample.path), size, card.preprocessing) for sample in chosen]
    labelled = []
    if data and eval_images != 0:
        labelled = _labelled(data, eval_split, card.class_names, eval_images)
    seen = [s.path for s in labelled or chosen][:SAMPLES] or _shipped_photos()
    gate = Gate([(path.name, load_image(path)) for path in seen], labelled)
    export_model(
        checkpoint, out, precision, pictures, notes, batch=batch or None, gate=gate, say=say, **options
    )


def _labelled(data: tuple, split: str | None, class_names: tuple, count: int | None) -> list:
    """Photos whose mAP decides; none where no split was named and there is no val."""
    try:
        return _photos(data, split or "val", class_names, count)
    except (ValueError, OSError):
        if split:
            raise
        say("no split val: agreement of outputs decides, not mAP")
        return []


def _photos(data: tuple, split: str, class_names: tuple, count: int | None) -> list:
    """At most `count` samples, spread evenly over a split of all data sets."""
    from ssd.datasets.read import read_split

    samples = [sample for root in data for sample in read_split(root, split, class_names)]
    if not samples:
        raise ValueError(f"split {split!r} must hold images. Received: none in {', '.join(map(str, data))}")
    count = min(count or len(samples), len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]


def _shipped_photos() -> list[Path]:
    """The photos that come with the program, installed or in a checkout."""
    import ssd

    package = Path(ssd.__file__).parent
    folders = [package / "samples", package.parent / "samples"]
    return [photo for folder in folders for photo in sorted(folder.glob("*.[jp][pn]g"))][:SAMPLES]


if __name__ == "__main__":
    main()
