"""Export to ONNX: model.onnx in f32 or int8, its card in the metadata too."""

import logging
import warnings
from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.card import ModelCard, card_to_json
from ssd.exporters.graph import batches, named_function

PRECISIONS = ("f32", "int8")
OPSET = 17


def write(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    pictures: list[np.ndarray],
    batch: int | None,
    nms: bool,
) -> None:
    """Write model.onnx; see `ssd.export.export_model`.

    Raises:
        ImportError: the extra onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError("--format onnx needs an extra: pip install '.[onnx]'") from error
    function, file = named_function(model, batch), folder / "model.onnx"
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
    onnx.save(proto, file)
    if card.precision == "int8":
        _quantise(file, proto.graph.input[0].name, batches(pictures))
        proto = onnx.load(file)
    onnx.helper.set_model_props(proto, {"card": card_to_json(card)})
    onnx.save(proto, file)


def _quantise(file: Path, name: str, pictures: list[np.ndarray]) -> None:
    """Convolutions alone: a quantised softmax or normalisation wrecks an SSD.

    Weights take seven bits of eight: without VNNI the sums of two products of full size saturate.
    """
    from onnxruntime import quantization

    class Pictures(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(pictures)

        def get_next(self) -> dict | None:
            picture = next(self._left, None)
            return None if picture is None else {name: picture}

    prepared = file.with_name("prepared.onnx")
    logging.getLogger().setLevel(logging.ERROR)
    quantization.shape_inference.quant_pre_process(file, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        file,
        Pictures(),
        op_types_to_quantize=["Conv"],
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    prepared.unlink()
