"""Staged training of a classifier: pictures or stored features in, a run folder out."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import numpy as np

from ssd.backend import COMPILES, keras
from ssd.classify.batches import ClassBatches, from_features, from_pixels
from ssd.classify.cifar import NAMES, read_cifar
from ssd.classify.data import ImageSet, load_pixels
from ssd.classify.evaluate import Outcome, judge, outcome_to_json, save_misclassified
from ssd.classify.features import classifier_of, read_features
from ssd.classify.network import layer_groups, probabilities, split_top
from ssd.classify.run import ClassRun, Settings, save_extractor
from ssd.classify.spec import ClassifierCard, parse_augment
from ssd.classify.start import RANDOM, make_classifier, read_parts
from ssd.download import untracked
from ssd.images import load_image
from ssd.model import set_precision
from ssd.optimizers import (
    averaged,
    has_converged,
    keep_averages,
    make_optimizer,
    plateau_rate,
    variable_factors,
)
from ssd.recipe import recipe_to_toml
from ssd.records import Sample
from ssd.run import restore
from ssd.stages import choose_layers, freeze_all_but, list_layers, settle_precision
from ssd.steps import Steps, rate
from ssd.train import plan_stages
from ssd.watcher import Watcher

LOGS = {"loss": "loss", "acc": "acc"}
# What a recipe of a classifier may set beside its stages.
KEYS = {
    "backbone": str,
    "cut": str,
    "backbone_weights": str,
    "image_size": str,
    "input_stage": str,
    "top": str,
    "dropout": float,
    "output": str,
    "freeze": str,
    "freeze_depth": int,
    "hold": str,
    "release_at": int,
    "batch_size": int,
    "augment": str,
}
MISCLASSIFIED = "misclassified"  # the folder in the run folder


def train(
    settings: Settings,
    path: str | Path,
    say: Callable = print,
    track: Callable = untracked,
    watcher: Watcher | None = None,
) -> Path:
    """Train a classifier, or go on with an interrupted run of the same settings after its last epoch.

    Args:
        settings: stored in the run folder.
        path: the run folder; made if missing.
        say: takes lines of text for the user.
        track: wraps an iterable to show its progress: track(items, text, total).
        watcher: told of stages, epochs and batches; opened and closed by the caller.
    Returns:
        the best checkpoint by accuracy on the validation images.
    Raises:
        ValueError: data, settings or weights do not fit; a loss that is not finite.
        OSError: a file is missing or cannot be written.
    """
    watcher = watcher or Watcher()
    settings = replace(settings, stages=tuple(settle_precision(stage) for stage in settings.stages))
    network, names = settings.network, settings.class_names
    if settings.features:
        stored = read_features(settings.features)
        model, new = classifier_of(stored, network, say, track)
        is_scratch = stored.meta["weights"] == RANDOM
        images, val_images = (ImageSet(names, *stored.parts[s][1:]) for s in ("train", "val"))
        get, get_val = (from_features(stored.parts[s][0]) for s in ("train", "val"))
    else:
        parts = settings.data, settings.split, settings.val_split, settings.val_share, settings.seed
        images, val_images = read_parts(*parts, names)
        pixels, val_pixels = (load_pixels(part, network.image_size, track) for part in (images, val_images))
        weights, is_scratch = settings.backbone_weights, settings.backbone_weights == RANDOM
        model, new = make_classifier(network, names, weights, settings.seed, say, track)
        get = from_pixels(pixels, network.preprocessing, parse_augment(settings.augment))
        get_val = from_pixels(val_pixels, network.preprocessing, {})
    say(f"{len(images)} training and {len(val_images)} validation images of {len(names)} classes")
    groups = layer_groups(model)
    plan = plan_stages(model, settings.stages, new, settings.frozen_words, groups)
    if settings.features and any(trained - groups["top"] for _, trained in plan):
        raise ValueError(
            f"features must train the top alone. Received: {[s.layers for s in settings.stages]}"
        )
    held = _held(model, settings.hold, new, groups)

    run = ClassRun(path)
    meta, arrays = run.load_state()
    run.write_settings(settings)
    run.write_text("recipe.toml", recipe_to_toml(_flat(settings), KEYS))
    run.write_text("data.json", _data_to_json(settings, images, val_images))
    card = ClassifierCard(run.path.resolve().name, network, names)
    samples = [_sample(name) for name in images.names]
    whole, (base, top) = model, split_top(model)
    column = network.output == "sigmoid"
    options = {"column": column, "batch_size": settings.batch_size}
    batches = ClassBatches(get, images.labels, seed=settings.seed, drop_rest=True, **options)
    val_batches = ClassBatches(get_val, val_images.labels, **options)
    if arrays:
        factors = meta["factors"]
        restore(arrays, whole)
    else:
        maps = get_val(np.arange(min(16, len(val_images))), np.random.default_rng(0))
        maps = maps if settings.features else base.predict_on_batch(maps)
        factors = _scale_top(top, new, maps, is_scratch)

    epoch = 0
    watcher.run_started(run.path, sum(stage.epochs for stage, _ in plan), run.rows(0, meta.get("epoch", 0)))
    for number, (stage, trainable) in enumerate(plan, start=1):
        first, last = epoch, epoch + stage.epochs
        epoch = min(last, max(epoch, meta.get("epoch", 0)))
        if epoch == last:
            continue
        counts = freeze_all_but(whole, trainable)
        title = f"stage {number} of {len(plan)}, {stage.layers}: {stage.epochs} epochs"
        say(f"{title}, {counts[0]:,} parameters trained, {counts[1]:,} frozen")
        say(f"  trained: {list_layers(whole, trainable)}")
        how = f"{stage.optimizer}, {stage.schedule} from {stage.learning_rate:g}, {stage.precision}"
        say(f"  by {how}, batch {settings.batch_size}")
        watcher.stage_started(number, len(plan), stage.layers, counts)
        set_precision(whole, stage.precision)
        back = split_top(whole)[1] if settings.features else whole

        slower = dict.fromkeys(trainable - new, stage.backbone_factor) if trainable & new else {}
        rates = variable_factors(whole, slower) | factors
        holds = held if settings.release_at is None or epoch + 1 < settings.release_at else frozenset()
        optimizer = make_optimizer(stage, batches.total * stage.epochs, rates, holds)
        _compile(back, optimizer, column)
        if arrays and epoch > first:
            restore(arrays, whole, optimizer)

        while epoch < last:
            past = run.rows(first, epoch)
            if has_converged(stage, [row["val_acc"] for row in past]):
                say(f"stage {number} ends: no higher val_acc in {stage.patience} epochs")
                break
            if stage.schedule == "plateau":
                accuracies = [-row["val_acc"] for row in past]
                peak = plateau_rate(stage, accuracies, stage.plateau_factor, stage.least_rate)
            if held and epoch + 1 == settings.release_at:
                say(f"  released in epoch {epoch + 1}: {', '.join(settings.hold)}")
                optimizer.release()
                back.make_train_function(force=True)
            started = time.monotonic()
            watcher.epoch_started(epoch + 1, last, batches.total, 0, settings.batch_size)
            batches.start_epoch(epoch)
            _seed_layers(back, settings.seed, epoch)
            steps = Steps(watcher, batches, samples, epoch + 1, LOGS)
            callbacks = [steps]
            if stage.schedule == "plateau":
                callbacks.append(_StepDecay(optimizer, peak, stage.step_decay))
            done = back.fit(batches, verbose=0, shuffle=False, callbacks=callbacks).history
            logs = {own: float(done[key][-1]) for key, own in LOGS.items()}
            epoch += 1
            with averaged(optimizer):
                shares = probabilities(_predict(back, val_batches))
                outcome = judge(shares, val_images.labels, names)
                row = {"epoch": epoch, "stage": stage.layers, "learning_rate": rate(optimizer), **logs}
                row |= {"val_loss": outcome.loss, "val_acc": outcome.scores.accuracy}
                row |= {"seconds": round(time.monotonic() - started, 2), **steps.pace()}
                row |= {"stage_number": number, "trainable": counts[0], "frozen": counts[1]}
                if run.add_epoch(whole, card, row):
                    save_extractor(run.extractor, whole, network)
                    _keep_outcome(run, outcome, val_images, settings)
            if epoch == last:
                keep_averages(optimizer)
            run.save_state(whole, optimizer, {"epoch": epoch, "factors": factors})
            shown = {**logs, "val_loss": row["val_loss"], "val_acc": row["val_acc"]}
            say(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in shown.items()))
            watcher.epoch_ended(row, [], [])
        if epoch < last:
            keep_averages(optimizer)
            epoch = last
    watcher.run_ended()
    return run.best


class _StepDecay(keras.callbacks.Callback):
    """The rate of Keras 2's `decay`: divided by 1 + decay x steps, and set at the start of an epoch."""

    def __init__(self, optimizer: keras.Optimizer, peak: float, decay: float) -> None:
        super().__init__()
        self._optimizer, self._peak, self._decay = optimizer, peak, decay
        optimizer.learning_rate = peak

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._decay:
            steps = int(keras.ops.convert_to_numpy(self._optimizer.iterations))
            self._optimizer.learning_rate = self._peak / (1 + self._decay * steps)


