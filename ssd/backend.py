"""The one door to Keras: every room that needs it imports it from here.

It sets what must be set before TensorFlow is imported, and turns a missing package into one line.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI, where its matrix product is twice as
# fast as Eigen's all the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextmanager
def _without_chatter() -> Iterator[None]:
    """TensorFlow's C++ side greets on standard error, whatever its log level; an error is an exception."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    if sys.stderr:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


try:
    with _without_chatter():
        import keras
except ImportError as error:
    raise ImportError("this needs an extra: pip install '.[train]'") from error

# Compiling to XLA makes a step of TensorFlow on a CPU slower and takes twice the memory; JAX is nothing
# without it.
COMPILES = keras.backend.backend() == "jax"
# OpenVINO reads TensorFlow's graphs alone.
EXPORTS = keras.backend.backend() == "tensorflow"

__all__ = ["COMPILES", "EXPORTS", "dilated_conv2d", "keras"]


def dilated_conv2d(inputs: keras.KerasTensor, kernel: keras.KerasTensor, rate: int) -> keras.KerasTensor:
    """A "same" convolution with dilation, by the operation whose gradient is fast.

    Keras takes tf.nn.convolution, which rearranges the picture into `rate` squared small ones; its
    forward pass and gradients of fc6 take three times as long as those of tf.nn.conv2d on a CPU.

    Args:
        inputs: (B, h, w, c).
        kernel: (rows, columns, c, filters).
        rate: cells between two taps.
    Returns:
        (B, h, w, filters), no bias.
    """
    if keras.backend.backend() != "tensorflow" or not _has_dilated_gradient():
        return keras.ops.conv(inputs, kernel, padding="same", dilation_rate=rate)
    import tensorflow as tf

    return tf.nn.conv2d(inputs, kernel, 1, "SAME", dilations=rate)


@cache
def _has_dilated_gradient() -> bool:
    """Whether tf.nn.conv2d can be trained with dilation: not on a CPU whose oneDNN somebody turned off."""
    import tensorflow as tf

    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[1, 3, 3, 1],
                filter=np.zeros((3, 3, 1, 1), np.float32),
                out_backprop=np.zeros((1, 3, 3, 1), np.float32),
                strides=[1] * 4,
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
        except tf.errors.OpError:
            return False
    return True
