"""Makers of weight files as the world has them: random arrays in the real names, layouts and orders.

Arrays are canonical: Caffe's layer names in the order of Caffe's net -> {"kernel": HWIO, "bias"} of
float32, {"scale"} for conv4_3_norm. The network they stand for is fed BGR; location channels are
(dx, dy, dw, dh) an anchor, confidence channels start with background. Each `write_` function turns
them into one format; those of HDF5 and PyTorch
are in `weight_files_hdf5` and `weight_files_torch`. No maker uses the program itself.
"""

from pathlib import Path

import numpy as np

Arrays = dict[str, dict[str, np.ndarray]]

VGG = [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, n + 1)]
SOURCES = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
_VGG_BLOCKS = {"1": 1, "2": 2, "3": 4, "4": 8, "5": 8}  # channels, in widths of 64
# Name, kernel size, channels in and out: what SSD puts behind VGG16's convolutions.
_FC = [("fc6", 3, 512, 1024), ("fc7", 1, 1024, 1024)]
EXTRAS = [
    ("conv6_1", 1, 1024, 256),
    ("conv6_2", 3, 256, 512),
    ("conv7_1", 1, 512, 128),
    ("conv7_2", 3, 128, 256),
    ("conv8_1", 1, 256, 128),
    ("conv8_2", 3, 128, 256),
    ("conv9_1", 1, 256, 128),
    ("conv9_2", 3, 128, 256),
]
_HEAD_INPUTS = (512, 1024, 512, 256, 256, 256)
# Measured on a picture of noise: how large each source is; heads divided by it give outputs near 1.
_SOURCE_RMS = (1, 150, 150, 150, 130, 90)


def random_arrays(v1: bool, outputs: int = 21, seed: int = 0) -> Arrays:
    """All arrays of SSD300.

    Args:
        v1: the first generation (7,308 anchors, pool6) instead of the second (8,732).
        outputs: classes with background.
        seed: another seed, other numbers.
    """
    rng = np.random.default_rng(seed)
    rows = _vgg_rows(64) + _FC + (EXTRAS[:-2] if v1 else EXTRAS)
    arrays = {name: _conv(rng, size, i, o) for name, size, i, o in rows}
    arrays["conv4_3_norm"] = {"scale": rng.normal(20, 3, 512).astype(np.float32)}
    counts = (3, 6, 6, 6, 6, 6) if v1 else (4, 6, 6, 6, 4, 4)
    for source, count, channels, rms in zip(SOURCES, counts, _HEAD_INPUTS, _SOURCE_RMS, strict=True):
        for kind, values in (("loc", 4), ("conf", outputs)):
            std = 1 / np.sqrt(9 * channels) / rms
            head = _conv(rng, 3, channels, count * values, std, bias=0.3)
            name = f"{source}_mbox_{kind}"
            if v1 and source == "conv9_2":  # a dense layer on the pooled 256 numbers
                name, head["kernel"] = f"pool6_mbox_{kind}_flat", 3 * head["kernel"][1, 1]
            arrays[name] = head
    return arrays


def random_vgg16(seed: int = 0, top: bool = True, width: int = 64) -> Arrays:
    """The classifier VGG16; `top` adds fc6 as (7, 7, 512, 4096) and the dense fc7 and fc8.

    `width` is the number of channels of block 1; less than the true 64 makes a small look-alike.
    """
    rng = np.random.default_rng(seed)
    arrays = {name: _conv(rng, size, i, o) for name, size, i, o in _vgg_rows(width)}
    if top:
        arrays["fc6"] = _conv(rng, 7, 8 * width, 64 * width)
        for name, channels in (("fc7", 64 * width), ("fc8", 1000)):
            dense = _conv(rng, 1, 64 * width, channels)
            arrays[name] = dense | {"kernel": dense["kernel"][0, 0]}
    return arrays


def random_reduced_vgg16(seed: int = 0) -> Arrays:
    """The reduced VGG16 that SSD starts from: fc6 and fc7 as SSD has them, fc8 1x1."""
    rng = np.random.default_rng(seed)
    rows = [*_vgg_rows(64), *_FC, ("fc8", 1, 1024, 1000)]
    return {name: _conv(rng, size, i, o) for name, size, i, o in rows}


def _vgg_rows(width: int) -> list[tuple[str, int, int, int]]:
    channels = [_VGG_BLOCKS[name[4]] * width for name in VGG]
    return [(name, 3, i, o) for name, i, o in zip(VGG, [3, *channels], channels, strict=False)]


