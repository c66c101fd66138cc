"""An ONNX file in OpenCV and in ONNX Runtime, whatever the layout of its input."""

from pathlib import Path

import cv2
import numpy as np

from ssd.runtimes.network import Outputs, cores


class OpencvNetwork:
    """cv2.dnn, float32; see `ssd.runtimes.network.Network`."""

    limits, streams, about = None, 1, "opencv f32"

    def __init__(self, file: Path, threads: int | None, batch: int, channels_last: bool) -> None:
        cv2.setNumThreads(threads or cores())
        self.batch, self._channels_last = batch, channels_last
        try:
            self._net = cv2.dnn.readNetFromONNX(str(file))
        except cv2.error as error:
            raise ValueError(f"OpenCV must read the graph. Received: {file} ({_reason(error)})") from None
        self._names = self._net.getUnconnectedOutLayersNames()

    def __call__(self, batch: np.ndarray) -> Outputs:
        self._net.setInput(_laid_out(batch, self._channels_last))
        return _sorted(self._net.forward(self._names))


class OnnxruntimeNetwork:
    """A session of ONNX Runtime on the CPU, float32; see `ssd.runtimes.network.Network`."""

    limits, streams, about = None, 1, "onnxruntime f32"

    def __init__(self, file: Path, threads: int | None, batch: int, channels_last: bool) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors alone
        settings.intra_op_num_threads = threads or cores()
        # Threads that spin after a run would slow down whoever comes next in turn.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        self.batch, self._channels_last = batch, channels_last
        try:
            self._session = onnxruntime.InferenceSession(str(file), settings, ["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base class but this
            raise ValueError(
                f"ONNX Runtime must read the graph. Received: {file} ({_reason(error)})"
            ) from None
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: np.ndarray) -> Outputs:
        return _sorted(self._session.run(None, {self._input: _laid_out(batch, self._channels_last)}))


def _laid_out(batch: np.ndarray, channels_last: bool) -> np.ndarray:
    return batch if channels_last else np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def _sorted(outputs: list[np.ndarray]) -> Outputs:
    """Logits, then deltas; where both have four columns the file's order counts."""
    first, second = outputs[:2]
    return Outputs(second, first) if first.shape[-1] == 4 != second.shape[-1] else Outputs(first, second)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
