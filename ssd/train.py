"""Staged training: samples in, a run folder out; `train` reads from top to bottom."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ssd.backend import COMPILES, EXPORTS, keras
from ssd.batches import Batches, Views
from ssd.card import card_to_json
from ssd.datasets.read import read_split
from ssd.distribute import Devices
from ssd.features import digest, frozen_features, split_model
from ssd.hint import HINT_LOGS, Hint, HintBatches, check_hint, compile_hinted, hinted_model
from ssd.history import AP
from ssd.model import BRIDGE, set_precision
from ssd.optimizers import (
    averaged,
    has_converged,
    keep_averages,
    make_optimizer,
    plateau_rate,
    variable_factors,
)
from ssd.outcome import data_to_json, detections_to_json
from ssd.recipe import recipe_to_toml
from ssd.records import Detections, Sample
from ssd.run import RunFolder, Settings, restore, shared_settings
from ssd.sizes import factors_of_sizes, scale_bridge, scale_fc6
from ssd.stages import Stage, bridge_layers, choose_layers, freeze_all_but, list_layers, settle_precision
from ssd.start import start
from ssd.steps import LOGS, Steps, compile_stage, rate
from ssd.transfer.ledger import ledger_to_json
from ssd.validate import validate
from ssd.watcher import Watcher


def train(
    settings: Settings,
    path: str | Path,
    say: Callable = print,
    track: Callable | None = None,
    watcher: Watcher | None = None,
) -> Path:
    """Train a detector, or go on with an interrupted run of the same settings.

    Args:
        settings: stored in the run folder.
        path: the run folder; made if missing.
        say: takes lines of text for the user.
        track: wraps an iterable to show its progress: track(items, text, total).
        watcher: told of stages, epochs and batches; opened and closed by the caller.
    Returns:
        the best checkpoint by VOC07 mAP on the validation split.
    Raises:
        ValueError: data, settings or weights do not fit; a loss that is not finite.
        OSError: a file is missing or cannot be written.
    """
    track, watcher = track or _untracked, watcher or Watcher()
    settings = replace(settings, stages=tuple(settle_precision(stage) for stage in settings.stages))
    devices = Devices(settings.devices)
    if not devices.is_chief:
        say, track, watcher = _silent, _untracked, Watcher()
    with devices.scope():
        begin = start(settings, path, say, track)
    model, card, new, meta, arrays = begin.model, begin.card, begin.new, begin.meta, begin.arrays
    spec, preprocessing = card.ssd_spec, card.preprocessing
    samples, val_samples = (read_samples(settings, s) for s in (settings.split, settings.val_split))
    boxes = sum(len(s.boxes) for s in samples)
    say(f"{len(samples)} training and {len(val_samples)} validation images, {boxes} boxes for training")
    devices.check(settings.batch_size, len(samples))
    views = Views(samples, spec, preprocessing, settings.seed, settings.max_expand)
    val_views = Views(val_samples, spec, preprocessing, max_expand=None)

    plan = plan_stages(model, settings.stages, new, settings.freeze)
    run = RunFolder(path, devices.is_chief)
    run.write_settings(settings)
    run.write_text("recipe.toml", recipe_to_toml(settings))
    if settings.recipe and not meta:
        say(f"recipe {settings.recipe}, as it is stored in the run folder:\n{recipe_to_toml(settings)}")
    if begin.ledger:
        run.write_text("ledger.json", ledger_to_json(begin.ledger))
    splits = {settings.split: samples, settings.val_split: val_samples}
    run.write_text("data.json", data_to_json(settings.class_names, splits, settings.val_split))
    if (factors := meta.get("factors")) is None:
        factors = scale_fc6(model, val_views, devices) if "fc6" in new else factors_of_sizes(model)
    if arrays:
        restore(arrays, model)
    front_runs = settings.front if EXPORTS else "keras"
    if front_runs != settings.front:
        say(f"on KERAS_BACKEND={keras.backend.backend()} frozen layers run in Keras, as with --front keras")
    if devices.workers > 1:
        devices.agree(run=shared_settings(settings), data=views.key, state=meta, weights=digest(model))

    epoch, start_of = 0, {"factors": factors, "new": sorted(new), "card": card_to_json(card)}
    if len(plan) < len(settings.stages):
        say("every layer has its weights: there is no bridge to train first")
    watcher.run_started(run.path, sum(stage.epochs for stage, _ in plan), run.rows(0, meta.get("epoch", 0)))
    for number, (stage, trainable) in enumerate(plan, start=1):
        last = epoch + stage.epochs
        first, epoch = epoch, min(last, max(epoch, meta.get("epoch", 0)))
        if epoch == last:
            continue
        counts = freeze_all_but(model, trainable)
        title = f"stage {number} of {len(plan)}, {stage.layers}: {stage.epochs} epochs"
        say(f"{title}, {counts[0]:,} parameters trained, {counts[1]:,} frozen")
        say(f"  trained: {list_layers(model, trainable)}")
        how = f"{stage.optimizer}, {stage.schedule} from {stage.learning_rate:g}, {stage.precision}"
        say(f"  by {how}, batch {settings.batch_size}")
        watcher.stage_started(number, len(plan), stage.layers, counts)

        set_precision(model, "float32")  # what is compiled or cached is not rounded
        with devices.scope():
            front, back = split_model(model, trainable) if front_runs != "keras" else (None, model)
        get, get_val = views.with_mosaic(stage.mosaic), val_views
        hint = Hint(settings, stage, views, say, track) if stage.hint else None
        if hint and not factors.keys() & set(BRIDGE):
            random = new.difference(*(trained for _, trained in plan[: number - 1]))
            factors |= scale_bridge(model, random, dict(zip(hint.layers, hint.scales, strict=True)), views)
        if front is not None:
            folder = Path(settings.cache or run.path / "cache")
            with devices.chief_first():
                get, get_val = frozen_features(
                    front, get, val_views, front_runs, stage.cache_views, folder, say, track, hint
                )
        elif hint:
            get = hint.views(get)
        set_precision(model, stage.precision)
        repeats = stage.cache_views if front is not None and stage.cache_views else None
        options = {"spec": spec, "batch_size": settings.batch_size, "workers": settings.workers}
        kind = partial(HintBatches, hints=len(hint.layers)) if hint else Batches
        batches = kind(
            get, len(samples), seed=settings.seed, drop_rest=True, views_per_sample=repeats, **options
        )
        val_batches = Batches(get_val, len(val_samples), **options)

        # Pretrained layers beside random ones learn more slowly, or the first steps undo them.
        slower = dict.fromkeys(trainable - new, stage.backbone_factor) if trainable & new else {}
        rates = variable_factors(model, slower | factors)
        with devices.scope():
            optimizer = make_optimizer(stage, batches.total * stage.epochs, rates)
            if hint:
                back.compile(jit_compile=COMPILES)  # for validation
                fitted = hinted_model(back, hint)
                compile_hinted(fitted, optimizer, hint)
            else:
                fitted = back
                compile_stage(back, optimizer, stage)
        alone, reports = devices.alone(back), HINT_LOGS if hint else LOGS
        # Batches of the next epoch that are done, and what they reported.
        done, parts = (meta.get("done", 0), meta.get("parts", [])) if epoch == meta.get("epoch") else (0, [])
        if arrays and (epoch > first or done):
            restore(arrays, model, optimizer)

        while epoch < last:
            past = devices.from_chief(partial(run.rows, first, epoch))
            if has_converged(stage, [row["val_mAP"] for row in past]):
                say(f"stage {number} ends: no higher val_mAP in {stage.patience} epochs")
                break
            if stage.schedule == "plateau":
                optimizer.learning_rate = plateau_rate(stage, [row["val_loss"] for row in past])
            started = time.monotonic()
            watcher.epoch_started(epoch + 1, last, batches.total, done, settings.batch_size)
            steps = Steps(watcher, batches, samples, epoch + 1, reports)
            while done < batches.total:
                count = min(settings.save_every, batches.total - done)
                batches.start_epoch(epoch, done, done + count)
                parts.append([count, _fit(fitted, batches, steps, devices, reports)])
                done += count
                if done < batches.total:
                    run.save_state(
                        model, optimizer, start_of | {"epoch": epoch, "done": done, "parts": parts}
                    )
            logs, done, parts = _mean(parts), 0, []
            epoch += 1
            with averaged(optimizer):
                found: list[Detections] = []  # by the chief alone
                check = partial(validate, alone, val_batches, val_samples, spec, settings.class_names, found)
                scores = devices.from_chief(check)
                row = {"epoch": epoch, "stage": stage.layers, "learning_rate": rate(optimizer)}
                row |= logs | scores | {"seconds": round(time.monotonic() - started, 1), **steps.pace()}
                row |= {"stage_number": number, "trainable": counts[0], "frozen": counts[1]}
                if run.add_epoch(model, card, row):
                    run.write_text("detections.json", detections_to_json(val_samples, found))
            if epoch == last:
                keep_averages(optimizer)
            run.save_state(model, optimizer, start_of | {"epoch": epoch})
            shown = logs | {key: value for key, value in scores.items() if not key.startswith(AP)}
            say(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in shown.items()))
            watcher.epoch_ended(row, val_samples, found)
        if epoch < last:
            keep_averages(optimizer)
            epoch = last
    watcher.run_ended()
    return run.best


def read_samples(settings: Settings, split: str) -> list[Sample]:
    """The samples of a split in all data folders, in order.

    Raises:
        ValueError: there are none.
    """
    samples = [s for root in settings.data for s in read_split(root, split, settings.class_names)]
    if not samples:
        raise ValueError(f"split {split!r} must hold images. Received: none in {list(settings.data)}")
    return samples


def plan_stages(
    model: keras.Model,
    stages: tuple[Stage, ...],
    new: set[str],
    freeze: str | None = None,
    groups: dict[str, set[str]] | None = None,
) -> list[tuple[Stage, set[str]]]:
    """Each stage with the names of the layers that it trains.

    A stage `bridge` of a model in which every layer has its weights has nothing to do and is left out.

    Args:
        model: the detector, or a classifier.
        stages: in order.
        new: layers whose weights are random.
        freeze: layers that no stage trains, in the words of a stage.
        groups: further words, as in `choose_layers`.
    Raises:
        ValueError: a stage names no layer, or the first one would leave random layers frozen.
    """
    frozen = choose_layers(model, freeze, new, "--freeze", groups) if freeze else set()
    stages = tuple(stage for stage in stages if stage.layers != "bridge" or bridge_layers(model, new))
    if not stages:
        raise ValueError("a stage must train layers. Received: 'bridge' alone, and no layer is new")
    plan = [(stage, choose_layers(model, stage.layers, new, groups=groups) - frozen) for stage in stages]
    plan = [(s, check_hint(model, s, trained) if s.hint else trained) for s, trained in plan]
    if empty := [stage.layers for stage, trained in plan if not trained]:
        raise ValueError(f"a stage must train layers. Received: {empty[0]!r} and --freeze {freeze!r}")
    # Stages with a hint train some of the new layers, the first one without a hint all the others.
    first = next((i for i, stage in enumerate(stages) if not stage.hint), len(stages) - 1)
    if left := new.difference(*(trained for _, trained in plan[: first + 1])):
        why = f" and --freeze {freeze!r}" if left & frozen else ""
        raise ValueError(
            "the first stage must train every layer that has no weights yet (word: bridge). "
            f"Received: {stages[first].layers!r}{why}, which leaves out {', '.join(sorted(left))}"
        )
    return plan


def _fit(
    model: keras.Model, batches: Batches, steps: Steps, devices: Devices, logs: dict
) -> dict[str, float]:
    history = devices.fit(model, batches, [steps])
    return {own: float(history[keras_name][-1]) for keras_name, own in logs.items()}


def _mean(parts: list) -> dict[str, float]:
    """Means over the batches of an epoch that was fitted in parts: [batches, means over them]."""
    total = sum(count for count, _ in parts)
    return {key: sum(count * logs[key] for count, logs in parts) / total for key in parts[0][1]}


def _silent(text: str) -> None:
    pass


def _untracked(items: Iterable, text: str, total: int) -> Iterator:
    return iter(items)
