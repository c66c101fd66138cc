"""Keras weights on disk: one `.weights.h5` file that carries its card, written beside and renamed."""

import zipfile
from pathlib import Path

import h5py
import numpy as np

from ssd.backend import keras
from ssd.beside import replacing
from ssd.card import ModelCard, card_from_json, card_to_json
from ssd.model import build_model
from ssd.transfer.ledger import Ledger, ledger_from_json, ledger_to_json
from ssd.transfer.weightfile import CARD, LAYER_NAMES, LEDGER

SUFFIX = ".weights.h5"


def save_checkpoint(
    path: str | Path, model: keras.Model, card: ModelCard, ledger: Ledger | None = None
) -> None:
    """Write the weights of a model and its card: the inverse of `load_checkpoint`.

    Args:
        path: must end in .weights.h5.
        model: any detector of `ssd.model.build_model`.
        card: what it is.
        ledger: where its weights came from, if they were transferred.
    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"a checkpoint must end in {SUFFIX}. Received: {path}")
    with replacing(path) as beside:
        model.save_weights(beside)
        with h5py.File(beside, "a") as file:
            describe_file(file, model, card, ledger)


def describe_file(file: h5py.File, model: keras.Model, card: ModelCard, ledger: Ledger | None) -> None:
    """Put card, order of layers and ledger into an HDF5 file beside the weights."""
    file.attrs[CARD] = card_to_json(card)
    file.attrs[LAYER_NAMES] = [layer.name for layer in model.layers]
    if ledger is not None:  # longer than an attribute may be
        file[LEDGER] = np.frombuffer(ledger_to_json(ledger).encode(), np.uint8)


def read_ledger(path: str | Path) -> Ledger | None:
    """The ledger inside a model file, None if there is none: its weights were trained, or are a stranger's.

    Raises:
        ValueError: the ledger is damaged.
    """
    stored = None
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            stored = file[LEDGER][...].tobytes() if LEDGER in file else None
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = f"{LEDGER}.json"
            stored = archive.read(name) if name in archive.namelist() else None
    return ledger_from_json(stored.decode("utf-8", "replace")) if stored else None


def read_card(path: str | Path) -> ModelCard:
    """The card inside a checkpoint.

    Raises:
        ValueError: the file is no checkpoint of this program.
    """
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs[CARD]
    except (OSError, KeyError) as error:
        raise ValueError(
            f"a checkpoint must be a {SUFFIX} file with a card, such as ssd train and ssd transfer write. "
            f"Received: {path} ({error})"
        ) from None
    return card_from_json(text, str(path))


def load_checkpoint(path: str | Path) -> tuple[keras.Model, ModelCard]:
    """Build the model that a checkpoint's card names and fill in its weights.

    Raises:
        ValueError: the file is damaged or its weights do not fit its card.
    """
    card = read_card(path)
    model = build_model(card.ssd_spec, len(card.class_names), card.backbone, card.cut)
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"weights must fit their card. Received: {path} ({error})") from None
    return model, card
