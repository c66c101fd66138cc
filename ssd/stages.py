"""A stage: a stretch of training with its own trainable layers."""

import math
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial

from ssd.backend import keras
from ssd.model import BRIDGE, PRECISIONS
from ssd.transfer.names import VGG

WORDS = ("bridge", "extractor", "heads", "all")
_RANGE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True)
class Stage:
    """What a stage trains and how, as plain data; each field is a key of a recipe.

    `layers` joins with "+": the words `bridge` (the bridging layers and every layer whose weights
    are still random), `extractor`, `heads`, `all`, patterns of layer names such as `conv[45]_*`, and
    ranges of places in `model.layers` such as `2:4`, which is the third and the fourth layer.

    Raises:
        ValueError: a field has a value that it cannot have.
    """

    layers: str
    epochs: int
    learning_rate: float = 5e-4  # at its peak
    cache_views: int = 0  # augmented views of each picture kept on disk; 0: fresh ones every epoch
    mosaic: float = 0.0  # share of the views that are put together from four photos
    optimizer: str = "adamw"  # or "adam", "sgd"
    backbone_factor: float = 0.3  # of the rate, for layers with trained weights beside ones that began random
    schedule: str = "cosine"  # or "constant", "exponential", "multistep", "plateau"
    warm_up: float = 0.06  # share of the steps in which the rate rises to its peak, of "cosine"
    decay: float = 0.9  # an epoch, of "exponential"
    drops: tuple[float, ...] = (2 / 3, 5 / 6)  # shares of the steps after which x0.1, of "multistep"
    plateau: int = 3  # epochs without a lower val_loss before x0.1, of "plateau"
    weight_decay: float = 0.05  # of kernels: decoupled in "adamw", added to the gradient in "sgd"
    clip_norm: float = 10.0  # largest norm of all gradients together; 0: not clipped
    ema: float = 0.0  # decay a step of the averaged weights that are validated and kept; 0: none
    start_share: float = 0.0  # of the weights that the stage began with in those that are validated and kept
    patience: int = 0  # epochs without a higher val_mAP before the stage ends; 0: all epochs
    location_weight: float = 1.0  # of the location loss
    negative_ratio: int = 3  # background anchors a match in the confidence loss
    label_smoothing: float = 0.0  # share of each class target that is spread over all classes
    hint: str = ""  # layers joined with "+": learn, without boxes, to give what they give in the teacher
    teacher: str = ""  # the detector of the hint, a file or a name; that of --init unless told
    precision: str = "auto"  # the layers compute in "bfloat16" or "float32"; "auto": what is faster here

    def __post_init__(self) -> None:
        object.__setattr__(self, "drops", tuple(self.drops))
        rules = {
            "epochs": self.epochs >= 1,
            "learning_rate": self.learning_rate > 0,
            "backbone_factor": 0 < self.backbone_factor <= 1,
            "cache_views": self.cache_views >= 0,
            "mosaic": 0 <= self.mosaic <= 1,
            "optimizer": self.optimizer in OPTIMIZERS,
            "schedule": self.schedule in SCHEDULES,
            "warm_up": 0 <= self.warm_up < 1,
            "decay": 0 < self.decay <= 1,
            "drops": all(0 < drop < 1 for drop in self.drops),
            "plateau": self.plateau >= 1,
            "weight_decay": self.weight_decay >= 0,
            "clip_norm": self.clip_norm >= 0,
            "ema": 0 <= self.ema < 1,
            "start_share": 0 <= self.start_share < 1,
            "patience": self.patience >= 0,
            "location_weight": self.location_weight >= 0,
            "negative_ratio": self.negative_ratio >= 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "precision": self.precision in ("auto", *PRECISIONS),
        }
        for key, good in rules.items():
            if not good:
                raise ValueError(f"{key} of a stage must be {_RULES[key]}. Received: {getattr(self, key)!r}")


OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "constant", "exponential", "multistep", "plateau")
_RULES = {
    "epochs": "1 or more",
    "learning_rate": "above 0",
    "backbone_factor": "a factor up to 1",
    "cache_views": "0 or more",
    "mosaic": "a share from 0 to 1",
    "optimizer": f"one of {', '.join(OPTIMIZERS)}",
    "schedule": f"one of {', '.join(SCHEDULES)}",
    "warm_up": "a share from 0 to below 1",
    "decay": "a factor up to 1",
    "drops": "shares between 0 and 1",
    "plateau": "1 or more",
    "weight_decay": "0 or more",
    "clip_norm": "0 or more",
    "ema": "0 to below 1",
    "start_share": "a share from 0 to below 1",
    "patience": "0 or more",
    "location_weight": "0 or more",
    "negative_ratio": "1 or more",
    "label_smoothing": "a share from 0 to below 1",
    "precision": f"one of auto, {', '.join(PRECISIONS)}",
}


