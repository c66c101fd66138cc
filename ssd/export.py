"""From Keras to a compiled model: conversion to OpenVINO and quantisation to int8."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino

from ssd.backend import keras
from ssd.card import CARD_NAME, card_to_json, file_sha256
from ssd.checkpoint import load_checkpoint


def export_model(
    checkpoint: str | Path,
    folder: str | Path,
    precision: str = "f32",
    pictures: list[np.ndarray] | None = None,
    notes: dict | None = None,
) -> Path:
    """Compile a checkpoint into a model folder: model.xml, model.bin and card.json.

    Args:
        checkpoint: a .weights.h5 file with its card.
        folder: must not exist.
        precision: "f32" or "int8".
        pictures: (S, S, 3) float32, preprocessed; int8 is calibrated on them.
        notes: added to the notes of the card.
    Returns:
        the folder.
    Raises:
        ValueError: the folder exists, or the checkpoint or precision is wrong.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"a model is never overwritten; choose another name. Received: {folder}")
    if precision not in ("f32", "int8"):
        raise ValueError(f"precision must be f32 or int8. Received: {precision!r}")
    model, card = load_checkpoint(checkpoint)
    graph = to_openvino(model)
    graph = quantise(graph, pictures or []) if precision == "int8" else graph
    beside = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    openvino.save_model(graph, str(beside / "model.xml"), compress_to_fp16=False)
    hashes = {name: file_sha256(beside / name) for name in ("model.xml", "model.bin")}
    source = {"checkpoint_sha256": file_sha256(checkpoint)}
    card = replace(
        card,
        name=folder.name,
        precision=precision,
        sha256=hashes,
        scores={},  # those of the checkpoint are not those of the compiled model
        notes=card.notes | source | (notes or {}),
    )
    (beside / CARD_NAME).write_text(card_to_json(card), "utf-8")
    beside.replace(folder)
    return folder


def to_openvino(model: keras.Model, batch: int | None = 1) -> openvino.Model:
    """Convert a Keras model, float32.

    Args:
        model: of one input.
        batch: pictures in a batch; None: any count.

    Raises:
        ValueError: Keras does not run on TensorFlow, the one backend that converts.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"export needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}")
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32)
    return openvino.convert_model(function.get_concrete_function(spec))


def quantise(graph: openvino.Model, pictures: list[np.ndarray]) -> openvino.Model:
    """Quantise to int8 after training, calibrated on pictures.

    Args:
        graph: from `to_openvino`.
        pictures: (S, S, 3) float32, preprocessed as the network wants them; at least one.
    """
    import logging

    import nncf

    if not pictures:
        raise ValueError("int8 must be calibrated on pictures. Received: none")
    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([picture[None] for picture in pictures])
    return nncf.quantize(graph, data, subset_size=len(pictures))
