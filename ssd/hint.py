"""A hint: what layers of another detector, the teacher, give for a picture, as the target of a stage.

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
from ssd.model import OUTPUTS
from ssd.run import Settings
from ssd.sizes import root_mean_square
from ssd.stages import Stage
from ssd.transfer.load import build_transferred
from ssd.transfer.plan import Options
from ssd.transfer.target import choose_target, find_source

ops = keras.ops

HINT_LOGS = {"loss": "hint_loss"}  # as `ssd.steps.LOGS`


class Hint:
    """A teacher, with its own extractor, up to the layers of a hint: picture -> maps.

    Args:
        settings: of the run.
        stage: names the layers, and the teacher if that is not the detector that the run starts from.
        views: of training; a few calibrate the compiled network.
        say, track: as in `ssd.train.train`.
    Raises:
        ValueError: no such layer, or one that leads to it has no trained weights in the file.
    """

    def __init__(
        self, settings: Settings, stage: Stage, views: Views, say: Callable, track: Callable
    ) -> None:
        if not EXPORTS:
            raise ValueError(
                f"a stage with a hint needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}"
            )
        self.layers = stage.hint.split("+")
        options = Options() if stage.teacher else settings.transfer
        path, options = find_source(stage.teacher or settings.init, options, say=say, track=track)
        # All of its extractor; of its heads, whose classes may be others, nothing unless they are asked for.
        skip = () if set(self.layers) & set(OUTPUTS) else ("*_mbox_*",)
        options = replace(options, first=None, last=None, skip=skip)
        card = choose_target(path, options, "hint", classes=settings.class_names)
        teacher, ledger = build_transferred(card, path, options, "random", settings.seed, say, track)
        targets, names = _targets(teacher, self.layers)
        stored = read_ledger(path)
        if lost := (ledger.new | (stored.new if stored else set())) & names:
            raise ValueError(
                f"a hint needs trained weights up to {stage.hint}. Received: {path}, without "
                + ", ".join(sorted(lost))
            )
        self.shapes = [tuple(target.shape[1:]) for target in targets]
        self._size, self._preprocessing = card.ssd_spec.image_size, card.preprocessing
        front = keras.Model(teacher.input, targets)
        self.key = {"hint": digest(front), "hint_layers": self.layers}
        plain, step = views.plain(), max(1, len(views.samples) // CALIBRATION)
        images = [plain.picture(i)[0] for i in range(0, len(views.samples), step)]
        quantised = settings.front != "f32"
        say(f"the hint is {stage.hint} of {path}" + ", in int8" * quantised)
        self._compiled = CompiledFront(front, [self._prepare(i) for i in images] if quantised else None)
        maps = [self(image) for image in images]
        self.scales = [root_mean_square(np.stack(column)) or 1.0 for column in zip(*maps, strict=True)]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """(H, W, 3) uint8 -> a float32 map a layer."""
        return self._compiled(self._prepare(image))

    def views(self, views: Views) -> Callable:
        """View index -> ([picture, *maps], boxes, labels), where no frozen front stands before the stage."""

        def get(i: int) -> tuple:
            image, boxes, labels = views.picture(i)
            return [views.prepare(image), *self(image)], boxes, labels

        return get

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        return preprocess(image, self._size, self._preprocessing)


class HintBatches(Batches):
    """Batches whose targets are the last `hints` of the maps that `get` gives."""

    def __init__(self, get: Callable, *args: object, hints: int, **options: object) -> None:
        def split(i: int) -> tuple:
            maps = get(i)[0]
            return maps[:-hints], maps[-hints:], None

        super().__init__(split, *args, **options)

    def targets(self, rows: list[tuple]) -> tuple[np.ndarray, ...]:
        """A float32 array of the batch a layer of the hint."""
        return tuple(np.stack(column) for column in zip(*(maps for _, maps, _ in rows), strict=True))


class HintLoss(keras.losses.Loss):
    """Mean square of the difference of two maps, in units of `scale`."""

    def __init__(self, scale: float, name: str = "hint_loss") -> None:
        super().__init__(name=name, reduction=None, dtype="float32")
        self.scale = scale

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """(B, h, w, c) twice -> scalar; with several devices their sum is the mean of the whole batch."""
        squares = ops.square((y_pred - y_true) / self.scale)
        return ops.sum(squares) / sum_over_devices(ops.sum(ops.ones_like(squares)))


def hinted_model(back: keras.Model, hint: Hint) -> keras.Model:
    """A model, or its part behind the frozen layers, up to the layers that learn from a hint.

    Raises:
        ValueError: a layer's map has another shape than its hint.
    """
    targets, _ = _targets(back, hint.layers)
    for layer, target, shape in zip(hint.layers, targets, hint.shapes, strict=True):
        if tuple(target.shape[1:]) != shape:
            raise ValueError(
                f"{layer} must have the shape of its hint, {shape}. Received: {tuple(target.shape[1:])}"
            )
    return keras.Model(back.inputs, targets)


def compile_hinted(model: keras.Model, optimizer: keras.Optimizer, hint: Hint) -> None:
    """Give a model of `hinted_model` its loss, the mean over the layers, and its optimiser."""
    losses = [HintLoss(scale) for scale in hint.scales]
    shares = [1 / len(losses)] * len(losses)
    model.compile(optimizer, loss=losses, loss_weights=shares, jit_compile=COMPILES)
    optimizer.build(model.trainable_variables)


def check_hint(model: keras.Model, stage: Stage, trained: set[str]) -> set[str]:
    """Those of the layers of a stage that lead to the layers of its hint.

    Raises:
        ValueError: there is no such layer, or none of the stage's leads to it.
    """
    names = {layer: _targets(model, [layer])[1] for layer in stage.hint.split("+")}
    if lost := [layer for layer, leading in names.items() if not trained & leading]:
        raise ValueError(
            f"a stage must train layers that lead to its hint, {', '.join(lost)}. Received: {stage.layers!r}"
        )
    return trained & set().union(*names.values())


def _targets(model: keras.Model, layers: list[str]) -> tuple[list[keras.KerasTensor], set[str]]:
    """What layers give, and all that leads to them."""
    known = [each.name for each in model.layers]
    if unknown := [layer for layer in layers if layer not in known]:
        raise ValueError(f"hint of a stage must be layers of {', '.join(known)}. Received: {unknown[0]!r}")
    found = [leading_to(model, layer) for layer in layers]
    return [tensor for tensor, _ in found], set().union(*(names for _, names in found))
