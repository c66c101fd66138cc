"""Keras weights on disk: one `.weights.h5` file that carries its card, written beside and renamed."""

from pathlib import Path

import h5py

from ssd.backend import keras
from ssd.card import ModelCard, card_from_json, card_to_json
from ssd.model import build_model

SUFFIX = ".weights.h5"
_ATTRIBUTE = "ssd_card"


def save_checkpoint(path: str | Path, model: keras.Model, card: ModelCard) -> None:
    """Write the weights of a model and its card: the inverse of `load_checkpoint`.

    Args:
        path: must end in .weights.h5.
    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"a checkpoint must end in {SUFFIX}. Received: {path}")
    beside = path.with_name(f".part-{path.name}")
    model.save_weights(beside)
    with h5py.File(beside, "a") as file:
        file.attrs[_ATTRIBUTE] = card_to_json(card)
    beside.replace(path)


def read_card(path: str | Path) -> ModelCard:
    """The card inside a checkpoint.

    Raises:
        ValueError: the file is no checkpoint of this program.
    """
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs[_ATTRIBUTE]
    except (OSError, KeyError) as error:
        raise ValueError(f"a checkpoint must be HDF5 with a card. Received: {path} ({error})") from None
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
