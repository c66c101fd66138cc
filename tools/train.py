"""ssd train: labelled photos in, a run folder with checkpoints out."""

from pathlib import Path

import click
from ssd.tools.transfer import make_options, transfer_options

from ssd.cli import absolute, fail, numbers, run, say, told, track


@click.command()
@click.argument("data", nargs=-1, type=click.Path(exists=True))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder; runs/NAME unless told."
)
@click.option(
    "--resume",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Go on with this run folder; every other option but --tensorboard is read from it.",
)
@click.option(
    "--stages",
    default="bridge:10,all:20",
    show_default=True,
    help="LAYERS:EPOCHS, comma between. LAYERS: bridge (bridging and other new layers), extractor, heads, "
    "all, patterns of names, or ranges of places such as 2:4, joined with +.",
)
@click.option(
    "--recipe",
    help="A TOML file, or one of bridge, default-model, hint, paper, scratch-bn, small-data, in place of "
    "--stages.",
)
@click.option("--learning-rate", default="5e-4,1e-4", show_default=True, help="Peak; one, or one a stage.")
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option(
    "--classes",
    help="Classes to learn: a,b, a text file, voc or coco; all in the training split unless told.",
)
@click.option(
    "--split", default="train", show_default=True, help="Training split: a name, or a file that lists images."
)
@click.option("--val-split", default="val", show_default=True, help="Validation split.")
@click.option("--spec", help="ssd300, ssd300_coco or ssd300_v1; that of --init, else ssd300, unless told.")
@click.option("--backbone", help="vgg16, vgg16_bn or inception_v3; that of --init, else vgg16, unless told.")
@click.option("--cut", help="Layer at which a network of keras.applications is cut, such as mixed2.")
@click.option(
    "--backbone-weights",
    help="Weight file, or run of ssd classify, for the extractor; ImageNet's unless told; 'random': none.",
)
@click.option(
    "--init",
    metavar="FILE|NAME",
    help="Start from this weight file, or a name of `ssd models list`; the options of `ssd transfer` say "
    "which of its layers go where.",
)
@click.option(
    "--freeze", help="Layers that no stage trains: words as in --stages, such as 'conv[1-3]_*' or 0:2."
)
@click.option(
    "--clip",
    type=click.Choice(["none", "corners", "centres", "sides"]),
    help="How anchors are clipped; as --init was trained, or as the spec has it, unless told.",
)
@transfer_options
@click.option(
    "--cache-views",
    default="0",
    show_default=True,
    help="Augmented views of each photo whose frozen features are kept on disk; one, or one a stage. "
    "0: fresh views in every epoch.",
)
@click.option(
    "--cache", type=click.Path(file_okay=False), help="Folder of those features; RUN/cache unless told."
)
@click.option(
    "--front",
    type=click.Choice(["int8", "f32", "keras"]),
    default="int8",
    show_default=True,
    help="How frozen first layers run: compiled (int8, f32) or inside Keras.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bfloat16", "float32"]),
    default="auto",
    show_default=True,
    help="What the trained layers compute in; auto: bfloat16 where the CPU has it.",
)
@click.option(
    "--max-expand",
    type=click.FloatRange(1),
    default=4.0,
    show_default=True,
    help="Largest zoom-out of the augmentation.",
)
@click.option(
    "--mosaic",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the views that are put together from four photos, in every stage.",
)
@click.option(
    "--save-every",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Batches between two states within an epoch; a killed run loses no more.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Threads that prepare batches; 1 is taken for 2. JAX has none of its own.",
)
@click.option(
    "--tensorboard/--no-tensorboard",
    default=True,
    show_default=True,
    help="Write RUN/tensorboard: numbers and a few validation photos of each epoch.",
)
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Devices of this machine that divide each batch: its GPUs, or parts of the CPU. Several processes: "
    "docs/distribution.md.",
)
def main(data: tuple, out: Path | None, resume: Path | None, tensorboard: bool, **options: object) -> None:
    """Train a detector on DATA, one or more data sets in VOC, COCO, YOLO or CSV layout."""
    if bool(data) == bool(resume):
        raise click.UsageError("give either DATA or --resume RUN")
    given = told(options)
    if options["recipe"] and (both := given & {"stages", "learning_rate", "cache_views"}):
        raise click.UsageError(f"--recipe has its own {', '.join(sorted(both))}")
    if resume:
        settings, folder = run(_stored, resume), resume
    else:
        settings = run(_settings, data, given, **options)
        folder = out or Path("runs") / Path(data[0]).resolve().name
        if (folder / "run.json").exists():
            fail(f"{folder} holds a run already: go on with it by --resume {folder}, or choose another --out")
    run(_train, settings, folder, tensorboard)


def _train(settings, folder: Path, tensorboard: bool) -> None:
    from ssd.progress import live_table
    from ssd.tensorboard import TensorBoard
    from ssd.train import train
    from ssd.watcher import ReportKeeper, Watchers

    table = live_table()
    tell, shown = (table.say, table.track) if table else (say, track)
    watchers = [
        ReportKeeper(tell),
        *([TensorBoard()] if tensorboard else []),
        *([table] if table else []),
    ]
    try:
        with Watchers(watchers) as watcher:
            best = train(settings, folder, tell, shown, watcher)
    except KeyboardInterrupt:
        click.echo(f"\nstopped; go on with: ssd train --resume {folder}", err=True)
        raise
    say(f"report: {folder / 'report.html'}")
    say(f"best checkpoint: {best}\ncompile it with: ssd export {best} --out MODEL")


def _stored(folder: Path):
    from ssd.run import read_settings

    return read_settings(folder)


def _settings(
    data: tuple,
    given: set,
    recipe: str | None,
    stages: str,
    learning_rate: str,
    cache_views: str,
    precision: str,
    mosaic: float,
    classes: str | None,
    **options,
):
    from dataclasses import replace

    from ssd.datasets.read import find_classes
    from ssd.recipe import read_recipe
    from ssd.run import Settings
    from ssd.stages import parse_stages
    from ssd.transfer.classes import parse_classes

    if classes:
        chosen = parse_classes(classes)
    else:
        chosen = tuple(sorted({name for root in data for name in find_classes(root, options["split"])}))
    if recipe:
        # A flag that was given goes before the recipe.
        values, parsed = read_recipe(recipe)
        options |= {key: value for key, value in values.items() if key not in given}
    else:
        rates, views = numbers(learning_rate), [int(v) for v in numbers(cache_views)]
        # The default names two rates; a run of one stage takes the first.
        parsed = parse_stages(stages, rates[: stages.count(",") + 1], views)
    for key, value in (("precision", precision), ("mosaic", mosaic)):
        if not recipe or key in given:
            parsed = tuple(replace(stage, **{key: value}) for stage in parsed)
    parsed = tuple(replace(stage, teacher=absolute(stage.teacher)) for stage in parsed)
    for key in ("split", "val_split"):
        if Path(options[key]).suffix and Path(options[key]).is_file():
            options[key] = absolute(options[key])
    options |= {key: absolute(options[key]) for key in ("init", "backbone_weights")}
    if options["cache"]:
        options["cache"] = str(Path(options["cache"]).resolve())
    options["transfer"] = make_options(options)
    return Settings(
        tuple(str(Path(root).resolve()) for root in data), chosen, parsed, recipe=recipe, **options
    )


if __name__ == "__main__":
    main()
