"""What a training starts from: a run that goes on, a weight file of any format, or ImageNet's extractor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ssd.backend import keras
from ssd.card import ModelCard
from ssd.checkpoint import SUFFIX, read_card, read_ledger
from ssd.known import resolve
from ssd.model import build_model
from ssd.run import RunFolder, Settings
from ssd.transfer.ledger import ledger_to_text
from ssd.transfer.load import IMAGENET, build_transferred, find_backbone, load_backbone
from ssd.transfer.target import choose_target, find_source


def start(
    settings: Settings, path: str | Path, say: Callable, track: Callable
) -> tuple[keras.Model, ModelCard, set[str], dict, dict[str, np.ndarray]]:
    """The model to train, with its start weights.

    Args:
        settings: of the run.
        path: its folder; made by nobody yet if the run is new.
        say: takes lines of text for the user.
        track: shows the progress of a download.
    Returns:
        the model; its card; names of the layers that started random; meta and arrays of the state
        that an interrupted run left, both empty for a new one.
    Raises:
        ValueError, OSError: weights do not fit or cannot be had.
    """
    meta, arrays = {}, {}
    if (Path(path) / "state.npz").exists():
        run = RunFolder(path)
        meta, arrays = run.load_state()
        if "new" in meta:  # the files that it started from are not needed any more
            card = replace(read_card(run.checkpoints / f"last{SUFFIX}"), scores={}, notes={})
            model = build_model(card.ssd_spec, len(card.class_names), card.backbone, card.cut)
            return model, card, set(meta["new"]), meta, arrays
    card = ModelCard(Path(path).name, settings.spec, settings.backbone, settings.class_names, settings.cut)
    model, card, new = start_model(settings, card, say, track)
    return model, card, new, meta, arrays


def start_model(
    settings: Settings, card: ModelCard, say: Callable, track: Callable
) -> tuple[keras.Model, ModelCard, set[str]]:
    """The model, its card and the names of the layers that are still random.

    Without a network and a file the extractor starts random too, and `say` is told so.

    Raises:
        ValueError, OSError: as `start`.
    """
    if settings.init:
        return _start_from_file(settings, card, say, track)
    card = replace(card, clip=settings.clip)
    keras.utils.set_random_seed(settings.seed)
    model = build_model(card.ssd_spec, len(card.class_names), card.backbone, card.cut)
    new = {layer.name for layer in model.layers if layer.weights}
    if settings.backbone_weights == "random":
        return model, card, new
    try:
        weights = resolve(settings.backbone_weights or IMAGENET[card.backbone], say, track)
    except ConnectionError as error:
        say(f"warning: {error}")
        say("warning: the extractor starts RANDOM and will learn little; give --backbone-weights FILE")
        return model, card, new
    return model, card, new - set(load_backbone(model, card.backbone, weights))


def _start_from_file(
    settings: Settings, card: ModelCard, say: Callable, track: Callable
) -> tuple[keras.Model, ModelCard, set[str]]:
    path, options = find_source(settings.init, settings.transfer, say=say, track=track)
    # Anchors stay as the file's heads know them.
    target = choose_target(path, options, card.name, card.spec, classes=card.class_names, clip=settings.clip)
    card = replace(card, clip=target.clip)
    weights = find_backbone(card, settings.backbone_weights, say, track)
    model, ledger = build_transferred(card, path, options, weights, settings.seed)
    say(ledger_to_text(ledger))
    new = ledger.new
    if h5py.is_hdf5(path) and (stored := read_ledger(path)):
        new |= stored.new  # taken over as they were: numbers that no training has seen yet
    names = {layer.name for layer in model.layers}
    return model, card, new & names
