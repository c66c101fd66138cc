"""The model as one frozen graph of TensorFlow, from which other formats are converted."""

from collections.abc import Callable

import numpy as np

from ssd.backend import keras


def frozen_function(model: keras.Model, batch: int | None) -> Callable:
    """A concrete function of TensorFlow, weights as constants: image -> class_logits, box_deltas.

    Args:
        model: a detector.
        batch: pictures of one call; None: any number.
    Raises:
        ValueError: Keras does not run on TensorFlow, the one backend that converts.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function_of(model, batch).get_concrete_function())


def function_of(model: keras.Model, batch: int | None) -> Callable:
    """The same as a `tf.function` whose weights are variables.

    Raises:
        ValueError: Keras does not run on TensorFlow.
    """
    need_tensorflow()
    import tensorflow as tf

    image = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, "image")

    def infer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        class_logits, box_deltas = model(image, training=False)
        return {"class_logits": class_logits, "box_deltas": box_deltas}

    return tf.function(infer, input_signature=[image])


def need_tensorflow() -> None:
    """Raise ValueError unless Keras runs on TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"export needs KERAS_BACKEND=tensorflow. Received: {backend}")


def batches(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Each picture as a batch of one, for calibration.

    Raises:
        ValueError: there is none.
    """
    if not pictures:
        raise ValueError("int8 must be calibrated on pictures. Received: none")
    return [picture[None] for picture in pictures]
