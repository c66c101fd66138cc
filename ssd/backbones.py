"""Feature extractors: a picture in, the map that the detector starts from out.

`vgg16` without a cut is SSD's own VGG16, layer by layer in the detector (Caffe's names, ceil
pooling); `vgg16_bn` is the same with batch normalisation behind every convolution, to be trained from
scratch. Every other extractor is a network of keras.applications cut at a named layer, wrapped as
one layer called `extractor` and joined to the detector by a bridge (`ssd.model`). Each extractor
owns its preprocessing, in `ssd.spec.PREPROCESSING`.
"""

from collections.abc import Callable

from ssd.backend import keras

layers = keras.layers

# Where an extractor is cut unless told otherwise; None: SSD's own VGG16, not wrapped.
DEFAULT_CUTS = {"vgg16": None, "vgg16_bn": None, "inception_v3": "mixed2"}
_APPLICATIONS = {
    "vgg16": keras.applications.VGG16,
    "inception_v3": keras.applications.InceptionV3,
}


def check_backbone(name: str) -> None:
    """Raise ValueError for an unknown extractor, listing the known ones."""
    if name not in DEFAULT_CUTS:
        raise ValueError(f"backbone must be one of {', '.join(DEFAULT_CUTS)}. Received: {name!r}")


def vgg16_front(x: keras.KerasTensor, conv: Callable) -> keras.KerasTensor:
    """conv1_1 to pool3 of SSD's VGG16: (B, 300, 300, 3) BGR minus mean -> (B, 38, 38, 256)."""
    x = conv(x, 64, "conv1_1")
    x = conv(x, 64, "conv1_2")
    x = pool(x, "pool1")
    x = conv(x, 128, "conv2_1")
    x = conv(x, 128, "conv2_2")
    x = pool(x, "pool2")
    x = conv(x, 256, "conv3_1")
    x = conv(x, 256, "conv3_2")
    x = conv(x, 256, "conv3_3")
    return pool(x, "pool3")


def cut_network(name: str, cut: str, image_size: int | tuple[int, int] = 300) -> keras.Model:
    """A network of keras.applications up to and including a layer, as one model `extractor`.

    Args:
        name: "vgg16" or "inception_v3".
        cut: name of the last layer kept, such as "mixed2" or "block3_pool".
        image_size: side of the input in pixels, or its height and width.
    Returns:
        (B, S, S, 3) preprocessed -> (B, h, w, c), random weights.
    Raises:
        ValueError: no such network, no such layer, or a layer that is no feature map.
    """
    check_backbone(name)
    if name not in _APPLICATIONS:
        raise ValueError(f"cut must be None for {name}, which is not cut. Received: {cut!r}")
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    whole = _APPLICATIONS[name](include_top=False, weights=None, input_shape=(height, width, 3))
    names = [layer.name for layer in whole.layers]
    if cut not in names:
        pools = [n for n in names if n.startswith("mixed") or n.endswith("_pool")]
        raise ValueError(f"cut must be a layer of {name}, such as {', '.join(pools)}. Received: {cut!r}")
    return Extractor(whole.input, whole.get_layer(cut).output, name="extractor")


@keras.saving.register_keras_serializable("ssd")
class Extractor(keras.Model):
    """A cut network whose batch normalisation keeps its statistics, trained or frozen.

    Batches of a detector are too small for statistics of their own, and Keras hands the training
    mode of the whole model down to every layer in it, whatever that was called with.
    """

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None, mask: object = None
    ) -> keras.KerasTensor:
        return super().call(inputs, training=False, mask=mask)


def plain_conv(
    x: keras.KerasTensor,
    channels: int,
    name: str,
    size: int = 3,
    layer: type = layers.Conv2D,
    **options: object,
) -> keras.KerasTensor:
    """A convolution with ReLU, "same" unless told otherwise."""
    options = {"padding": "same", "activation": "relu"} | options
    return layer(channels, size, name=name, **options)(x)


def normalised_conv(x: keras.KerasTensor, channels: int, name: str, size: int = 3, **options: object):
    """A convolution, batch normalisation `NAME_bn` and ReLU: trains from random weights too."""
    x = plain_conv(x, channels, name, size, **options | {"activation": None})
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def pool(x: keras.KerasTensor, name: str, size: int = 2, strides: int = 2) -> keras.KerasTensor:
    """Max pooling with Caffe's ceil rule, which is "same" here: 75 cells become 38."""
    return layers.MaxPooling2D(size, strides, padding="same", name=name)(x)
