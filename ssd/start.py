"""What a training starts from: a run that goes on, a weight file of any format, or ImageNet's extractor."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.card import ModelCard, card_from_json
from ssd.checkpoint import read_ledger
from ssd.known import resolve
from ssd.model import build_model
from ssd.run import RunFolder, Settings
from ssd.transfer.ledger import Ledger, ledger_to_text
from ssd.transfer.load import build_transferred, imagenet_weights, load_backbone
from ssd.transfer.target import choose_target, find_source


@dataclass
class Start:
    """A model to train.

    Args:
        model: with its start weights; after a kill they are in `arrays`.
        card: what it is.
        new: names of the layers that started random.
        ledger: of the transfer that it starts from.
        meta: of the state that an interrupted run left; empty for a new run.
        arrays: of that state.
    """

    model: keras.Model
    card: ModelCard
    new: set[str]
    ledger: Ledger | None = None
    meta: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def start(settings: Settings, path: str | Path, say: Callable, track: Callable) -> Start:
    """The model to train.

    Args:
        settings: of the run.
        path: its folder; made by nobody yet if the run is new.
        say: takes lines of text for the user.
        track: shows the progress of a download.
    Raises:
        ValueError, OSError: weights do not fit or cannot be had.
    """
    meta, arrays = {}, {}
    if (Path(path) / "state.npz").exists():
        run = RunFolder(path)
        meta, arrays = run.load_state()
        if "card" in meta:  # the files that it started from are not needed any more
            card = card_from_json(meta["card"], f"{path}/state.npz")
            model = build_model(card.ssd_spec, len(card.class_names), card.backbone, card.cut)
            return Start(model, card, set(meta["new"]), None, meta, arrays)
    begin = start_from_file if settings.init else start_from_imagenet
    return replace(begin(settings, Path(path).name, say, track), meta=meta, arrays=arrays)


def start_from_imagenet(settings: Settings, name: str, say: Callable, track: Callable) -> Start:
    """A detector of which only the extractor has weights, from ImageNet or a file.

    Without a network and a file the extractor starts random too, and `say` is told so.

    Raises:
        ValueError, OSError: as `start`.
    """
    spec, backbone = settings.spec or "ssd300", settings.backbone or "vgg16"
    card = ModelCard(name, spec, backbone, settings.class_names, settings.cut, settings.clip)
    keras.utils.set_random_seed(settings.seed)
    model = build_model(card.ssd_spec, len(card.class_names), card.backbone, card.cut)
    new = {layer.name for layer in model.layers if layer.weights}
    weights = settings.backbone_weights
    if weights == "random":
        return Start(model, card, new)
    path = resolve(weights, say, track) if weights else imagenet_weights(backbone, say, track)
    if path is not None:
        new -= set(load_backbone(model, card.backbone, path))
    return Start(model, card, new)


def start_from_file(settings: Settings, name: str, say: Callable, track: Callable) -> Start:
    """A detector with the weights of any file, as `ssd transfer` puts them in.

    Raises:
        ValueError, OSError: as `start`.
    """
    path, options = find_source(settings.init, settings.transfer, say=say, track=track)
    # Spec, extractor and clipping are the file's own where the settings are silent.
    given = (settings.spec, settings.backbone, settings.cut, settings.class_names, settings.clip)
    card = choose_target(path, options, name, *given)
    model, ledger = build_transferred(
        card, path, options, settings.backbone_weights, settings.seed, say, track
    )
    say(ledger_to_text(ledger))
    new = ledger.new
    if stored := read_ledger(path):
        new |= stored.new  # taken over as they were: numbers that no training has seen yet
    return Start(model, card, new & {layer.name for layer in model.layers}, ledger)
