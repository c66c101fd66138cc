"""ssd classify: train the network under the detector by itself, on folders of pictures."""

from collections.abc import Callable
from pathlib import Path

import click

from ssd.beside import replace_text
from ssd.cli import absolute, fail, run, say, told, track

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
DATA_HELP = "DATA is a folder with train/CLASS/ and val/CLASS/, one with CLASS/, cifar10 or cifar100."

_NETWORK = (
    click.option("--backbone", default="vgg16", show_default=True, help="vgg16, vgg16_bn or inception_v3."),
    click.option("--batch-norm", is_flag=True, help="The same as --backbone vgg16_bn."),
    click.option(
        "--cut", help="Last layer of the extractor, such as pool4 or mixed2; all of it unless told."
    ),
    click.option("--image-size", help="224 or HxW, of the pictures it is fed; 32 for CIFAR, else 224."),
    click.option(
        "--input-stage",
        default="",
        help="Layers in front: noise:0.01,upsample:2,resize:HxW,conv:3x3x16, in any order.",
    ),
    click.option(
        "--top",
        default="flatten:256",
        show_default=True,
        help="flatten or gap, and the units of up to two hidden layers: flatten:4096,4096 is VGG16's own.",
    ),
    click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.5, show_default=True),
    click.option(
        "--output",
        type=click.Choice(["softmax", "sigmoid"]),
        default="softmax",
        show_default=True,
        help="sigmoid: one number for two classes.",
    ),
    click.option(
        "--backbone-weights",
        help="File, name or classify run with weights of the extractor; ImageNet's unless told; 'random': "
        "from scratch.",
    ),
)
_DATA = (
    click.option("--split", default="train", show_default=True, help="Folder of images to train on."),
    click.option("--val-split", default="val", show_default=True, help="Folder of images to validate with."),
    click.option(
        "--val-share",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Hold back this share of every class of --split to validate with.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
)


def _with(options: tuple) -> Callable:
    def add(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group()
def main() -> None:
    """Train and measure classifiers; ssd train --backbone-weights RUN takes their extractor."""


@main.command(help=f"Train a classifier in stages. {DATA_HELP}")
@click.argument("data", required=False)
@click.option("--out", type=FOLDER, help="Run folder; runs/NAME unless told.")
@click.option(
    "--resume", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Go on with it."
)
@click.option(
    "--features", type=FILE, help="A file of `ssd classify features`, in place of DATA: the top alone."
)
@_with(_NETWORK)
@_with(_DATA)
@click.option(
    "--stages",
    default="top:5,all:10",
    show_default=True,
    help="LAYERS:EPOCHS, comma between. LAYERS: top, extractor, input, all, patterns of names, or ranges of "
    "places such as 2:4, joined with +. With --features: top.",
)
@click.option("--recipe", help="A TOML file, or a name of docs/classify.md, in place of --stages.")
@click.option("--learning-rate", default="1e-3,1e-4", show_default=True, help="Peak; one, or one a stage.")
@click.option("--optimizer", type=click.Choice(["adamw", "adam", "sgd"]), default="adamw", show_default=True)
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "constant", "exponential", "multistep", "plateau"]),
    default="cosine",
    show_default=True,
)
@click.option("--weight-decay", type=click.FloatRange(0), default=0.01, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--augment", default="mirror,shift:0.1", show_default=True, help="Of training pictures; or none."
)
@click.option("--freeze", help="Layers that no stage trains: words as in --stages.")
@click.option(
    "--freeze-depth", type=click.IntRange(1), help="Freeze the places 1 to before this one of the summary."
)
@click.option("--hold", default="", help="Patterns of layers that the optimiser holds: conv2_*,fc6.")
@click.option(
    "--release-at", type=click.IntRange(2), help="Epoch from which held layers move; never unless told."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bfloat16", "float32"]),
    default="auto",
    show_default=True,
    help="What the layers compute in; auto: bfloat16 where the CPU has it.",
)
@click.option(
    "--tensorboard/--no-tensorboard", default=True, show_default=True, help="Write RUN/tensorboard."
)
def train(
    data: str | None, out: Path | None, resume: Path | None, tensorboard: bool, **options: object
) -> None:
    if sum(given is not None for given in (data, resume, options["features"])) != 1:
        raise click.UsageError("give one of DATA, --features FILE or --resume RUN")
    if resume:
        settings, folder = run(_stored, resume), resume
    else:
        settings = run(_settings, data, told(options), options)
        folder = out or Path("runs") / Path(data or options["features"]).resolve().stem
        if (folder / "run.json").exists():
            fail(f"{folder} holds a run already: go on with it by --resume {folder}, or choose another --out")
    run(_train, settings, folder, tensorboard)


@main.command(help=f"Score a classifier on a split. {DATA_HELP} MODEL is a run, a checkpoint or an export.")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@click.option("--split", default="test", show_default=True, help="A folder in DATA, or all: DATA/CLASS.")
@click.option("--json", "json_path", type=FILE, help="Write scores and every prediction here.")
@click.option("--misclassified", type=FOLDER, help="Write the surest errors into this new folder.")
def evaluate(model: Path, data: str, split: str, json_path: Path | None, misclassified: Path | None) -> None:
    if misclassified and misclassified.exists():
        fail(f"{misclassified} exists: choose another --misclassified")
    run(_evaluate, model, data, split, json_path, misclassified)


