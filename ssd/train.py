"""Staged training: samples in, a run folder out; reads from top to bottom.

A run folder holds run.json (the settings), history.csv (a row an epoch), checkpoints/ (best by mAP,
best by val_loss, last) and state.npz, from which an interrupted run goes on at its last epoch.
"""

import csv
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ssd.anchors import make_anchors
from ssd.backbones import load_backbone
from ssd.backend import keras
from ssd.batches import Batches, Views
from ssd.card import ModelCard
from ssd.checkpoint import SUFFIX, load_checkpoint, save_checkpoint
from ssd.datasets.voc import read_split
from ssd.detector import postprocess
from ssd.features import CompiledFront, FeatureCache, split_model
from ssd.loss import ConfidenceLoss, LocationLoss, MatchedAccuracy
from ssd.metrics.voc import evaluate_voc
from ssd.model import build_model
from ssd.records import Detections, Sample
from ssd.spec import PREPROCESSING, get_spec
from ssd.stages import Stage, choose_layers, freeze_all_but, make_optimizer

BACKBONE_FACTOR = 0.3  # of the learning rate
FRONTS = ("int8", "f32", "keras")  # how the frozen layers run


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, as plain data; it is stored as run.json."""

    data: tuple[str, ...]  # folders in VOC layout
    class_names: tuple[str, ...]
    stages: tuple[Stage, ...]
    split: str = "train"
    val_split: str = "val"
    spec: str = "ssd300"
    backbone: str = "vgg16"
    cut: str | None = None
    backbone_weights: str | None = None  # None: from keras.applications; "random": none
    init: str | None = None  # a checkpoint with the same layers to start from
    batch_size: int = 16
    max_expand: float = 4.0
    front: str = "int8"
    seed: int = 0
    workers: int = 1
    cache: str | None = None  # None: cache/ in the run folder

    def __post_init__(self) -> None:
        stages = tuple(s if isinstance(s, Stage) else Stage(**s) for s in self.stages)
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "data", tuple(self.data))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if self.front not in FRONTS:
            raise ValueError(f"front must be one of {', '.join(FRONTS)}. Received: {self.front!r}")


def _untracked(items: Iterable, text: str, total: int) -> Iterator:
    return iter(items)


def train(settings: Settings, run: str | Path, say: Callable = print, track: Callable = _untracked) -> Path:
    """Train a detector, or go on with an interrupted run of the same settings.

    Args:
        settings: stored in the run folder.
        run: the run folder; made if missing.
        say: takes lines of text for the user.
        track: wraps an iterable to show its progress: track(items, text, total).
    Returns:
        the best checkpoint by VOC07 mAP on the validation split.
    Raises:
        ValueError: data, settings or weights do not fit; a loss that is not finite.
        OSError: a file is missing or cannot be written.
    """
    run = Path(run)
    spec, preprocessing = get_spec(settings.spec), PREPROCESSING[settings.backbone]
    train_samples = read_samples(settings, settings.split)
    val_samples = read_samples(settings, settings.val_split)
    say(
        f"{len(train_samples)} training and {len(val_samples)} validation images, "
        f"{sum(len(s.boxes) for s in train_samples)} boxes, {len(settings.class_names)} classes"
    )

    keras.utils.set_random_seed(settings.seed)
    model, new = start_model(settings)
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    _write_text(run / "run.json", json.dumps(asdict(settings), indent=2) + "\n")
    card = ModelCard(run.name, settings.spec, settings.backbone, settings.class_names, settings.cut)
    views = Views(train_samples, spec, preprocessing, settings.seed, settings.max_expand)
    val_views = Views(val_samples, spec, preprocessing, max_expand=None)
    factors = _scale_fc6(model, val_views) if "fc6" in new else {}
    state = _load_state(run)
    factors = state.get("factors", factors)

    epoch = 0
    for number, stage in enumerate(settings.stages):
        trainable = choose_layers(model, stage.layers, new)
        if left := (new - trainable if number == 0 else set()):
            raise ValueError(f"random layers must be trained in the first stage. Left out: {sorted(left)}")
        if state.get("epoch", 0) >= epoch + stage.epochs:
            epoch += stage.epochs
            continue
        trained, frozen = freeze_all_but(model, trainable)
        say(
            f"stage {number + 1} of {len(settings.stages)}, {stage.layers}: {stage.epochs} epochs, "
            f"{trained:,} parameters trained, {frozen:,} frozen"
        )
        first, epoch = epoch, max(epoch, state.get("epoch", 0))
        _restore_weights(model, state)

        front, back = split_model(model, trainable)
        if settings.front == "keras" or front is None:
            front, back = None, model
        folder = Path(settings.cache or run / "cache")
        sources = _features(front, settings, stage, views, val_views, folder, say, track)
        options = {"spec": spec, "batch_size": settings.batch_size, "workers": settings.workers}
        batches = Batches(
            sources[0],
            len(train_samples),
            seed=settings.seed,
            drop_rest=True,
            views_per_sample=stage.cache_views if front and stage.cache_views else None,
            **options,
        )
        val_batches = Batches(sources[1], len(val_samples), **options)
        # Pretrained layers beside random ones learn more slowly, or the first steps undo them.
        slower = dict.fromkeys(trainable - new, BACKBONE_FACTOR) if trainable & new else {}
        optimizer = make_optimizer(stage, len(batches) * stage.epochs, slower | factors)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="acc")
        back.compile(
            optimizer,
            loss=[ConfidenceLoss(), LocationLoss()],
            metrics=[[accuracy, MatchedAccuracy(name="matched_acc")], []],
            jit_compile=False,
        )
        optimizer.build(back.trainable_variables)
        _restore_optimizer(optimizer, state if epoch > first else {})

        while epoch < first + stage.epochs:
            started = time.monotonic()
            batches.start_epoch(epoch)
            text = f"epoch {epoch + 1} ({stage.layers} {epoch - first + 1}/{stage.epochs})"
            logs = _fit_epoch(back, batches, track, text)
            logs |= validate(back, val_batches, val_samples, settings)
            epoch += 1
            row = {"epoch": epoch, "stage": stage.layers} | logs
            row |= {"seconds": round(time.monotonic() - started, 1)}
            _append(run / "history.csv", row)
            _save(run, model, card, row)
            _save_state(run, model, optimizer, {"epoch": epoch, "factors": factors})
            say(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()))
        state = {}
    return run / "checkpoints" / f"best{SUFFIX}"


def read_samples(settings: Settings, split: str) -> list[Sample]:
    """The samples of a split in all data folders, in order.

    Raises:
        ValueError: there are none.
    """
    samples = [s for root in settings.data for s in read_split(root, split, settings.class_names)]
    if not samples:
        raise ValueError(f"split {split!r} must hold images. Received: none in {list(settings.data)}")
    return samples


def start_model(settings: Settings) -> tuple[keras.Model, set[str]]:
    """The model with its start weights, and the names of the layers that are still random."""
    if settings.init:
        model, card = load_checkpoint(settings.init)
        wanted = (settings.spec, settings.backbone, settings.cut, settings.class_names)
        if (card.spec, card.backbone, card.cut, card.class_names) != wanted:
            raise ValueError(f"init must be the same model as the run's, {wanted}. Received: {settings.init}")
        return model, set()
    model = build_model(get_spec(settings.spec), len(settings.class_names), settings.backbone, settings.cut)
    new = {layer.name for layer in model.layers if layer.weights} - {"conv4_3_norm"}
    if settings.backbone_weights != "random":
        new -= set(load_backbone(model, settings.backbone, settings.backbone_weights))
    return model, new | {"conv4_3_norm"}


def validate(back: keras.Model, batches: Batches, samples: list[Sample], settings: Settings) -> dict:
    """Loss, accuracies and VOC07 mAP over a split, from one pass."""
    losses = ConfidenceLoss(), LocationLoss()
    accuracies = keras.metrics.SparseCategoricalAccuracy(), MatchedAccuracy()
    spec = get_spec(settings.spec)
    anchors, total, found = make_anchors(spec), 0.0, []
    for i in range(len(batches)):
        inputs, (classes, boxes) = batches[i]
        logits, deltas = (np.asarray(out) for out in back.predict_on_batch(inputs))
        total += sum(
            float(f(t, y)) for f, t, y in zip(losses, (classes, boxes), (logits, deltas), strict=True)
        )
        for accuracy in accuracies:
            accuracy.update_state(classes, logits)
        for row in zip(logits, deltas, strict=True):
            sample = samples[len(found)]
            parts = postprocess(*row, anchors, spec)
            found.append(Detections(*parts, settings.class_names, sample.height, sample.width))
    scores = evaluate_voc(samples, found, settings.class_names)
    return {
        "val_loss": total / len(batches),
        "val_acc": float(accuracies[0].result()),
        "val_matched_acc": float(accuracies[1].result()),
        "val_mAP": scores["voc07"]["mAP"] or 0.0,
    }


class _Watch(keras.callbacks.Callback):
    """Moves the progress on and stops at a loss that is not finite."""

    def __init__(self, steps: object) -> None:
        super().__init__()
        self._steps = steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        next(self._steps, None)
        if not math.isfinite(logs["loss"]):
            raise ValueError(f"the loss must be finite. Received: {logs['loss']} at batch {batch}")


def _fit_epoch(back: keras.Model, batches: Batches, track: Callable, text: str) -> dict:
    steps = iter(track(range(len(batches) + 1), text, len(batches)))
    next(steps)
    history = back.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[_Watch(steps)]).history
    next(steps, None)
    short = {
        "class_logits_loss": "confidence_loss",
        "box_deltas_loss": "location_loss",
        "class_logits_acc": "acc",
        "class_logits_matched_acc": "matched_acc",
    }
    logs = {short.get(key, key): float(values[-1]) for key, values in history.items()}
    return {key: logs[key] for key in ("loss", *short.values()) if key in logs}


def _features(
    front,
    settings: Settings,
    stage: Stage,
    views: Views,
    val_views: Views,
    folder: Path,
    say: Callable,
    track: Callable,
) -> tuple[Callable, Callable]:
    """Two functions, for training and validation: view index -> (inputs, boxes, labels)."""
    if front is None:
        return views, val_views
    pictures = None
    if settings.front == "int8":
        say("quantising the frozen layers to int8")
        plain = Views(views.samples, views.spec, views.preprocessing, max_expand=None)
        step = max(1, len(views.samples) // 24)
        pictures = [plain(i)[0] for i in range(0, len(views.samples), step)]
    compiled = CompiledFront(front, pictures)
    digest = hashlib.sha256()
    for weight in front.get_weights():
        digest.update(weight.tobytes())
    key = {"front": digest.hexdigest(), "precision": settings.front}

    def through(source: Views) -> Callable:
        def get(i: int) -> tuple:
            picture, boxes, labels = source(i)
            return compiled(picture), boxes, labels

        return get

    def cached(source: Views, count: int, text: str) -> Callable:
        full = source.key | key
        name = hashlib.sha256(json.dumps(full, sort_keys=True).encode()).hexdigest()[:12]
        cache = FeatureCache(folder / f"{count}-views-{name}", compiled.shapes, count, full)
        missing = cache.missing()
        say(
            f"{text}: {count} views, {cache.size_bytes / 1e9:.1f} GB in {cache.folder}, {len(missing)} to make"
        )
        for _ in track(cache.fill(through(source), missing), text, len(missing)):
            pass
        return cache.__getitem__

    if not stage.cache_views:
        return through(views), through(val_views)
    count = len(views.samples)
    return (
        cached(views, count * stage.cache_views, "training features"),
        cached(val_views, len(val_views.samples), "validation features"),
    )


def _scale_fc6(model: keras.Model, views: Views) -> dict[str, float]:
    """Bring the start of fc6 to the size of what it is fed; the factors of its learning rate.

    ImageNet's pool5 is an order larger than the unit scale that He's start assumes. A kernel
    divided by it, with a learning rate divided by it, trains as if the input had been scaled.
    """
    fc6 = model.get_layer("fc6")
    feed = keras.Model(model.input, fc6.input)
    pictures = np.stack([views(i)[0] for i in range(min(8, len(views.samples)))])
    size = float(np.sqrt(np.mean(np.square(feed.predict_on_batch(pictures)))))
    kernel, bias = fc6.get_weights()
    fc6.set_weights([kernel / size, bias])
    return {"fc6": 1 / size}


def _save(run: Path, model: keras.Model, card: ModelCard, row: dict) -> None:
    """Keep the last checkpoint, the best by val_loss and the best by mAP; no other."""
    folder = run / "checkpoints"
    name = f"epoch-{row['epoch']:03d}-{row['val_loss']:.2f}-{row['val_acc']:.3f}{SUFFIX}"
    scores = {key: row[key] for key in ("val_loss", "val_acc", "val_mAP")}
    card = ModelCard(**(vars(card) | {"scores": scores, "notes": {"epoch": row["epoch"]}}))
    save_checkpoint(folder / name, model, card)
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    best_map = max(rows, key=lambda r: float(r["val_mAP"]))["epoch"]
    best_loss = min(rows, key=lambda r: float(r["val_loss"]))["epoch"]
    kept = {int(best_map), int(best_loss), row["epoch"]}
    for path in folder.glob(f"epoch-*{SUFFIX}"):
        if int(path.name.split("-")[1]) not in kept:
            path.unlink()
    _link(folder / f"last{SUFFIX}", folder / name)
    _link(folder / f"best{SUFFIX}", next(folder.glob(f"epoch-{int(best_map):03d}-*")))


def _link(link: Path, target: Path) -> None:
    beside = link.with_name(f".part-{link.name}")
    beside.unlink(missing_ok=True)
    beside.hardlink_to(target)
    beside.replace(link)
    beside.unlink(missing_ok=True)  # POSIX: renaming onto a link to the same file does nothing


def _save_state(run: Path, model: keras.Model, optimizer: keras.Optimizer, meta: dict) -> None:
    arrays = {f"model/{i}": w for i, w in enumerate(model.get_weights())}
    arrays |= {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    beside = run / ".part-state.npz"
    np.savez(beside, meta=json.dumps(meta), **arrays)
    beside.replace(run / "state.npz")


def _load_state(run: Path) -> dict:
    file = run / "state.npz"
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        return json.loads(str(arrays["meta"])) | {"arrays": {k: arrays[k] for k in arrays.files}}


def _restore_weights(model: keras.Model, state: dict) -> None:
    if "arrays" in state:
        model.set_weights([state["arrays"][f"model/{i}"] for i in range(len(model.weights))])


def _restore_optimizer(optimizer: keras.Optimizer, state: dict) -> None:
    if "arrays" in state:
        for i, variable in enumerate(optimizer.variables):
            variable.assign(state["arrays"][f"optimizer/{i}"])


def _append(path: Path, row: dict) -> None:
    """Add a row; rows of epochs that are done again after a kill are replaced."""
    rows = []
    if path.exists():
        with open(path, newline="") as file:
            rows = [r for r in csv.DictReader(file) if int(r["epoch"]) < row["epoch"]]
    lines = [dict.fromkeys(row), *rows, row]
    beside = path.with_name(f".part-{path.name}")
    with open(beside, "w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(lines[1:])
    beside.replace(path)


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".part-{path.name}")
    beside.write_text(text)
    beside.replace(path)
