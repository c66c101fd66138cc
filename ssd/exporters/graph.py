"""The model as one frozen graph of TensorFlow, from which other formats are converted."""

from collections.abc import Callable

import numpy as np

from ssd.backend import keras


def frozen_function(model: keras.Model, batch: int | None) -> Callable:
    """A concrete function of TensorFlow, weights as constants: image -> (class_logits, box_deltas).

    Args:
        model: a detector.
        batch: pictures of one call; None: any number.
    Raises:
        ValueError: Keras does not run on TensorFlow, the one backend that converts.
    """
    need_tensorflow()
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(_infer(model, tuple), [image_spec(model, batch)], autograph=False)
    return convert_variables_to_constants_v2(function.get_concrete_function())


def named_function(model: keras.Model, batch: int | None) -> Callable:
    """A `tf.function` whose weights are variables: image -> {class_logits, box_deltas}.

    Raises:
        ValueError: Keras does not run on TensorFlow.
    """
    need_tensorflow()
    import tensorflow as tf

    names = "class_logits", "box_deltas"
    infer = _infer(model, lambda outputs: dict(zip(names, outputs, strict=True)))
    return tf.function(infer, [image_spec(model, batch)], autograph=False)


def image_spec(model: keras.Model, batch: int | None) -> object:
    """The TensorSpec of the input."""
    import tensorflow as tf

    return tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, "image")


def _infer(model: keras.Model, form: Callable) -> Callable:
    def infer(image):
        return form(model(image, training=False))

    return infer


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
