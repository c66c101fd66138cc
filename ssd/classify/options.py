"""From the flags and recipes of `ssd classify` to networks and the settings of a run."""

from dataclasses import asdict, replace
from pathlib import Path

import click

from ssd.classify.features import read_meta
from ssd.classify.run import ClassStage, Settings
from ssd.classify.spec import SCRATCH_SCALE, Network, parse_size
from ssd.classify.start import read_parts
from ssd.classify.train import KEYS
from ssd.cli import absolute, names, numbers
from ssd.recipe import read_recipe
from ssd.stages import parse_stages


def settings_of(
    data: str | None,
    given: set[str],
    recipe: str | None,
    stages: str,
    learning_rate: str,
    optimizer: str,
    schedule: str,
    weight_decay: float,
    precision: str,
    features: Path | None,
    **options: object,
) -> Settings:
    """The settings of a new run.

    Args:
        data: what `ssd.classify.start.read_images` takes; None: `features` is given.
        given: names of the options that stood on the command line; they go before the recipe.
        recipe, ..., options: the flags of `ssd classify train`.
    Raises:
        click.UsageError: flags that contradict each other.
        ValueError, OSError: data, recipe or features do not fit or cannot be read.
    """
    if recipe:
        if both := given & {"stages", "learning_rate", "optimizer", "schedule", "weight_decay"}:
            raise click.UsageError(f"--recipe has its own {', '.join(sorted(both))}")
        values, parsed = read_recipe(recipe, KEYS, ClassStage, "ssd.classify")
        options |= {key: value for key, value in values.items() if key not in given}
    else:
        if features and "stages" not in given:
            stages = "top:20"
        rates = numbers(learning_rate)[: stages.count(",") + 1]
        how = {"optimizer": optimizer, "schedule": schedule, "weight_decay": weight_decay}
        own = {"plateau": 5}
        parsed = tuple(ClassStage(**asdict(s) | how | own) for s in parse_stages(stages, rates, [0]))
    if not recipe or "precision" in given:
        parsed = tuple(replace(stage, precision=precision) for stage in parsed)
    weights = absolute(options.pop("backbone_weights"))
    parts = {key: options[key] for key in ("split", "val_split", "val_share", "seed")}
    if features:
        network, classes, weights, data, parts = _of_features(features, given, options)
    else:
        network = network_of(data, weights, options)
        classes = read_parts(data, *parts.values())[0].class_names
        data = absolute(data) if Path(data).is_dir() else data
    rest = {key: options[key] for key in ("freeze", "freeze_depth", "release_at", "batch_size", "augment")}
    return Settings(
        data, classes, network, parsed, recipe=recipe, backbone_weights=weights, **parts, **rest,
        features=str(features.resolve()) if features else None, hold=names(options["hold"]),
    )  # fmt: skip


def network_of(data: str, weights: str | None, options: dict) -> Network:
    """The network that flags or a recipe ask for; pictures of CIFAR are 32 pixels wide unless told.

    Raises:
        click.UsageError, ValueError: flags that do not fit.
    """
    backbone = "vgg16_bn" if options["batch_norm"] and options["backbone"] == "vgg16" else options["backbone"]
    if options["batch_norm"] and backbone != "vgg16_bn":
        raise click.UsageError(f"--batch-norm is of vgg16. Received: --backbone {backbone}")
    size = options["image_size"] or ("32" if data in ("cifar10", "cifar100") else "224")
    scale = SCRATCH_SCALE if weights == "random" and backbone == "vgg16" else None
    own = {key: options[key] for key in ("cut", "input_stage", "top", "dropout", "output")}
    return Network(backbone, image_size=parse_size(size), scale=scale, **own)


def _of_features(path: Path, given: set[str], options: dict) -> tuple:
    """Network, classes, weights, data and seed of a file of features; its top is that of the flags."""
    if both := given & {"backbone", "batch_norm", "cut", "image_size", "input_stage", "backbone_weights"}:
        raise click.UsageError(f"--features has its own {', '.join(sorted(both))}")
    meta = read_meta(path)
    own = {key: options[key] for key in ("top", "dropout", "output")}
    parts = {"seed": options["seed"]}
    return (
        replace(Network(**meta["network"]), **own), tuple(meta["class_names"]), meta["weights"],
        meta["data"], parts,
    )  # fmt: skip
