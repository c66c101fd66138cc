"""TensorFlow runs the folder saved_model/."""

import threading
from pathlib import Path

import numpy as np
import tensorflow as tf

from ssd.card import ModelCard
from ssd.runtimes.network import Options, Outputs, check_batch


class SavedModelNetwork:
    """The serving signature of a SavedModel; see `ssd.runtimes.network.Network`."""

    limits, streams = None, 1

    def __init__(self, folder: Path, card: ModelCard, options: Options) -> None:
        self.about = f"tensorflow {card.precision}"
        self._model = tf.saved_model.load(str(folder))
        self._run = self._model.signatures["serving_default"]
        (self._name, spec), *_ = self._run.structured_input_signature[1].items()
        self.batch = check_batch(spec.shape[0], options, folder)
        self._lock = threading.Lock()

    def __call__(self, batch: np.ndarray) -> Outputs:
        with self._lock:
            results = self._run(**{self._name: tf.constant(batch)})
        return Outputs(results["class_logits"].numpy(), results["box_deltas"].numpy())


def load(folder: Path, card: ModelCard, options: Options) -> SavedModelNetwork:
    """Open a SavedModel; see `ssd.runtimes.network.open_network`."""
    try:
        return SavedModelNetwork(folder, card, options)
    except (OSError, KeyError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"TensorFlow must accept the model. Received: {folder} ({reason})") from None
