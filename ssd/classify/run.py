"""A run folder of a classifier: settings, checkpoints with their card, and the extractor for a detector."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py

from ssd.backend import keras
from ssd.beside import replacing
from ssd.checkpoint import SUFFIX
from ssd.classify.network import build_classifier, layer_groups
from ssd.classify.spec import ClassifierCard, Network, card_from_json, card_to_json, parse_augment
from ssd.known import EXTRACTOR
from ssd.run import RunFolder
from ssd.spec import PREPROCESSING
from ssd.stages import Stage
from ssd.transfer.names import VGG
from ssd.transfer.weightfile import LAYER_NAMES

CARD = "ssd_classifier"  # the attribute of a weight file
TSV = ("epoch", "loss", "acc", "val_loss", "val_acc")


@dataclass(frozen=True)
class ClassStage(Stage):
    """A stage of a classifier: "plateau" looks at val_acc, `patience` too.

    `layers` knows the words `top`, `extractor`, `input` and `all`, patterns and ranges.
    """

    plateau: int = 5  # epochs without a higher val_acc before the rate is multiplied by plateau_factor
    plateau_factor: float = 0.1
    least_rate: float = 0.0  # below which a plateau lets it not fall
    step_decay: float = 0.0  # the rate is divided by 1 + this times the steps done, of "plateau"

    def __post_init__(self) -> None:
        super().__post_init__()
        good = 0 < self.plateau_factor < 1 and self.least_rate >= 0 and self.step_decay >= 0
        if not good:
            raise ValueError(
                "plateau_factor of a stage must be between 0 and 1, least_rate and step_decay 0 or more. "
                f"Received: {self.plateau_factor}, {self.least_rate}, {self.step_decay}"
            )
        if self.hint:
            raise ValueError(f"hint must be of a stage of a detector. Received: {self.hint!r}")
        if self.step_decay and self.schedule != "plateau":
            raise ValueError(f"step_decay must go with the schedule plateau. Received: {self.schedule!r}")


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, as plain data."""

    data: str  # a folder, "cifar10" or "cifar100"
    class_names: tuple[str, ...]
    network: Network
    stages: tuple[ClassStage, ...]
    recipe: str | None = None  # that the stages were read from
    split: str = "train"
    val_split: str = "val"
    val_share: float | None = None  # of `split`, where there is no validation split
    backbone_weights: str | None = None  # None: ImageNet's; "random": none
    features: str | None = None  # a file of `ssd classify features`: only the top is trained
    freeze: str | None = None  # layers that no stage trains
    freeze_depth: int | None = None  # likewise the places 1 to before this one in `model.layers`
    hold: tuple[str, ...] = ()  # patterns of layers that the optimiser holds
    release_at: int | None = None  # epoch, from 1, from which they move; None: never
    batch_size: int = 64
    augment: str = "mirror,shift:0.1"
    seed: int = 0

    def __post_init__(self) -> None:
        stages = tuple(s if isinstance(s, ClassStage) else ClassStage(**s) for s in self.stages)
        object.__setattr__(self, "stages", stages)
        if isinstance(self.network, dict):
            object.__setattr__(self, "network", Network(**self.network))
        for key in ("class_names", "hold"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        parse_augment(self.augment)
        if self.batch_size < 1 or self.seed < 0:
            raise ValueError(f"batch size must be 1 or more. Received: {self.batch_size}")
        if self.freeze_depth is not None and self.freeze_depth < 1:
            raise ValueError(f"a freeze depth must be 1 or more. Received: {self.freeze_depth}")
        if self.release_at is not None and (self.release_at < 2 or not self.hold):
            raise ValueError(f"--release-at must be 2 or more, with --hold. Received: {self.release_at}")

    @property
    def frozen_words(self) -> str | None:
        """`freeze` and `freeze_depth` in the words of a stage."""
        depth = self.freeze_depth or 1
        words = [self.freeze] * bool(self.freeze) + [f"1:{depth}"] * (depth > 1)
        return "+".join(words) or None


class ClassRun(RunFolder):
    """The files of a run of a classifier."""

    score = "val_acc"
    short = TSV

    @staticmethod
    def save(path: Path, model: keras.Model, card: ClassifierCard) -> None:
        """Write a checkpoint."""
        save_classifier(path, model, card)

    @property
    def extractor(self) -> Path:
        """The file that `ssd train --backbone-weights RUN` and `ssd transfer RUN` take."""
        return self.path / EXTRACTOR


def read_settings(path: str | Path) -> Settings:
    """The settings of a run folder. Raises ValueError: it holds no run.json of a classifier."""
    file = Path(path) / "run.json"
    if not file.is_file():
        raise ValueError(f"a run folder must hold run.json. Received: {path}")
    try:
        return Settings(**json.loads(file.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"run.json must be that of a classifier. Received: {file} ({error})") from None


def save_classifier(path: str | Path, model: keras.Model, card: ClassifierCard) -> None:
    """Write a classifier's weights and its card: the inverse of `load_classifier`."""
    _save(Path(path), model, {CARD: card_to_json(card)})


def read_checkpoint_card(path: str | Path) -> ClassifierCard:
    """The card of a checkpoint, or of the best one of a run folder. Raises ValueError: it has none."""
    path = _checkpoint(path)
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs[CARD]
    except (OSError, KeyError) as error:
        raise ValueError(
            f"a classifier must be a run folder or a {SUFFIX} file of ssd classify train. "
            f"Received: {path} ({error})"
        ) from None
    return card_from_json(text, str(path))


def load_classifier(path: str | Path) -> tuple[keras.Model, ClassifierCard]:
    """The classifier of a checkpoint, or the best one of a run folder.

    Raises:
        ValueError: the file is damaged, or no classifier's.
    """
    path, card = _checkpoint(path), read_checkpoint_card(path)
    model = build_classifier(card.network, card.network.outputs(card.class_names))
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"weights must fit their card. Received: {path} ({error})") from None
    return model, card


def save_extractor(path: str | Path, model: keras.Model, network: Network) -> None:
    """Write the extractor alone, as a detector takes it by the names of its layers.

    A detector feeds its extractor by that extractor's own preprocessing. Where this network was fed
    pictures at another scale, the biases are brought to the detector's: every map is then larger by that
    factor and the same up to it, for ReLU and pooling keep factors. fc6 and fc7 go along where they have
    the sizes of VGG16's, of which SSD takes a part.
    """
    names = layer_groups(model)["extractor"]
    wanted = [layer for layer in model.layers if layer.name in names]
    first = model.layers.index(wanted[0])
    end = next(i for i, layer in enumerate(model.layers) if layer.name in ("flatten", "gap"))
    kept = model.layers[first:end]
    sizes = [model.get_layer(n).kernel.shape for n in ("fc6", "fc7") if n in {x.name for x in model.layers}]
    if network.backbone == "vgg16" and sizes == [(25088, 4096), (4096, 4096)]:
        kept += [model.get_layer(name) for name in ("flatten", "fc6", "fc7")]
    x = image = keras.Input(kept[0].input.shape[1:])
    for layer in kept:
        x = layer(x)
    factor = PREPROCESSING[network.backbone].scale / network.preprocessing.scale
    _save(Path(path), keras.Model(image, x), {}, factor)


def _checkpoint(path: str | Path) -> Path:
    path = Path(path)
    return path / "checkpoints" / f"best{SUFFIX}" if path.is_dir() else path


def _save(path: Path, model: keras.Model, texts: dict[str, str], factor: float = 1.0) -> None:
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"a checkpoint must end in {SUFFIX}. Received: {path}")
    with replacing(path) as beside:
        model.save_weights(beside)
        with h5py.File(beside, "a") as file:
            file.attrs[LAYER_NAMES] = [layer.name for layer in model.layers]
            for key, text in texts.items():
                file.attrs[key] = text
            if factor != 1:
                _scale_biases(file, factor)


def _scale_biases(file: h5py.File, factor: float) -> None:
    for member in file["layers"].values():
        variables = member["vars"]
        if variables.attrs.get("name") in (*VGG, "fc6", "fc7"):
            variables["1"][...] = variables["1"][...] * factor
