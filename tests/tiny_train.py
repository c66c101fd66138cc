"""`ssd train` with a tiny network in SSD300's place, for tests that start processes of their own.

Run: python tests/tiny_train.py DATA --out RUN ... as `ssd train`.
"""

import sys

from ssd.backend import keras
from ssd.model import _heads
from ssd.spec import SSDSpec


def tiny_model(spec: SSDSpec, num_classes: int, backbone: str = "vgg16", cut: str | None = None):
    """SSD300's anchors and classes behind seven convolutions of a few channels."""
    image = keras.Input((300, 300, 3), name="image")
    x = keras.layers.AveragePooling2D(8, padding="same", name="pool")(image)
    sources, names = [], [m.layer for m in spec.feature_maps]
    layers = ("conv4_3", "fc6", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
    for name, size in zip(layers, (38, 19, 10, 5, 3, 1), strict=True):
        strides, padding = (1, "same") if size == 38 else (2, "same") if size > 1 else (1, "valid")
        x = keras.layers.Conv2D(6, 3, strides, padding, activation="relu", name=name)(x)
        sources.append(x)
    counts = [m.anchors_per_cell for m in spec.feature_maps]
    outputs = [_heads(sources, names, counts, *row) for row in (("conf", num_classes + 1), ("loc", 4))]
    return keras.Model(image, outputs, name=spec.name)


if __name__ == "__main__":
    import ssd.start
    from ssd.cli import main

    ssd.start.build_model = tiny_model
    main(["train", *sys.argv[1:]])
