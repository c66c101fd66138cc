"""The network: a picture in, `class_logits` (B, A, C + 1) and `box_deltas` (B, A, 4) out.

One plain function builds both generations with every extractor. Layer names are Caffe's; they are
the contract with weight files. The model always returns the two raw tensors, in the order of
`make_anchors(spec)`; column 0 of the logits is background.
"""

from collections.abc import Callable

from ssd.backbones import (
    DEFAULT_CUTS,
    check_backbone,
    cut_network,
    normalised_conv,
    plain_conv,
    pool,
    vgg16_front,
)
from ssd.backend import dilated_conv2d, keras
from ssd.spec import SSDSpec

layers, ops = keras.layers, keras.ops

# What the layers compute in; the names are those of Keras' policies.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
OUTPUTS = ("class_logits", "box_deltas", "fc8")  # float32 under any policy; the last of a classifier
BRIDGE = ("conv4_0", "conv4_1")  # the layers between a cut extractor and the detector


@keras.saving.register_keras_serializable("ssd")
class L2Normalize(layers.Layer):
    """Divide by the L2 norm over channels, times a learnable scale a channel.

    Args:
        scale: start value of the scale; SSD takes 20.
    Source: Liu et al. 2015, ParseNet, arXiv:1506.04579, section 3.3; epsilon as in Caffe.
    """

    def __init__(self, scale: float = 20.0, **options: object) -> None:
        super().__init__(**options)
        self.scale = scale

    def build(self, input_shape: tuple) -> None:
        start = keras.initializers.Constant(self.scale)
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer=start, name="gamma")

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        # conv4_3 reaches thousands: its squares need float32 under any dtype policy.
        x = ops.cast(inputs, "float32")
        norm = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-10)
        return ops.cast(x / norm * ops.cast(self.gamma, "float32"), self.compute_dtype)

    def get_config(self) -> dict:
        return super().get_config() | {"scale": self.scale}


@keras.saving.register_keras_serializable("ssd")
class DilatedConv2D(layers.Conv2D):
    """A dilated "same" convolution whose gradient is fast on a CPU."""

    def convolution_op(self, inputs: keras.KerasTensor, kernel: keras.KerasTensor) -> keras.KerasTensor:
        return dilated_conv2d(inputs, kernel, self.dilation_rate[0])


def build_model(
    spec: SSDSpec, num_classes: int, backbone: str = "vgg16", cut: str | None = None
) -> keras.Model:
    """Build SSD300 with random weights.

    Args:
        spec: anchors decide the heads.
        num_classes: without background.
        backbone: "vgg16", "inception_v3", or "vgg16_bn", which has batch normalisation behind every
            convolution but the heads'.
        cut: layer of keras.applications' network to cut at; None: "mixed2" for InceptionV3, and
            SSD's own VGG16, not cut, for VGG16.
    Returns:
        (B, 300, 300, 3) float32, preprocessed as the extractor wants it -> the two raw tensors,
        float32 under any dtype policy.
    Raises:
        ValueError: an unknown extractor or cut.
    """
    check_backbone(backbone)
    image = keras.Input((spec.image_size, spec.image_size, 3), name="image")
    cut = cut or DEFAULT_CUTS[backbone]
    conv = normalised_conv if backbone == "vgg16_bn" else plain_conv
    x = _bridge(image, backbone, cut) if cut else conv(vgg16_front(image, conv), 512, "conv4_1")
    sources = _detector(x, conv, v1=spec.feature_maps[-1].layer == "pool6")
    counts = [m.anchors_per_cell for m in spec.feature_maps]
    names = [m.layer for m in spec.feature_maps]
    # Confidence before location, as in the Keras files of the first generation.
    logits = _heads(sources, names, counts, "conf", num_classes + 1)
    deltas = _heads(sources, names, counts, "loc", 4)
    return SSDModel(image, [logits, deltas], name=spec.name)