def _conv(rng, size: int, inputs: int, outputs: int, std: float | None = None, bias: float = 5.0) -> dict:
    """He's scale keeps a picture's hundreds through the net; biases of 5 then still count."""
    std = std or np.sqrt(2 / (size * size * inputs))
    kernel = rng.standard_normal((size, size, inputs, outputs), dtype=np.float32) * np.float32(std)
    return {"kernel": kernel, "bias": rng.normal(0, bias, outputs).astype(np.float32)}


def rgb_first(arrays: Arrays) -> Arrays:
    """The same arrays for a network that is fed RGB: conv1_1's inputs in the other order."""
    first = arrays["conv1_1"]
    return arrays | {"conv1_1": first | {"kernel": first["kernel"][:, :, ::-1]}}


def renamed(arrays: Arrays, names: dict[str, str], weight: str, bias: str, oihw: bool = True) -> dict:
    """File name -> array, for the layers of `names` that exist; the norm's name there is the whole name."""
    out = {}
    for layer, name in names.items():
        if layer not in arrays:
            continue
        if "scale" in arrays[layer]:
            out[name] = arrays[layer]["scale"]
            continue
        kernel = arrays[layer]["kernel"]
        out[name + weight] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1) if oihw else kernel)
        out[name + bias] = arrays[layer]["bias"]
    return out


# ---- Caffe

_POOLS = {"conv1_2": "pool1", "conv2_2": "pool2", "conv3_3": "pool3", "conv4_3": "pool4", "conv5_3": "pool5"}
_V1_TYPES = {"Concat": 3, "Convolution": 4, "Data": 5, "InnerProduct": 14, "Pooling": 17, "ReLU": 18}


def write_caffe(
    path: str | Path, arrays: Arrays, v1_layers: bool = False, legacy_shape: bool = False, seed: int = 0
) -> None:
    """A .caffemodel of any arrays here: SSD of both generations, the reduced VGG16, VGG16.

    Args:
        v1_layers: `layers` with numbered types (V1LayerParameter) instead of `layer`.
        legacy_shape: blobs with num, channels, height and width instead of a shape.
        seed: of the eight taps of pool6's 3x3 heads that never see a pixel.
    """
    with open(path, "wb") as file:
        file.write(_field(1, b"VGG_VOC0712_SSD_300x300_train"))
        for name, kind, blobs in _caffe_layers(arrays, np.random.default_rng(seed)):
            packed = [_blob(blob, legacy_shape) for blob in blobs]
            if v1_layers:  # bottom, top, name, type, blobs, learning rates
                head = _field(2, b"x") + _field(3, name.encode()) + _field(4, name.encode())
                body = _field(5, _V1_TYPES.get(kind, 0)) + b"".join(_field(6, blob) for blob in packed)
                rates = _varint(7 << 3 | 5) + np.float32(1).tobytes()
                file.write(_field(2, head + body + rates * len(packed)))
            else:  # name, type, bottom, top, parameters, blobs, phase, settings of a convolution
                head = _field(1, name.encode()) + _field(2, kind.encode()) + _field(3, b"x")
                parameters = _field(6, _varint(3 << 3 | 5) + np.float32(1).tobytes()) * len(packed)
                body = _field(4, name.encode()) + parameters + b"".join(_field(7, blob) for blob in packed)
                file.write(_field(100, head + body + _field(10, 0) + _field(106, _field(1, 64))))


def _caffe_layers(arrays: Arrays, rng) -> list[tuple[str, str, list[np.ndarray]]]:
    """Name, type and blobs of every layer of the net, in its order."""
    layers = [("data", "Data", [])]
    for name, values in arrays.items():
        if "scale" in values:
            layers.append((name, "Normalize", [values["scale"]]))
            continue
        head = name.removesuffix("_flat")
        kind, kernel = _caffe_kernel(name, values["kernel"], rng)
        layers.append((head, kind, [kernel, values["bias"]]))
        if "_mbox_" not in name:
            layers.append((f"{name}_relu", "ReLU", []))
            layers += [(_POOLS[name], "Pooling", [])] if name in _POOLS else []
            continue
        layers += [(f"{head}_perm", "Permute", []), (f"{head}_flat", "Flatten", [])]
        if head.endswith("_conf"):
            layers.append((f"{head[:-4]}priorbox", "PriorBox", []))
    ends = ("mbox_loc", "Concat"), ("mbox_conf", "Concat"), ("mbox_loss", "MultiBoxLoss")
    return layers + [(*end, []) for end in ends if "conv4_3_norm" in arrays]


