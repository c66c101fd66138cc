"""A hint: what a layer of another detector gives for a picture, as the target of a stage.

Bridging layers that give what the old extractor gave need no boxes to learn it from, and the detector
behind them is of use from the first epoch.
Source: Romero et al. 2015, FitNets, arXiv:1412.6550, section 2.2.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ssd.backend import COMPILES, EXPORTS, keras
from ssd.batches import Batches, Views
from ssd.checkpoint import read_ledger
from ssd.distribute import sum_over_devices
from ssd.features import CALIBRATION, CompiledFront, digest, leading_to
from ssd.images import preprocess
from ssd.model import BRIDGE
from ssd.run import Settings
from ssd.stages import Stage
from ssd.transfer.load import build_transferred
from ssd.transfer.target import choose_target, find_source

ops = keras.ops

HINT_LOGS = {"loss": "hint_loss"}  # as `ssd.steps.LOGS`


class Hint:
    """The detector that a run starts from, with its own extractor, up to a layer: picture -> map.

    Args:
        settings: of the run; `init` names the detector.
        layer: name of the layer.
        views: of training; a few calibrate the compiled network.
        say, track: as in `ssd.train.train`.
    Raises:
        ValueError: no such layer, or one that leads to it has no trained weights in the file.
    """

    def __init__(self, settings: Settings, layer: str, views: Views, say: Callable, track: Callable) -> None:
        if not EXPORTS:
            raise ValueError(
                f"a stage with a hint needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}"
            )
        path, options = find_source(settings.init, settings.transfer, say=say, track=track)
        options = replace(options, first=None, last=None, skip=())  # its own extractor too
        card = choose_target(path, options, "hint", settings.spec, classes=settings.class_names)
        teacher, ledger = build_transferred(card, path, options, "random", settings.seed, say, track)
        target, names = leading_to(teacher, _known(layer, teacher))
        stored = read_ledger(path)
        if lost := (ledger.new | (stored.new if stored else set())) & names:
            raise ValueError(
                f"a hint needs trained weights up to {layer}. Received: {path}, without {', '.join(lost)}"
            )
        self.shape = tuple(target.shape[1:])
        self._size, self._preprocessing = card.ssd_spec.image_size, card.preprocessing
        front = keras.Model(teacher.input, target)
        self.key = {"hint": digest(front), "hint_layer": layer}
        plain, step = views.plain(), max(1, len(views.samples) // CALIBRATION)
        images = [plain.picture(i)[0] for i in range(0, len(views.samples), step)]
        quantised = settings.front != "f32"
        say(f"the hint is {layer} of {path}" + ", in int8" * quantised)
        self._compiled = CompiledFront(front, [self._prepare(i) for i in images] if quantised else None)
        self.scale = _rms(np.stack([self(image) for image in images]))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (h, w, c) float32."""
        return self._compiled(self._prepare(image))[0]

    def views(self, views: Views) -> Callable:
        """View index -> ([picture, map], boxes, labels), where no frozen front stands before the stage."""

        def get(i: int) -> tuple:
            image, boxes, labels = views.picture(i)
            return [views.prepare(image), self(image)], boxes, labels

        return get

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        return preprocess(image, self._size, self._preprocessing)


class HintBatches(Batches):
    """Batches whose target is the last of the maps that `get` gives."""

    def __init__(self, get: Callable, *args: object, **options: object) -> None:
        def split(i: int) -> tuple:
            *inputs, target = get(i)[0]
            return inputs, target, None

        super().__init__(split, *args, **options)

    def targets(self, rows: list[tuple]) -> np.ndarray:
        """(B, h, w, c) float32."""
        return np.stack([target for _, target, _ in rows])


class HintLoss(keras.losses.Loss):
    """Mean square of the difference of two maps, in units of `scale`."""

    def __init__(self, scale: float, name: str = "hint_loss") -> None:
        super().__init__(name=name, reduction=None, dtype="float32")
        self.scale = scale

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """(B, h, w, c) twice -> scalar; with several devices their sum is the mean of the whole batch."""
        squares = ops.square((y_pred - y_true) / self.scale)
        return ops.sum(squares) / sum_over_devices(ops.sum(ops.ones_like(squares)))


def hinted_model(back: keras.Model, layer: str, hint: Hint) -> keras.Model:
    """A model, or its part behind the frozen layers, up to the layer that learns from a hint.

    Raises:
        ValueError: the layer's map has another shape than the hint.
    """
    target, _ = leading_to(back, layer)
    if tuple(target.shape[1:]) != hint.shape:
        raise ValueError(
            f"{layer} must have the shape of its hint, {hint.shape}. Received: {tuple(target.shape[1:])}"
        )
    return keras.Model(back.inputs, target)


def compile_hinted(model: keras.Model, optimizer: keras.Optimizer, hint: Hint) -> None:
    """Give a model of `hinted_model` its loss and its optimiser."""
    model.compile(optimizer, loss=HintLoss(hint.scale), jit_compile=COMPILES)
    optimizer.build(model.trainable_variables)


def scale_bridge(hint: Hint, model: keras.Model, layer: str, new: set[str], views: Views) -> dict[str, float]:
    """Bring random bridging layers to the sizes of what they are fed and of their hint.

    Maps of ImageNet's VGG16 are two orders larger than what a random start gives. A kernel times that,
    with a learning rate times that, trains as if the hint had been divided by it.

    Args:
        hint: of the stage.
        model: the detector; the kernels of new bridging layers are changed.
        layer: that learns from the hint.
        new: layers whose weights are random.
        views: of training; a few are measured.
    Returns:
        layer -> factor of its learning rate.
    """
    plain = views.plain()
    pictures = np.stack([plain(i)[0] for i in range(min(8, len(views.samples)))])
    target, names = leading_to(model, layer)
    factors = {}
    if BRIDGE[0] in names & new:
        fed = keras.Model(model.input, model.get_layer(BRIDGE[0]).input)
        factors[BRIDGE[0]] = 1 / _rms(fed.predict_on_batch(pictures))
        _multiply(model.get_layer(BRIDGE[0]), factors[BRIDGE[0]])
    if layer in BRIDGE and layer in new:
        given = _rms(keras.Model(model.input, target).predict_on_batch(pictures))
        factors[layer] = factors.get(layer, 1.0) * hint.scale / given
        _multiply(model.get_layer(layer), hint.scale / given)
    return factors


def _multiply(layer: keras.layers.Layer, factor: float) -> None:
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * factor, bias])  # a bias that is not trained yet is zero


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float32))))


def check_hint(model: keras.Model, stage: Stage, trained: set[str]) -> set[str]:
    """Those of the layers of a stage that lead to the layer of its hint.

    Raises:
        ValueError: there is no such layer, or none of the stage's leads to it.
    """
    _, names = leading_to(model, _known(stage.hint, model))
    if not trained & names:
        raise ValueError(
            f"a stage must train layers that lead to its hint, {stage.hint}. Received: {stage.layers!r}"
        )
    return trained & names


def _known(layer: str, model: keras.Model) -> str:
    names = [each.name for each in model.layers]
    if layer not in names:
        raise ValueError(f"hint of a stage must be a layer, one of {', '.join(names)}. Received: {layer!r}")
    return layer
