"""What every runtime gives: a network that takes preprocessed pictures, and which file needs which."""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ssd.card import CARD_NAME, ModelCard, card_from_json, file_sha256

# The file of a model folder -> the adapter that runs it; keras_file takes a checkpoint as it is.
ADAPTERS = {
    "model.xml": "openvino_file",
    "model.onnx": "onnx_file",
    "model.tflite": "litert_file",
    "saved_model": "saved_model",
    ".weights.h5": "keras_file",
}
MAX_STREAMS = 4  # pictures in the network at once; each takes memory of its own


class Limits(NamedTuple):
    """What suppression inside a graph works with."""

    score_threshold: float
    iou_threshold: float
    max_detections: int


class Outputs(NamedTuple):
    """What a network answers for B pictures."""

    class_logits: np.ndarray  # (B, A, C + 1), column 0 background
    box_deltas: np.ndarray  # (B, A, 4)
    found: list[tuple] | None = None  # a picture: boxes, labels, scores, if the graph suppresses itself


class Network(Protocol):
    """A network ready to run; called from several threads at once where streams are more than 1."""

    batch: int  # pictures that one call takes, exactly
    streams: int  # calls that it works on at once
    limits: Limits | None  # of `Outputs.found`; None where the graph has no suppression
    about: str  # runtime and precision, as a user is told

    def __call__(self, batch: np.ndarray) -> Outputs:
        """(batch, S, S, 3) float32, preprocessed -> outputs, valid until the thread's next call."""


@dataclass(frozen=True)
class Options:
    """How a network shall run.

    Args:
        threads: None: all cores.
        many: several pictures at once, a core each, rather than all cores for one.
        batch: pictures in one call.
    """

    threads: int | None = None
    many: bool = False
    batch: int = 1

    @property
    def streams(self) -> int:
        """Pictures in the network at once, where the runtime can do that."""
        return min(self.threads or cores(), MAX_STREAMS) if self.many else 1


def model_file(path: Path) -> Path | None:
    """The file of a model: in the folder given, or the one given itself; None if there is none."""
    if any(path.name.endswith(name) for name in ADAPTERS) and path.exists():
        return path
    return next((path / name for name in ADAPTERS if (path / name).exists()), None)


def read_model_card(file: Path) -> ModelCard:
    """The card of a model: card.json beside its file, or the one inside a checkpoint.

    Raises:
        FileNotFoundError: there is no card.
        ValueError: the card is wrong, or a file has another SHA-256 than its card says.
    """
    if file.name.endswith(".weights.h5"):
        return importlib.import_module("ssd.checkpoint").read_card(file)
    path = file.with_name(CARD_NAME)
    if not path.is_file():
        raise FileNotFoundError(f"a model must have its {CARD_NAME} beside it. Received: {file}")
    card = card_from_json(path.read_text("utf-8"), str(path))
    for name in {file.name, *card.sha256} - {"saved_model"}:
        part = file.parent / name
        if ".." in Path(name).parts or not part.is_file() or card.sha256.get(name) != file_sha256(part):
            raise ValueError(f"a model file must have the SHA-256 of its card. Received: {part}")
    return card


def open_network(file: Path, card: ModelCard, options: Options) -> Network:
    """Load the network of a model with the runtime that its file needs.

    Args:
        file: from `model_file`.
        card: from `read_model_card`.
        options: how it shall run.
    Raises:
        ValueError: the runtime refuses the file or the batch.
        ImportError: the runtime is not installed.
    """
    name = next(adapter for suffix, adapter in ADAPTERS.items() if file.name.endswith(suffix))
    return importlib.import_module(f"ssd.runtimes.{name}").load(file, card, options)


def check_batch(has: int | None, options: Options, file: Path) -> int:
    """The batch of a graph that was made for `has` pictures (None: any number), or ValueError."""
    if has not in (None, options.batch):
        raise ValueError(
            f"this model takes batches of {has}; ssd export --batch 0 makes one for any. "
            f"Received: batch {options.batch} for {file}"
        )
    return options.batch


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