def set_precision(model: keras.Model, precision: str) -> None:
    """Compute in "float32" or in "bfloat16"; weights and the two outputs are float32 either way.

    Each layer's own policy is set: the global one would reach only models that are built later, and
    is forgotten when Keras' session is cleared.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    policy = keras.dtype_policies.DTypePolicy(PRECISIONS[precision])
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            set_precision(layer, precision)
        elif layer.name not in OUTPUTS:
            layer.dtype_policy = policy


@keras.saving.register_keras_serializable("ssd")
class SSDModel(keras.Model):
    """A functional model that lists pool6 in front of the heads.

    Keras lists layers of one depth in the order in which it met them, and the file of the first
    generation was written by a model that met pool6 first; an index offset counts on its order.
    """

    @property
    def layers(self) -> list[keras.layers.Layer]:
        found = list(super().layers)
        names = [layer.name for layer in found]
        if "pool6" in names:
            pool6 = found.pop(names.index("pool6"))
            found.insert(names.index("conv4_3_norm_mbox_conf"), pool6)
        return found


def _bridge(image: keras.KerasTensor, backbone: str, cut: str) -> keras.KerasTensor:
    """The cut extractor and the bridge: (B, 300, 300, 3) -> conv4_1, (B, 38, 38, 512)."""
    x = cut_network(backbone, cut, image.shape[1])(image)
    size = x.shape[1] if len(x.shape) == 4 else 0
    if not 5 <= size <= 38:
        raise ValueError(
            "cut must leave a map of 5 to 38 cells, which the bridge makes 38. "
            f"Received: {cut!r} with shape {tuple(x.shape[1:])}"
        )
    strides = 38 // size
    kernel = 38 - (size - 1) * strides  # a valid transposed convolution then gives exactly 38
    x = layers.Conv2DTranspose(512, kernel, strides, activation="relu", name="conv4_0")(x)
    return plain_conv(x, 512, "conv4_1")


def _detector(x: keras.KerasTensor, conv: Callable, v1: bool) -> list[keras.KerasTensor]:
    """conv4_2 and everything after it: conv4_1 -> the six sources of boxes."""
    x = conv(x, 512, "conv4_2")
    conv4_3 = x = conv(x, 512, "conv4_3")
    x = pool(x, "pool4")
    x = conv(x, 512, "conv5_1")
    x = conv(x, 512, "conv5_2")
    x = conv(x, 512, "conv5_3")
    x = pool(x, "pool5", size=3, strides=1)
    x = _fc6(x, conv)
    fc7 = x = conv(x, 1024, "fc7", size=1)
    x = conv(x, 256, "conv6_1", size=1)
    conv6_2 = x = conv(x, 512, "conv6_2", strides=2)
    x = conv(x, 128, "conv7_1", size=1)
    # "same" would pad only below and to the right here; Caffe pads all round.
    x = layers.ZeroPadding2D(1, name="conv7_padding")(x)
    conv7_2 = x = conv(x, 256, "conv7_2", strides=2, padding="valid")
    x = conv(x, 128, "conv8_1", size=1)
    norm = L2Normalize(name="conv4_3_norm")(conv4_3)
    if v1:
        conv8_2 = x = conv(x, 256, "conv8_2", strides=2)
        last = layers.GlobalAveragePooling2D(name="pool6")(x)
    else:
        conv8_2 = x = conv(x, 256, "conv8_2", padding="valid")
        x = conv(x, 128, "conv9_1", size=1)
        last = conv(x, 256, "conv9_2", padding="valid")
    return [norm, fc7, conv6_2, conv7_2, conv8_2, last]


def _fc6(x: keras.KerasTensor, conv: Callable) -> keras.KerasTensor:
    # Unlike Glorot's, He's start keeps the scale of a ReLU network that has no weights here yet.
    options = {"dilation_rate": 6, "kernel_initializer": "he_normal", "layer": DilatedConv2D}
    return conv(x, 1024, "fc6", **options)


def _heads(sources: list, names: list[str], counts: list[int], kind: str, values: int) -> keras.KerasTensor:
    """(B, A, values): one 3x3 convolution a source, its channels ordered (anchor, value)."""
    # A small start: Glorot's gives a first confidence loss of 40 instead of 10.
    start = keras.initializers.RandomNormal(stddev=0.005)
    options = {"padding": "same", "kernel_initializer": start}
    flat = []
    for source, name, count in zip(sources, names, counts, strict=True):
        if len(source.shape) == 2:  # pool6 has no rows and columns left
            dense = layers.Dense(count * values, name=f"{name}_mbox_{kind}_flat", kernel_initializer=start)
            flat.append(dense(source))
            continue
        head = layers.Conv2D(count * values, 3, name=f"{name}_mbox_{kind}", **options)(source)
        flat.append(layers.Flatten(name=f"{name}_mbox_{kind}_flat")(head))
    x = layers.Concatenate(axis=1, name=f"mbox_{kind}")(flat)
    out = {"conf": "class_logits", "loc": "box_deltas"}[kind]
    return layers.Reshape((-1, values), dtype="float32", name=out)(x)