def _compile(model: keras.Model, optimizer: keras.Optimizer, column: bool) -> None:
    if column:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        metric = keras.metrics.MeanMetricWrapper(_is_right, name="acc")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalAccuracy(name="acc")
    model.compile(optimizer, loss=loss, metrics=[metric], jit_compile=COMPILES)
    optimizer.build(model.trainable_variables)


def _is_right(true: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Whether one number is on the side of its class: above 0 is the second."""
    return keras.ops.cast(keras.ops.equal(logits > 0, true > 0.5), "float32")


def _predict(model: keras.Model, batches: ClassBatches) -> np.ndarray:
    return np.concatenate([model.predict_on_batch(batches[i][0]) for i in range(len(batches))])


def _seed_layers(model: keras.Model, seed: int, epoch: int) -> None:
    """Dropout and noise follow from seed, epoch and layer: the same when resumed or on stored features."""
    for layer in model._flatten_layers():
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(
                np.random.SeedSequence([seed, epoch, crc32(layer.name.encode())]).generate_state(2) >> 1
            )


def _scale_top(top: keras.Model, new: set[str], maps: np.ndarray, is_scratch: bool) -> dict[str, float]:
    """Bring the start of the first dense layer to the size of what it is fed; factors of its rate.

    Pretrained maps are an order larger than the unit scale that a random start assumes. A kernel divided by
    that size, with a rate divided by it, trains as if the map had been scaled.
    """
    first = next(layer for layer in top.layers if layer.weights)
    if is_scratch or first.name not in new:
        return {}
    pooled = next(layer for layer in top.layers if layer.name in ("flatten", "gap"))
    feed = keras.ops.convert_to_numpy(pooled(maps))
    size = float(np.sqrt(np.mean(np.square(feed, dtype=np.float64))))
    if not (math.isfinite(size) and size > 0):
        return {}
    kernel, *rest = first.get_weights()
    first.set_weights([kernel / size, *rest])
    return {first.kernel.path: 1 / size}


def _held(model: keras.Model, patterns: tuple[str, ...], new: set[str], groups: dict) -> frozenset[str]:
    """Paths of the variables of the layers that patterns mean."""
    names = {name for p in patterns for name in choose_layers(model, p, new, "--hold", groups)}
    return frozenset(variable.path for name in names for variable in model.get_layer(name).weights)


def _keep_outcome(run: ClassRun, outcome: Outcome, images: ImageSet, settings: Settings) -> None:
    """The predictions of the best epoch, and its surest errors as pictures."""

    def picture(i: int) -> np.ndarray:
        if images.pixels is not None:
            return images.pixels[i]
        if settings.data in NAMES:  # trained from features: the pictures are in Keras' cache
            _, split, place = images.names[i].split("/")
            return read_cifar(settings.data, split).pixels[int(place)]
        try:
            return load_image(images.names[i])
        except (OSError, ValueError):  # features outlive their pictures
            return np.full((*settings.network.image_size, 3), 200, np.uint8)

    rows = save_misclassified(run.path / MISCLASSIFIED, outcome, images, picture)
    run.write_text("predictions.json", outcome_to_json(outcome, images, rows))


def _data_to_json(settings: Settings, images: ImageSet, val_images: ImageSet) -> str:
    counts = {"train": images.counts(), "val": val_images.counts()}
    return json.dumps({"class_names": settings.class_names, "splits": counts}, ensure_ascii=False) + "\n"


def _flat(settings: Settings) -> SimpleNamespace:
    """The settings as a recipe names them."""
    network = asdict(settings.network) | {"image_size": "{}x{}".format(*settings.network.image_size)}
    own = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return SimpleNamespace(**network | own | {"hold": ",".join(settings.hold)})


def _sample(name: str) -> Sample:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return Sample(name, Path(name), 0, 0, *nothing)
