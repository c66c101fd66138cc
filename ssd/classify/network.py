"""The classifier: input stage, extractor, top. One number a class comes out, before softmax or sigmoid.

VGG16 is written out in Caffe's names (conv1_1 ... conv5_3, fc6, fc7, fc8), which are the detector's; an
extractor that is a cut network of keras.applications is one layer called `extractor`, as there.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from ssd.backbones import cut_network, normalised_conv, plain_conv, pool, vgg16_front
from ssd.backend import keras
from ssd.classify.input_stage import PREFIX, add_input_stage
from ssd.classify.spec import HIDDEN, OUTPUT, Network, parse_top

layers = keras.layers


def build_classifier(network: Network, outputs: int) -> keras.Model:
    """Build a classifier with random weights.

    Args:
        network: what it is made of.
        outputs: numbers that come out; one for two classes with sigmoid.
    Returns:
        (B, H, W, 3) float32, preprocessed -> (B, outputs) float32 logits.
    Raises:
        ValueError: a cut that is no map of the extractor, or pictures too small for it.
    """
    image = keras.Input((*network.image_size, 3), name="image")
    x = add_input_stage(image, network.input_stage, network.preprocessing)
    x = _extractor(image, x, network)
    pooling, units = parse_top(network.top)
    x = (layers.Flatten if pooling == "flatten" else layers.GlobalAveragePooling2D)(name=pooling)(x)
    for place, (name, count) in enumerate(zip(HIDDEN, units, strict=False)):
        x = layers.Dense(count, activation="relu", kernel_initializer="he_normal", name=name)(x)
        x = layers.Dropout(network.dropout, seed=place, name=f"{name}_dropout")(x)
    x = layers.Dense(outputs, dtype="float32", name=OUTPUT)(x)
    return keras.Model(image, x, name=f"{network.backbone}_classifier")


def extractor_end(model: keras.Model) -> keras.KerasTensor:
    """The map at the end of the extractor of a classifier."""
    return next(layer.input for layer in model.layers if layer.name in ("flatten", "gap"))


def split_top(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The part up to the end of the extractor, and the top behind it; both share the layers of the model."""
    end = extractor_end(model)
    x = inputs = keras.Input(end.shape[1:], dtype="float32")
    names = [layer.name for layer in model.layers]
    first = next(i for i, name in enumerate(names) if name in ("flatten", "gap"))
    for layer in model.layers[first:]:
        x = layer(x)
    return keras.Model(model.input, end), keras.Model(inputs, x)


def layer_groups(model: keras.Model) -> dict[str, set[str]]:
    """The words of a stage of a classifier: `top`, `input`, and `extractor` for what is between."""
    names = {layer.name for layer in model.layers if layer.weights}
    top = names & {*HIDDEN, OUTPUT}
    inputs = {name for name in names if name.startswith(PREFIX)}
    return {"top": top, "input": inputs, "extractor": names - top - inputs}


def probabilities(logits: np.ndarray) -> np.ndarray:
    """(N, C) softmax of (N, C) logits; of (N, 1) the sigmoid and its rest, for two classes."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _extractor(image: keras.KerasTensor, x: keras.KerasTensor, network: Network) -> keras.KerasTensor:
    if network.backbone == "inception_v3" or network.last.startswith("block"):
        map_ = cut_network(network.backbone, network.last, tuple(x.shape[1:3]))(x)
    else:
        conv = normalised_conv if network.backbone == "vgg16_bn" else plain_conv
        # Glorot's start, Keras' own, lets 13 layers of ReLU shrink a picture to nothing.
        whole = keras.Model(image, _vgg16(x, partial(conv, kernel_initializer="he_normal")))
        names = [layer.name for layer in whole.layers]
        last = f"{network.last}_relu" if f"{network.last}_relu" in names else network.last
        known = [name for name in names if name.startswith(("conv", "pool")) and "_bn" not in name]
        if last not in known:
            raise ValueError(f"cut must be one of {', '.join(known)}. Received: {network.last!r}")
        map_ = whole.get_layer(last).output
    if len(map_.shape) != 4:
        raise ValueError(f"cut must be a layer with a map. Received: {network.last!r}")
    return map_


def _vgg16(x: keras.KerasTensor, conv: Callable) -> keras.KerasTensor:
    """conv1_1 to pool5 of VGG16: (B, H, W, 3) -> (B, H / 32, W / 32, 512), rounded up."""
    x = vgg16_front(x, conv)
    x = conv(x, 512, "conv4_1")
    x = conv(x, 512, "conv4_2")
    x = conv(x, 512, "conv4_3")
    x = pool(x, "pool4")
    x = conv(x, 512, "conv5_1")
    x = conv(x, 512, "conv5_2")
    x = conv(x, 512, "conv5_3")
    return pool(x, "pool5")
