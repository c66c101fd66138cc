"""LiteRT, formerly TensorFlow Lite, runs model.tflite."""

import threading
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ssd.card import ModelCard
from ssd.runtimes.network import Options, Outputs, check_batch, cores


class LitertNetwork:
    """An interpreter of LiteRT, for one caller at a time; see `ssd.runtimes.network.Network`."""

    limits, streams = None, 1

    def __init__(self, file: Path, card: ModelCard, options: Options) -> None:
        self.about = f"litert {card.precision}"
        self._interpreter = Interpreter(str(file), num_threads=options.threads or cores())
        self._input = self._interpreter.get_input_details()[0]
        signature = self._input["shape_signature"]
        self.batch = check_batch(None if signature[0] < 0 else int(signature[0]), options, file)
        if signature[0] < 0:
            self._interpreter.resize_tensor_input(self._input["index"], [self.batch, *signature[1:]])
        self._interpreter.allocate_tensors()
        # The converter names and orders outputs as it likes: the last side tells them.
        outputs = sorted(self._interpreter.get_output_details(), key=lambda o: o["name"])
        self._outputs = [out["index"] for out in outputs]
        self._lock = threading.Lock()

    def __call__(self, batch: np.ndarray) -> Outputs:
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], batch)
            self._interpreter.invoke()
            return Outputs(*(self._interpreter.get_tensor(index) for index in self._outputs))


def load(file: Path, card: ModelCard, options: Options) -> LitertNetwork:
    """Open an interpreter; see `ssd.runtimes.network.open_network`."""
    try:
        return LitertNetwork(file, card, options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"LiteRT must accept the model. Received: {file} ({reason})") from None