def parse_stages(text: str, learning_rates: list[float], cache_views: list[int]) -> tuple[Stage, ...]:
    """Stages of "bridge:10,all:20"; one number of each list a stage, or one for all.

    Raises:
        ValueError: the text, or the length of a list, is wrong.
    """
    stages = []
    parts = [part.strip() for part in text.split(",")]
    for i, part in enumerate(parts):
        layers, _, epochs = part.rpartition(":")
        if not layers or not epochs.isdigit() or int(epochs) < 1:
            raise ValueError(f"stages must look like bridge:10,all:20. Received: {part!r} in {text!r}")
        rate = _of_stage("learning rates", learning_rates, i, len(parts))
        views = _of_stage("cache views", cache_views, i, len(parts))
        stages.append(Stage(layers, int(epochs), float(rate), int(views)))
    return tuple(stages)


def choose_layers(
    model: keras.Model,
    words: str,
    new: set[str],
    what: str = "a stage",
    groups: dict[str, set[str]] | None = None,
) -> set[str]:
    """The names of the layers with weights that words mean.

    Args:
        model: the detector.
        words: `Stage.layers`.
        new: layers whose weights are random.
        what: has these words; for errors.
        groups: further words, and the names that they mean.
    Raises:
        ValueError: a word or pattern names no layer.
    """
    names = {i: layer.name for i, layer in enumerate(model.layers) if layer.weights}
    bridge, groups = bridge_layers(model, new), groups or {}
    chosen = set()
    for word in words.split("+"):
        fits = partial(_fits, word=word, bridge=bridge, names=set(names.values()))
        found = groups.get(word) or {name for i, name in names.items() if fits(i, name)}
        if not found:
            raise ValueError(
                f"{what} must name layers: {', '.join(dict.fromkeys((*WORDS, *groups)))}, a range such as "
                f"2:4 or a pattern of {list(names.values())}. Received: {word!r}"
            )
        chosen |= found
    return chosen


def bridge_layers(model: keras.Model, new: set[str]) -> set[str]:
    """The bridging layers behind a cut extractor, and every layer whose weights are random."""
    names = {layer.name for layer in model.layers}
    return new | (set(BRIDGE) if BRIDGE[0] in names else set())


def settle_precision(stage: Stage) -> Stage:
    """The stage with a precision instead of "auto": bfloat16 where the CPU multiplies it, else float32.

    Without such instructions bfloat16 is slower than float32.
    """
    if stage.precision != "auto":
        return stage
    import openvino

    able = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return replace(stage, precision="bfloat16" if able else "float32")


def freeze_all_but(model: keras.Model, trainable: set[str]) -> tuple[int, int]:
    """Make just these layers trainable; the counts of trainable and frozen parameters.

    Raises:
        ValueError: what Keras would train is not what was asked for.
    """
    for layer in model.layers:
        layer.trainable = layer.name in trainable
    for layer in model.layers:
        if layer.weights and bool(layer.trainable_weights) != (layer.name in trainable):
            state = "trained" if layer.trainable_weights else "frozen"
            raise ValueError(f"layer {layer.name} must be as its stage says. Received: {state}")
    groups = model.trainable_weights, model.non_trainable_weights
    trained, frozen = (sum(math.prod(w.shape) for w in group) for group in groups)
    return trained, frozen


def list_layers(model: keras.Model, names: set[str]) -> str:
    """Layers with weights in the order of the model, neighbours as one range: "conv1_1 ... conv3_3"."""
    runs: list[list[str]] = []
    before = False
    for layer in (layer for layer in model.layers if layer.weights):
        if layer.name in names:
            runs = [*runs[:-1], [*runs[-1], layer.name]] if before else [*runs, [layer.name]]
        before = layer.name in names
    shown = [", ".join(run) if len(run) < 4 else f"{run[0]} ... {run[-1]}" for run in runs]
    return ", ".join(shown) or "none"


def _fits(index: int, name: str, word: str, bridge: set[str], names: set[str]) -> bool:
    if found := _RANGE.fullmatch(word):
        start, end = found.groups()
        return int(start or 0) <= index < (int(end) if end else math.inf)
    if word == "all":
        return True
    if word == "bridge":
        return name in bridge
    if word == "extractor":
        return name == "extractor" if "extractor" in names else name.removesuffix("_bn") in VGG
    if word == "heads":
        return "_mbox_" in name
    return fnmatchcase(name, word)


def _of_stage(what: str, values: list, i: int, count: int) -> float:
    if len(values) not in (1, count):
        raise ValueError(f"{what} must be one number, or one a stage. Received: {values} for {count}")
    return values[i % len(values)]