def _caffe_kernel(name: str, kernel: np.ndarray, rng) -> tuple[str, np.ndarray]:
    """Type of the layer and its kernel; pool6's dense kernel is the centre of a 3x3 convolution."""
    if name.startswith("pool6"):
        whole = rng.standard_normal((kernel.shape[1], kernel.shape[0], 3, 3), dtype=np.float32)
        whole[:, :, 1, 1] = kernel.T
        return "Convolution", whole
    if kernel.ndim == 2:
        return "InnerProduct", kernel.T
    kernel = kernel.transpose(3, 2, 0, 1)
    if kernel.shape[2] == 7:  # VGG16's fc6 is a matrix over (channel, row, column)
        return "InnerProduct", kernel.reshape(len(kernel), -1)
    return "Convolution", kernel


def _blob(array: np.ndarray, legacy_shape: bool) -> bytes:
    data = _field(5, np.ascontiguousarray(array, "<f4").tobytes())
    if legacy_shape:
        four = (1, 1, 1, 1, *array.shape)[-4:]
        return b"".join(_field(i, n) for i, n in enumerate(four, start=1)) + data
    return data + _field(7, _field(1, b"".join(_varint(n) for n in array.shape)))


def _field(number: int, value: int | bytes) -> bytes:
    """One protobuf field: a varint, or bytes behind their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


# ---- Chainer and TensorFlow: the second generation, Chainer the reduced VGG16 too


def write_chainer(path: str | Path, arrays: Arrays, compressed: bool = False, seed: int = 0) -> None:
    """ChainerCV's npz: RGB, locations (dy, dx, dh, dw), entries in no order; real ones are compressed."""
    names = {name: f"extractor/{name}" for name in VGG} | {"fc6": "extractor/conv6", "fc7": "extractor/conv7"}
    names |= {f"conv{b}_{i}": f"extractor/conv{b + 2}_{i}" for b in (6, 7, 8, 9) for i in (1, 2)}
    names |= {"conv4_3_norm": "extractor/norm4/scale"}
    names |= head_names("loc", "multibox/loc/") | head_names("conf", "multibox/conf/")
    out = renamed(rgb_first(arrays), names, "/W", "/b")
    for name in out:
        if "/loc/" in name:
            out[name] = out[name][np.arange(len(out[name])).reshape(-1, 4)[:, [1, 0, 3, 2]].ravel()]
    shuffled = np.random.default_rng(seed).permutation(list(out))
    save = np.savez_compressed if compressed else np.savez
    with open(path, "wb") as file:  # a path would get the suffix .npz
        save(file, **{name: out[name] for name in shuffled})


def write_tf_checkpoint(prefix: str | Path, arrays: Arrays) -> None:
    """TF-slim's `ssd_300_vgg.ckpt`, an index and a data file: RGB, HWIO, the step and some momentum."""
    import tensorflow as tf

    names = {name: f"conv{name[4]}/{name}" for name in VGG} | {"fc6": "conv6", "fc7": "conv7"}
    names |= {f"conv{b}_{i}": f"block{b + 2}/conv{n}x{n}" for b in (6, 7, 8, 9) for i, n in ((1, 1), (2, 3))}
    names |= {"conv4_3_norm": "block4_box/L2Normalization/gamma"}
    for block, source in zip((4, 7, 8, 9, 10, 11), SOURCES, strict=True):
        names |= {f"{source}_mbox_loc": f"block{block}_box/conv_loc"}
        names |= {f"{source}_mbox_conf": f"block{block}_box/conv_cls"}
    names = {layer: f"ssd_300_vgg/{name}" for layer, name in names.items()}
    out = renamed(rgb_first(arrays), names, "/weights", "/biases", oihw=False)
    out |= {f"{name}/Momentum": np.ones_like(out[name]) for name in list(out)[:4]}
    out |= {"global_step": np.int64(120000)}
    tensors = [tf.constant(value) for value in out.values()]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=list(out), shape_and_slices=[""] * len(out), tensors=tensors
    )


def head_names(kind: str, prefix: str) -> dict[str, str]:
    return {f"{source}_mbox_{kind}": f"{prefix}{i}" for i, source in enumerate(SOURCES)}
