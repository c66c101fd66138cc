"""Keras runs a checkpoint, NAME.weights.h5, as training left it."""

import threading
from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.card import ModelCard
from ssd.checkpoint import load_checkpoint
from ssd.runtimes.network import Options, Outputs


class KerasNetwork:
    """The Keras model itself, float32, whatever the backend; see `ssd.runtimes.network.Network`."""

    limits, streams = None, 1

    def __init__(self, model: keras.Model, options: Options) -> None:
        self.model, self.batch = model, options.batch
        self.about = f"keras on {keras.backend.backend()} f32"
        self._lock = threading.Lock()

    def __call__(self, batch: np.ndarray) -> Outputs:
        with self._lock:
            outputs = self.model.predict_on_batch(batch)
        return Outputs(*(np.asarray(output) for output in outputs))


def load(file: Path, card: ModelCard, options: Options) -> KerasNetwork:
    """Build the model of a checkpoint; see `ssd.runtimes.network.open_network`."""
    return KerasNetwork(load_checkpoint(file)[0], options)