@main.command(help=f"Run the frozen base once over the images and store its maps. {DATA_HELP}")
@click.argument("data")
@click.option("--out", type=FILE, required=True, help="New HDF5 file.")
@_with(_NETWORK)
@_with(_DATA)
@click.option(
    "--front",
    type=click.Choice(["keras", "f32", "bf16", "int8"]),
    default="keras",
    show_default=True,
    help="How the base runs; compiled (the last three) is faster, bf16 and int8 are not exact.",
)
@click.option("--store", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
def features(data: str, out: Path, **options: object) -> None:
    run(_features, data, out, **options)


@main.command()
@click.argument("model", required=False, type=click.Path(exists=True, path_type=Path))
@_with(_NETWORK)
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True, help="How many.")
@click.option("--freeze", help="Layers that are not trained: words as in --stages of train.")
@click.option("--freeze-depth", type=click.IntRange(1), help="As in train.")
def summary(model: Path | None, **options: object) -> None:
    """List the layers of a network with their places, shapes, and trained and frozen parameters.

    MODEL is a run folder or a checkpoint; without it the options say what is built.
    """
    run(_summary, model, **options)


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="New folder.")
def export(model: Path, out: Path) -> None:
    """Compile a classifier with OpenVINO, softmax or sigmoid included."""
    say(f"model -> {run(_export, model, out)}")


def _train(settings, folder: Path, tensorboard: bool) -> None:
    from ssd.classify.report import write_report
    from ssd.classify.train import train as train_classifier
    from ssd.progress import live_table
    from ssd.tensorboard import TensorBoard
    from ssd.watcher import ReportKeeper, Watchers

    table = live_table("val_acc")
    tell, shown = (table.say, table.track) if table else (say, track)
    watchers = [
        ReportKeeper(tell, write_report),
        *([TensorBoard()] if tensorboard else []),
        *([table] if table else []),
    ]
    try:
        with Watchers(watchers) as watcher:
            best = train_classifier(settings, folder, tell, shown, watcher)
    except KeyboardInterrupt:
        click.echo(f"\nstopped; go on with: ssd classify train --resume {folder}", err=True)
        raise
    say(f"report: {folder / 'report.html'}")
    say(f"best checkpoint: {best}\ninto a detector: ssd train DATA --backbone-weights {folder}")


def _evaluate(model: Path, data: str, split: str, json_path: Path | None, wrong: Path | None) -> None:
    from ssd.classify.evaluate import evaluate_split, outcome_to_json, read_card, save_misclassified
    from ssd.classify.scores import report_text
    from ssd.classify.start import read_images

    images = read_images(data, split, read_card(model).class_names)
    outcome, pixels = evaluate_split(model, images, track)
    rows = save_misclassified(wrong, outcome, images, pixels.__getitem__) if wrong else []
    if json_path:
        replace_text(json_path, outcome_to_json(outcome, images, rows))
    say(report_text(outcome.scores))
    say(f"\n{len(images)} images, loss {outcome.loss:.4f}, accuracy {outcome.scores.accuracy:.4f}")


def _features(data: str, out: Path, front: str, store: str, **options) -> None:
    from ssd.classify.features import write_features
    from ssd.classify.options import network_of
    from ssd.classify.start import read_parts

    weights = absolute(options.pop("backbone_weights"))
    network = network_of(data, weights, options)
    images, val = read_parts(
        data, options["split"], options["val_split"], options["val_share"], options["seed"]
    )
    how = {"seed": options["seed"], "front": front, "store": store}
    parts = {"train": images, "val": val}
    where = absolute(data) if Path(data).is_dir() else data
    calls = {"say": say, "track": track}
    path = write_features(out, network, parts, weights, data=where, **how, **calls)
    say(f"features of {len(images)} and {len(val)} images -> {path}")
    say(f"train the top: ssd classify train --features {path}")


def _summary(
    model: Path | None, classes: int, freeze: str | None, freeze_depth: int | None, **options
) -> None:
    from ssd.classify.options import network_of
    from ssd.classify.summary import summary_of, summary_text

    network = None if model else network_of("", options.pop("backbone_weights"), options)
    depth = [f"1:{freeze_depth}"] if (freeze_depth or 1) > 1 else []
    words = "+".join([*([freeze] if freeze else []), *depth])
    say(summary_text(summary_of(model, network, classes, words)))


def _export(model: Path, out: Path) -> Path:
    from ssd.classify.evaluate import export_classifier

    return export_classifier(model, out)


def _settings(data: str | None, given: set[str], options: dict):
    from ssd.classify.options import settings_of

    return settings_of(data, given, **options)


def _stored(folder: Path):
    from ssd.classify.run import read_settings

    return read_settings(folder)


if __name__ == "__main__":
    main()
