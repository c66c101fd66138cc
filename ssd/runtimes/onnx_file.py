"""ONNX Runtime runs model.onnx."""

from pathlib import Path

import numpy as np
import onnxruntime

from ssd.card import ModelCard
from ssd.runtimes.network import Options, Outputs, check_batch


class OnnxNetwork:
    """A session of ONNX Runtime on the CPU; see `ssd.runtimes.network.Network`."""

    limits = None

    def __init__(self, file: Path, card: ModelCard, options: Options) -> None:
        self.about = f"onnxruntime {card.precision}"
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors alone
        if options.threads:
            settings.intra_op_num_threads = options.threads
        if options.many:
            settings.intra_op_num_threads, settings.inter_op_num_threads = 1, 1
        self.streams = options.streams
        self._session = onnxruntime.InferenceSession(str(file), settings, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]
        size = self._input.shape[0]
        self.batch = check_batch(size if isinstance(size, int) else None, options, file)

    def __call__(self, batch: np.ndarray) -> Outputs:
        return Outputs(*self._session.run(["class_logits", "box_deltas"], {self._input.name: batch}))


def load(file: Path, card: ModelCard, options: Options) -> OnnxNetwork:
    """Open a session; see `ssd.runtimes.network.open_network`."""
    try:
        return OnnxNetwork(file, card, options)
    except (RuntimeError, onnxruntime.capi.onnxruntime_pybind11_state.Fail) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"ONNX Runtime must accept the model. Received: {file} ({reason})") from None
