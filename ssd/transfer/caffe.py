"""Caffe's `.caffemodel`: a protobuf message, read field by field over a memory map.

Message numbers: BVLC and weiliu89/caffe, src/caffe/proto/caffe.proto; shape rules:
src/caffe/blob.cpp. Layers of the present (V2), of 2014 (V1) and of 2013 (V0) are understood.
"""

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ssd.transfer.names import canonical_name
from ssd.transfer.protobuf import fields, varint
from ssd.transfer.weightfile import Layer, Tensor, WeightFile, check_total, make_tensor

_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
_MAX_LAYERS = 5_000
_MAX_HEAD = 1_000  # fields of a network in front of its layers: a name, and its inputs


@dataclass(frozen=True)
class _Blob:
    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[tuple[int, int], ...]  # where its numbers lie: start, end

    @property
    def count(self) -> int:
        return sum(end - start for start, end in self.pieces) // np.dtype(self.dtype).itemsize


def is_caffe(data: np.ndarray) -> bool:
    """Whether the bytes begin as a network that holds a layer."""
    try:
        for number, wire, start, end in islice(fields(data, 0, len(data)), _MAX_HEAD):
            if number in (2, 100) and wire == 2:
                next(fields(data, start, end))
                return True
    except (ValueError, StopIteration):
        pass
    return False


def read_caffe(data: np.ndarray, path: Path) -> WeightFile:
    """Every layer of a network, with or without blobs, in the order of the file.

    Args:
        data: the bytes of the file, uint8.
        path: names it in errors.
    Raises:
        ValueError: the message is damaged.
    """
    layers, version = [], set()
    try:
        for number, wire, start, end in fields(data, 0, len(data)):
            if number not in (2, 100) or wire != 2:
                continue
            version.add("V1" if number == 2 else "V2")
            layers.append(_layer(data, start, end, number == 2, len(layers)))
            if len(layers) > _MAX_LAYERS:
                raise ValueError(f"a network must have at most {_MAX_LAYERS} layers")
    except ValueError as error:
        raise ValueError(f"a Caffe file must be whole. Received: {path} ({error})") from None
    check_total(layers, path)
    kind = f"Caffe ({' and '.join(sorted(version))} layers)"
    return WeightFile(path, kind, tuple(layers), flatten="CHW")


def _layer(data: np.ndarray, start: int, end: int, v1: bool, index: int) -> Layer:
    name, kind, blobs = "", "", []
    if v1:
        for number, wire, first, last in fields(data, start, end):
            if number == 1 and wire == 2:  # a V0 layer inside
                name, kind, inner = _v0(data, first, last)
                blobs += inner
            elif number == 4:
                name = _text(data, first, last)
            elif number == 5 and wire == 0:
                kind = _V1_TYPES.get(first, str(first))
            elif number == 6:
                blobs.append(_blob(data, first, last))
    else:
        for number, _, first, last in fields(data, start, end):
            if number == 1:
                name = _text(data, first, last)
            elif number == 2:
                kind = _text(data, first, last)
            elif number == 7:
                blobs.append(_blob(data, first, last))
    if len(blobs) == 1 and math.prod(blobs[0].shape) == blobs[0].shape[-1]:
        kind = "Normalize"  # V1 has no number for it
    tensors = tuple(_tensor(data, blob, i, name, kind) for i, blob in enumerate(blobs))
    return Layer(index, name, tensors, canonical_name(name))


def _v0(data: np.ndarray, start: int, end: int) -> tuple[str, str, list[_Blob]]:
    name, kind, blobs = "", "", []
    for number, wire, first, last in fields(data, start, end):
        if number == 1 and wire == 2:
            name = _text(data, first, last)
        elif number == 2 and wire == 2:
            kind = _text(data, first, last)
        elif number == 50:
            blobs.append(_blob(data, first, last))
    return name, kind, blobs


def _tensor(data: np.ndarray, blob: _Blob, i: int, layer: str, kind: str) -> Tensor:
    name, shape = f"{layer}[{i}]", blob.shape
    if math.prod(shape) != blob.count:
        raise ValueError(f"a blob must hold as many numbers as its shape. Received: {name} of layer "
                         f"{layer} with shape {shape} and {blob.count:,} numbers")  # fmt: skip
    role, layout = ("kernel", "OIHW") if i == 0 else ("bias", "C")
    if kind.lower() == "normalize":
        role, layout = "scale", "C"
    elif i > 1:
        raise ValueError(f"a layer must have one or two blobs. Received: {name}, type {kind!r}")
    if layout == "C" or kind.lower() in ("innerproduct", "inner_product"):
        # The old shapes always have four axes: drop the leading ones.
        wanted = 1 if layout == "C" else 2
        while len(shape) > wanted and shape[0] == 1:
            shape = shape[1:]
        layout = "C" if wanted == 1 else "OI"

    def read() -> np.ndarray:
        parts = [data[start:end].view(blob.dtype) for start, end in blob.pieces]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(shape)

    return make_tensor(name, role, shape, np.dtype(blob.dtype).name, layout, read)


def _blob(data: np.ndarray, start: int, end: int) -> _Blob:
    old, shape, floats, doubles = {}, (), [], []
    for number, wire, first, last in fields(data, start, end):
        if number in (1, 2, 3, 4) and wire == 0:
            old[number] = first
        elif number == 7:
            shape = _shape(data, first, last)
        elif number == 5 and wire in (2, 5):
            _add(floats, first, last)
        elif number == 8 and wire in (1, 2):
            _add(doubles, first, last)
    if old:
        shape = tuple(old.get(n, 0) for n in (1, 2, 3, 4))
    if not shape:
        raise ValueError("a blob must have a shape. Received: none")
    pieces, dtype = (doubles, "<f8") if doubles else (floats, "<f4")
    width = np.dtype(dtype).itemsize
    if any((last - first) % width for first, last in pieces):
        raise ValueError(f"a blob must hold whole numbers of {width} bytes. Received: shape {shape}")
    return _Blob(shape, dtype, tuple(pieces))


def _add(pieces: list[tuple[int, int]], start: int, end: int) -> None:
    """Numbers that were not packed lie in many short pieces, five bytes apart; packed ones in one."""
    if len(pieces) > 1_000_000:
        raise ValueError("numbers of a blob must be packed. Received: over a million single ones")
    pieces.append((start, end))


def _shape(data: np.ndarray, start: int, end: int) -> tuple[int, ...]:
    dims = []
    for number, wire, first, last in fields(data, start, end):
        if number == 1 and wire == 0:
            dims.append(first)
        elif number == 1 and wire == 2:
            while first < last:
                value, first = varint(data, first, last)
                dims.append(value)
    if len(dims) > 8:
        raise ValueError(f"a blob must have at most 8 axes. Received: {len(dims)}")
    return tuple(dims)


def _text(data: np.ndarray, start: int, end: int) -> str:
    if end - start > 1000:
        raise ValueError(f"a name must have at most 1,000 bytes. Received: {end - start:,}")
    return data[start:end].tobytes().decode("utf-8", "replace")
