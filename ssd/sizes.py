"""Sizes of kernels: layers of random weights brought to those of what goes through them.

Adam's steps have one size whatever they change, so a kernel of another size than He's start gets a factor
of the learning rate.
"""

import numpy as np

from ssd.backend import keras
from ssd.batches import Views
from ssd.distribute import Devices
from ssd.features import leading_to
from ssd.model import BRIDGE


def scale_fc6(model: keras.Model, views: Views, devices: Devices) -> dict[str, float]:
    """Bring the start of fc6 to the size of what it is fed; the factors of its learning rate.

    ImageNet's pool5 is an order larger than the unit scale that He's start assumes. A kernel
    divided by it, with a learning rate divided by it, trains as if the input had been scaled.
    """
    fc6 = model.get_layer("fc6")
    feed = keras.Model(model.input, fc6.input)
    pictures = np.stack([views(i)[0] for i in range(min(8, len(views.samples)))])
    size = devices.from_chief(lambda: root_mean_square(feed.predict_on_batch(pictures)))
    kernel, bias = fc6.get_weights()
    fc6.set_weights([kernel / size, bias])
    return {"fc6": 1 / size}


def scale_bridge(
    model: keras.Model, new: set[str], wanted: dict[str, float], views: Views
) -> dict[str, float]:
    """Bring random bridging layers to the sizes of what they are fed and of what they must give.

    Maps of ImageNet's VGG16 are two orders larger than what a random start gives. A kernel times that,
    with a learning rate times that, trains as if they had been divided by it.

    Args:
        model: the detector; the kernels of new bridging layers are changed.
        new: layers whose weights are random.
        wanted: layer -> root mean square of what it must give; others than bridging layers stay as they are.
        views: of training; a few are measured.
    Returns:
        layer -> factor of its learning rate.
    """
    plain = views.plain()
    pictures = np.stack([plain(i)[0] for i in range(min(8, len(views.samples)))])
    first, factors = BRIDGE[0], {}
    if first in new:
        fed = keras.Model(model.input, model.get_layer(first).input)
        factors[first] = 1 / root_mean_square(fed.predict_on_batch(pictures))
        _multiply(model.get_layer(first), factors[first])
    for layer, size in wanted.items():
        if layer in BRIDGE and layer in new:
            target, _ = leading_to(model, layer)
            factor = size / root_mean_square(keras.Model(model.input, target).predict_on_batch(pictures))
            factors[layer] = factors.get(layer, 1.0) * factor
            _multiply(model.get_layer(layer), factor)
    return factors


def factors_of_sizes(model: keras.Model) -> dict[str, float]:
    """Factors of the learning rate of layers that have their weights: how small or large they are.

    Adam's steps have one size whatever they change: an fc6 that `scale_fc6` made small would be gone
    after a few of them, and a bridge that learned from a hint, whose maps are large, would stay as it is.
    """
    layers = {layer.name: layer for layer in model.layers if layer.name in ("fc6", *BRIDGE)}
    sizes = {name: _size(layer) for name, layer in layers.items()}
    unusual = {n: size for n, size in sizes.items() if n in BRIDGE and not 1 / _USUAL < size < _USUAL}
    return unusual | ({"fc6": min(1.0, sizes["fc6"])} if "fc6" in sizes else {})


_USUAL = 2.5  # times He's start, or a part of it: a bridge that is trained on boxes alone stays within


def _size(layer: keras.layers.Layer) -> float:
    """Root mean square of a kernel, in units of He's start."""
    kernel = layer.get_weights()[0]
    transposed = isinstance(layer, keras.layers.Conv2DTranspose)  # its inputs are the last axis
    inputs = kernel.size // kernel.shape[-2 if transposed else -1]
    return float(np.sqrt(np.mean(np.square(kernel)) * inputs / 2))


def root_mean_square(values: np.ndarray) -> float:
    """In float32, whatever the numbers are stored as."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float32))))


def _multiply(layer: keras.layers.Layer, factor: float) -> None:
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * factor, bias])  # a bias that is not trained yet is zero
