"""Layers in front of the extractor: noise, enlarging, and a convolution that starts as identity."""

import numpy as np

from ssd.backend import keras
from ssd.classify.spec import parse_input_stage
from ssd.spec import Preprocessing

layers = keras.layers
PREFIX = "input"  # of the names of all its layers, with their place: input1_noise


def add_input_stage(x: keras.KerasTensor, text: str, preprocessing: Preprocessing) -> keras.KerasTensor:
    """The layers of "noise:0.01,upsample:2,resize:HxW,conv:3x3x16" behind a preprocessed picture.

    `noise` is Gaussian, a share of the whole grey range, and identity at inference. `conv` is a
    convolution with ReLU and a 1x1 projection back to three channels; the two start as identity, so what
    the extractor learned of pictures stays valid, and learn from there.

    Args:
        x: (B, H, W, 3).
        text: as `ssd.classify.spec.parse_input_stage` reads it.
        preprocessing: its scale is that of the noise.
    Returns:
        (B, H', W', 3).
    """
    for place, (kind, numbers) in enumerate(parse_input_stage(text), start=1):
        name = f"{PREFIX}{place}"
        if kind == "noise":
            # Full grey range times the scale: 0.01 means the same whatever the extractor is fed.
            noise = numbers[0] * 255 * preprocessing.scale
            x = Noise(noise, name=f"{name}_noise", seed=place)(x)
        elif kind == "upsample":
            x = layers.UpSampling2D(int(numbers[0]), name=f"{name}_upsample")(x)
        elif kind == "resize":
            x = layers.Resizing(*numbers, interpolation="bilinear", name=f"{name}_resize")(x)
        else:
            x = _identity_conv(x, *(int(n) for n in numbers), name)
    return x


@keras.saving.register_keras_serializable("ssd")
class Noise(layers.GaussianNoise):
    """Gaussian noise of any size; Keras' own takes a picture to lie in 0 to 1."""

    def __init__(self, stddev: float, seed: int | None = None, **options: object) -> None:
        super().__init__(min(stddev, 1.0), seed=seed, **options)
        self.stddev = stddev


def _identity_conv(x: keras.KerasTensor, rows: int, columns: int, channels: int, name: str):
    options = {"padding": "same", "activation": "relu", "kernel_initializer": PassThrough()}
    x = layers.Conv2D(channels, (rows, columns), name=f"{name}_conv", **options)(x)
    return layers.Conv2D(3, 1, kernel_initializer=Rejoin(), name=f"{name}_projection")(x)


@keras.saving.register_keras_serializable("ssd")
class PassThrough(keras.initializers.Initializer):
    """Starts a convolution: channels 0 to 2 carry x, 3 to 5 carry -x, the rest are He's."""

    def __call__(self, shape: tuple, dtype: str | None = None) -> keras.KerasTensor:
        rows, columns, inputs, _ = shape
        kernel = np.array(keras.initializers.HeNormal()(shape, dtype="float32"))
        kernel[..., : 2 * inputs] = 0
        for i in range(inputs):
            kernel[rows // 2, columns // 2, i, i] = 1
            kernel[rows // 2, columns // 2, i, inputs + i] = -1
        return keras.ops.convert_to_tensor(kernel, dtype=dtype)


@keras.saving.register_keras_serializable("ssd")
class Rejoin(keras.initializers.Initializer):
    """Starts the projection behind it: x is relu(x) - relu(-x); the other channels begin unheard."""

    def __call__(self, shape: tuple, dtype: str | None = None) -> keras.KerasTensor:
        kernel = np.zeros(shape, np.float32)
        outputs = shape[-1]
        for i in range(outputs):
            kernel[0, 0, i, i] = 1
            kernel[0, 0, outputs + i, i] = -1
        return keras.ops.convert_to_tensor(kernel, dtype=dtype)
