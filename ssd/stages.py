"""A stage: a stretch of training with its own trainable layers."""

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ssd.backend import keras
from ssd.model import BRIDGE
from ssd.transfer.names import VGG

WORDS = ("bridge", "extractor", "heads", "all")
_RANGE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True)
class Stage:
    """Which layers are trained, for how long and how fast.

    `layers` joins with "+": the words `bridge` (the bridging layers and every layer whose weights
    are still random), `extractor`, `heads`, `all`, patterns of layer names such as `conv[45]_*`, and
    ranges of places in `model.layers` such as `2:4`, which is the third and the fourth layer.
    """

    layers: str
    epochs: int
    learning_rate: float = 5e-4  # at its peak
    cache_views: int = 0  # augmented views of each picture kept on disk; 0: fresh ones every epoch


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


def choose_layers(model: keras.Model, words: str, new: set[str], what: str = "a stage") -> set[str]:
    """The names of the layers with weights that words mean.

    Args:
        model: the detector.
        words: `Stage.layers`.
        new: layers whose weights are random.
        what: has these words; for errors.
    Raises:
        ValueError: a word or pattern names no layer.
    """
    names = {i: layer.name for i, layer in enumerate(model.layers) if layer.weights}
    bridge = bridge_layers(model, new)
    chosen = set()
    for word in words.split("+"):
        found = {name for i, name in names.items() if _fits(i, name, word, bridge, set(names.values()))}
        if not found:
            raise ValueError(
                f"{what} must name layers: {', '.join(WORDS)}, a range such as 2:4 or a pattern of "
                f"{list(names.values())}. Received: {word!r}"
            )
        chosen |= found
    return chosen


def bridge_layers(model: keras.Model, new: set[str]) -> set[str]:
    """The bridging layers behind a cut extractor, and every layer whose weights are random."""
    names = {layer.name for layer in model.layers}
    return new | (set(BRIDGE) if BRIDGE[0] in names else set())


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


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW whose learning rate is multiplied by a factor in some layers.

    Args:
        factors: layer name -> factor; 1 for every other layer.
    """

    def __init__(self, learning_rate: object, factors: dict[str, float], **options: object) -> None:
        super().__init__(learning_rate, **options)
        self._factors = dict(factors)

    def update_step(self, gradient: object, variable: object, learning_rate: object) -> None:
        # On TensorFlow this is a bare tf.Variable; the optimizer knows which of ours it is.
        own = self._trainable_variables[self._get_variable_index(variable)]
        factor = self._factors.get(own.path.split("/")[0], 1.0)
        super().update_step(gradient, variable, learning_rate * factor)


def make_optimizer(stage: Stage, steps: int, factors: dict[str, float]) -> keras.Optimizer:
    """AdamW with weight decay on kernels, gradients clipped to norm 10, warm-up and cosine.

    Args:
        stage: for its peak learning rate.
        steps: batches of the whole stage.
        factors: of `LayerwiseAdamW`.
    """
    warm_up = max(1, int(0.06 * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        stage.learning_rate / 20,
        max(1, steps - warm_up),
        alpha=0.01,  # ends at a hundredth of the peak
        warmup_target=stage.learning_rate,
        warmup_steps=warm_up,
    )
    optimizer = LayerwiseAdamW(schedule, factors, weight_decay=0.05, global_clipnorm=10.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _fits(index: int, name: str, word: str, bridge: set[str], names: set[str]) -> bool:
    if found := _RANGE.fullmatch(word):
        start, end = found.groups()
        return int(start or 0) <= index < (int(end) if end else math.inf)
    if word == "all":
        return True
    if word == "bridge":
        return name in bridge
    if word == "extractor":
        return name == "extractor" if "extractor" in names else name in VGG
    if word == "heads":
        return "_mbox_" in name
    return fnmatchcase(name, word)


def _of_stage(what: str, values: list, i: int, count: int) -> float:
    if len(values) not in (1, count):
        raise ValueError(f"{what} must be one number, or one a stage. Received: {values} for {count}")
    return values[i % len(values)]
