"""Export to LiteRT, formerly TensorFlow Lite: model.tflite in f32 or int8."""

import warnings
from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.card import ModelCard
from ssd.exporters.graph import batches, frozen_function

PRECISIONS = ("f32", "int8")


def write(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    pictures: list[np.ndarray],
    batch: int | None,
    nms: bool,
) -> None:
    """Write model.tflite; input and outputs stay float32. See `ssd.export.export_model`."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen_function(model, batch)])
    if card.precision == "int8":
        calibration = batches(pictures)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture] for picture in calibration)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statistics of outputs that stay in floating point
        (folder / "model.tflite").write_bytes(converter.convert())
