"""Export to TensorFlow's SavedModel: the folder saved_model/, f32."""

from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.card import ModelCard
from ssd.exporters.graph import named_function

PRECISIONS = ("f32",)


def write(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    pictures: list[np.ndarray],
    batch: int | None,
    nms: bool,
) -> None:
    """Write saved_model/ with the signature serving_default; see `ssd.export.export_model`."""
    function = named_function(model, batch)
    import tensorflow as tf

    module = tf.Module()
    module.infer, module.weights = function, [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(folder / "saved_model"), {"serving_default": function})
