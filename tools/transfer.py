"""ssd transfer: weights of another file or network in, a model of this one out, with a ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.cli import fail, run, say, track

if TYPE_CHECKING:
    from ssd.transfer.plan import Options


class Offset(click.ParamType):
    """A whole number, or "auto"."""

    name = "INTEGER|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if value == "auto" or isinstance(value, int):
            return value
        try:
            return int(str(value))
        except ValueError:
            self.fail(f"must be a whole number or auto. Received: {value!r}", param, ctx)


_OPTIONS = (
    click.option(
        "--by",
        type=click.Choice(["name", "order"]),
        multiple=True,
        help="Pair layers by name (the default without --offset) or in order; repeatable, after --offset.",
    ),
    click.option(
        "--offset",
        type=Offset(),
        metavar="INTEGER|auto",
        help="File index - model index, or auto: the one with the longest run of fitting layers.",
    ),
    click.option("--from", "first", metavar="LAYER", help="First layer of the file to take: name or index."),
    click.option("--to", "last", metavar="LAYER", help="Last layer of the file to take."),
    click.option("--skip", multiple=True, metavar="PATTERN", help="Leave these layers out; repeatable."),
    click.option(
        "--source-classes",
        metavar="CLASSES",
        help="Classes of the file, where it does not tell: voc, coco, a,b or a text file.",
    ),
    click.option(
        "--synonyms",
        type=click.Path(exists=True, dir_okay=False),
        help="Text file: names of one thing a line, commas between.",
    ),
    click.option(
        "--new-classes",
        type=click.Choice(["mean", "random", "zeros"]),
        default="mean",
        show_default=True,
        help="How classes that the file does not know start: as the mean of its "
        "classes, small and random, or zero.",
    ),
    click.option("--source-spec", help="Spec that the file was trained with, where it does not tell."),
    click.option(
        "--channel-order",
        type=click.Choice(["RGB", "BGR"]),
        help="Of the file's first convolution; found by itself unless told.",
    ),
    click.option(
        "--written-by",
        type=click.Choice(["theano", "tensorflow"]),
        help="Backend that wrote an old Keras file; Theano turns kernels. Found by itself unless told.",
    ),
)


def transfer_options(command: Callable) -> Callable:
    """The flags that say which layer goes where, for every command that loads weights."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("file", metavar="FILE|NAME")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="New model: .weights.h5 or .keras (Keras 3), .h5 or .hdf5 (legacy Keras 2).",
)
@click.option("--spec", help="ssd300, ssd300_coco or ssd300_v1; the file's own unless told.")
@click.option("--backbone", help="vgg16 or inception_v3; that of the file, else vgg16, unless told.")
@click.option("--cut", help="Layer at which a network of keras.applications is cut, such as mixed2.")
@click.option(
    "--backbone-weights", metavar="FILE|NAME", help="Weights of the extractor, where FILE has none."
)
@click.option("--classes", help="voc, coco, a,b or a text file; those of the file unless told.")
@click.option(
    "--clip",
    type=click.Choice(["none", "corners", "centres", "sides"]),
    help="How anchors are clipped; as the file was trained unless told.",
)
@transfer_options
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of layers without weights."
)
@click.option("--dry-run", is_flag=True, help="Print the ledger and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def main(file: str, out: Path | None, dry_run: bool, overwrite: bool, **options: object) -> None:
    """Put the pretrained weights of FILE into an SSD300, layer by layer.

    FILE is a weight file of Keras, Caffe, Chainer, PyTorch or TensorFlow, or a name of `ssd models list`.
    """
    if not dry_run:
        if out is None:
            raise click.UsageError("give --out MODEL or --dry-run")
        if not overwrite and (there := [p for p in (out, Path(f"{out}.ledger.json")) if p.exists()]):
            fail(f"{there[0]} exists: give --overwrite, or choose another --out")
    run(_transfer, file, None if dry_run else out, **options)


def make_options(values: dict) -> "Options":
    """Take the flags of `transfer_options` out of a command's values."""
    from ssd.transfer.plan import Options

    taken = {key: values.pop(key) for key in ("by", "offset", "first", "last", "skip", "source_classes")}
    taken |= {key: values.pop(key) for key in ("synonyms", "new_classes", "source_spec", "channel_order")}
    return Options(**taken, written_by=values.pop("written_by"))


def _transfer(file: str, out: Path | None, **values: object) -> None:
    from ssd.spec import get_spec
    from ssd.transfer.ledger import ledger_to_text
    from ssd.transfer.target import check_suffix, choose_target, find_source

    # What can be seen now is not left for after a download.
    options = make_options(values)
    if values["spec"]:
        get_spec(values["spec"])
    if out is not None:
        check_suffix(out)
    path, options = find_source(file, options, say=_say, track=track)
    weights, seed = values.pop("backbone_weights"), values.pop("seed")
    name = (out or path).name.split(".")[0]
    card = choose_target(path, options, name, **values)
    inputs = [path] + ([Path(weights)] if weights else [])

    if out is not None and out.exists() and any(p.exists() and out.samefile(p) for p in inputs):
        raise ValueError(f"--out must not replace an input. Received: {out}")

    from ssd.transfer.load import build_transferred, rehearse, transfer
    from ssd.transfer.write import save_model

    load = rehearse if out is None else transfer
    model, ledger = build_transferred(card, path, options, weights, seed, _say, track, load)
    if out is None:
        say(ledger_to_text(ledger))
        return
    ledger = save_model(out, model, card, ledger)
    say(ledger_to_text(ledger))
    say(f"model -> {out}\nledger -> {out}.ledger.json")


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
