"""From Keras to a compiled model: conversion to OpenVINO and quantisation to int8."""

from pathlib import Path

import numpy as np
import openvino

from ssd.backend import keras


def to_openvino(model: keras.Model) -> openvino.Model:
    """Convert a Keras model for batches of one picture, float32.

    Raises:
        ValueError: Keras does not run on TensorFlow, the one backend that converts.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"export needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}")
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32)
    return openvino.convert_model(function.get_concrete_function(spec))


def quantise(graph: openvino.Model, pictures: list[np.ndarray]) -> openvino.Model:
    """Quantise to int8 after training, calibrated on pictures.

    Args:
        graph: from `to_openvino`.
        pictures: (S, S, 3) float32, preprocessed as the network wants them.
    """
    import logging

    import nncf

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([picture[None] for picture in pictures])
    return nncf.quantize(graph, data, subset_size=len(pictures))


def save_openvino(graph: openvino.Model, path: str | Path) -> None:
    """Write PATH (.xml) and its .bin."""
    openvino.save_model(graph, str(path), compress_to_fp16=False)
