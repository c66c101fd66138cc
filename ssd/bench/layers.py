"""SSD300 with VGG16 as rows, for the runtimes that `ssd bench` holds the program against.

Source: Liu et al. 2016, arXiv:1512.02325; weiliu89/caffe, examples/ssd/ssd_pascal.py.
"""

from typing import NamedTuple

import numpy as np

from ssd.spec import SSDSpec


class Conv(NamedTuple):
    """A convolution with ReLU."""

    name: str
    channels: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1


class Pool(NamedTuple):
    """Max pooling that rounds the size up."""

    name: str
    size: int = 2
    stride: int = 2
    padding: int = 0


TRUNK = (
    *(Conv("conv1_1", 64), Conv("conv1_2", 64), Pool("pool1")),
    *(Conv("conv2_1", 128), Conv("conv2_2", 128), Pool("pool2")),
    *(Conv("conv3_1", 256), Conv("conv3_2", 256), Conv("conv3_3", 256), Pool("pool3")),
    *(Conv("conv4_1", 512), Conv("conv4_2", 512), Conv("conv4_3", 512), Pool("pool4")),
    *(Conv("conv5_1", 512), Conv("conv5_2", 512), Conv("conv5_3", 512), Pool("pool5", 3, 1, 1)),
    *(Conv("fc6", 1024, padding=6, dilation=6), Conv("fc7", 1024, 1, padding=0)),
    *(Conv("conv6_1", 256, 1, padding=0), Conv("conv6_2", 512, stride=2)),
    *(Conv("conv7_1", 128, 1, padding=0), Conv("conv7_2", 256, stride=2)),
    *(Conv("conv8_1", 128, 1, padding=0), Conv("conv8_2", 256, padding=0)),
    *(Conv("conv9_1", 128, 1, padding=0), Conv("conv9_2", 256, padding=0)),
)
CONVS = tuple(row for row in TRUNK if isinstance(row, Conv))
NORM = "conv4_3_norm"  # conv4_3 divided by its length over channels, times a scale a channel
SOURCES = ("conv4_3", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
EPSILON = 1e-10  # under the root of the length, as in Caffe

# Name -> kernel (out, in, rows, columns) and bias (out,); NORM -> its scale alone.
Arrays = dict[str, tuple[np.ndarray, ...]]


def head(source: str, kind: str) -> str:
    """The name of a head; `kind` is "conf" or "loc"."""
    return f"{NORM if source == 'conv4_3' else source}_mbox_{kind}"


def shapes(spec: SSDSpec, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the kernel, and of the scale of NORM.

    Args:
        spec: anchors decide the heads.
        num_classes: without background.
    """
    found, channels, width = {}, 3, {}
    for row in CONVS:
        found[row.name] = (row.channels, channels, row.size, row.size)
        channels = width[row.name] = row.channels
    found[NORM] = (width["conv4_3"],)
    for source, feature_map in zip(SOURCES, spec.feature_maps, strict=True):
        for kind, values in (("conf", num_classes + 1), ("loc", 4)):
            out = feature_map.anchors_per_cell * values
            found[head(source, kind)] = (out, width[source], 3, 3)
    return found


def random_arrays(spec: SSDSpec, num_classes: int, seed: int = 0) -> Arrays:
    """He's start: values keep their scale through the network, and none comes near the denormals."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, shape in shapes(spec, num_classes).items():
        if name == NORM:
            arrays[name] = (np.full(shape, 20, np.float32),)
            continue
        scale = np.sqrt(2 / np.prod(shape[1:]))
        arrays[name] = (rng.standard_normal(shape, np.float32) * np.float32(scale), np.zeros(shape[0], "f4"))
    return arrays
