"""The same network in other runtimes, each behind the same small door as the program's own."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ssd.bench.flops import graph_flops, keras_flops
from ssd.bench.graph import float32_graph, read_arrays, read_graph
from ssd.bench.layers import CONVS, NORM, SOURCES, Arrays, head
from ssd.detector import Detector
from ssd.runtimes.network import Network, Options, check_batch


class Twins:
    """A model's network in float32, in the forms that other runtimes take.

    Args:
        detector: the model.
        file: its file, from `ssd.runtimes.network.model_file`.
        folder: for an ONNX file where there is none.
        onnx: an ONNX file of the network; None: the model's own if it is one in float32, else written.
        options: threads and batch.
    """

    def __init__(
        self, detector: Detector, file: Path, folder: Path, onnx: Path | None, options: Options
    ) -> None:
        self.detector, self.file, self.options, self._folder = detector, file, options, folder
        self.onnx = file if onnx is None and self._is_onnx else onnx

    @property
    def flops(self) -> int:
        """Operations a picture."""
        model = getattr(self.detector.network, "model", None)
        return graph_flops(read_graph(self.file)) if model is None else keras_flops(model)

    @cached_property
    def arrays(self) -> Arrays:
        """The model's own weights, as float32.

        Raises:
            ValueError: it is no SSD300 with VGG16 of 8,732 anchors.
        """
        card = self.detector.card
        if card.backbone != "vgg16" or card.cut or card.ssd_spec.num_anchors != 8732:
            raise ValueError(
                "the network that --against builds is SSD300 with VGG16; others need --onnx FILE for "
                f"onnxruntime and opencv. Received: {card.spec} with {card.backbone}"
            )
        model = getattr(self.detector.network, "model", None)
        if model is not None:
            return _keras_arrays(model)
        return read_arrays(read_graph(self.file), card.ssd_spec, len(card.class_names))

    @cached_property
    def onnx_file(self) -> Path:
        """The ONNX file that there is, or one that is written now."""
        if self.onnx is not None:
            return self.onnx
        _need("onnx", "to write an ONNX file (or take --onnx FILE)")
        from ssd.bench.onnx_graph import write_onnx

        return write_onnx(self._folder / "network.onnx", self.arrays, len(self.detector.class_names))

    def reference(self) -> Network | None:
        """The model without quantisation in OpenVINO; None for a checkpoint."""
        if hasattr(self.detector.network, "model"):
            return None
        from ssd.runtimes.openvino_file import OpenvinoNetwork

        card, batch = replace(self.detector.card, precision="f32"), self.options.batch
        graph = float32_graph(read_graph(self.file))
        if batch != 1:
            graph.reshape([batch, *list(graph.input(0).get_shape())[1:]])
        return OpenvinoNetwork(graph, card, self.options)

    @property
    def _is_onnx(self) -> bool:
        return self.file.suffix == ".onnx" and self.detector.card.precision == "f32"


def open_rival(name: str, twins: Twins) -> Network:
    """One of RIVALS, with the network of a model.

    Raises:
        ValueError: it cannot take this network.
        ImportError: it is not installed; the message names the package.
    """
    return RIVALS[name](twins)


def _torch(twins: Twins) -> Network:
    _need("torch", "for --against torch")
    from ssd.bench.torch_network import TorchNetwork

    options = twins.options
    return TorchNetwork(twins.arrays, len(twins.detector.class_names), options.threads, options.batch)


def _onnxruntime(twins: Twins) -> Network:
    _need("onnxruntime", "for --against onnxruntime")
    from ssd.bench.onnx_networks import OnnxruntimeNetwork

    return OnnxruntimeNetwork(*_onnx_options(twins))


def _opencv(twins: Twins) -> Network:
    from ssd.bench.onnx_networks import OpencvNetwork

    return OpencvNetwork(*_onnx_options(twins))


RIVALS: dict[str, Callable[[Twins], Network]] = {
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "opencv": _opencv,
}


def _onnx_options(twins: Twins) -> tuple:
    """File, threads, batch, and whether channels come last in it."""
    import openvino

    file, options = twins.onnx_file, twins.options
    try:
        shape = openvino.Core().read_model(file).input(0).get_partial_shape()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"--onnx must be an ONNX file. Received: {file} ({reason})") from None
    check_batch(None if shape[0].is_dynamic else shape[0].get_length(), options, file)
    last = len(shape) == 4 and not shape[3].is_dynamic and shape[3].get_length() == 3
    return file, options.threads, options.batch, last


def _keras_arrays(model: object) -> Arrays:
    """Kernels of a Keras SSD300, (out, in, rows, columns), and biases; its layers have the same names."""
    import numpy as np

    names = [row.name for row in CONVS] + [
        head(source, kind) for kind in ("conf", "loc") for source in SOURCES
    ]
    layers = {name: model.get_layer(name) for name in names}
    arrays = {
        name: (np.asarray(layer.kernel).transpose(3, 2, 0, 1).copy(), np.asarray(layer.bias))
        for name, layer in layers.items()
    }
    return arrays | {NORM: (np.asarray(model.get_layer(NORM).gamma),)}


def _need(package: str, why: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{package} is not installed, {why}: pip install '.[bench]'")
