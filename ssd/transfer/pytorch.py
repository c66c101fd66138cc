"""PyTorch's `.pth`: the zip of 1.6 and later, and the stream of pickles before it.

Containers: pytorch/pytorch, torch/serialization.py. No code of the file runs (`ssd.transfer.pickled`)
and PyTorch is not needed.
"""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssd.transfer.names import canonical_name
from ssd.transfer.pickled import Call, read_pickle
from ssd.transfer.weightfile import ZIP_DAMAGE, Layer, Tensor, WeightFile, check_total, make_tensor

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the old stream
_TYPES = {"Float": "<f4", "Half": "<f2", "Double": "<f8", "BFloat16": "bfloat16", "Long": "<i8", "Int": "<i4",
          "Short": "<i2", "Byte": "|u1", "Char": "|i1", "Bool": "|b1"}  # fmt: skip
_ROLES = {"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
_MAX_PICKLE = 64 << 20


@dataclass(frozen=True)
class _Stored:
    """A tensor as the pickle describes it: numbers of a storage, by offset, shape and strides."""

    dtype: str
    key: str
    count: int  # numbers of the whole storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_torch_zip(archive: zipfile.ZipFile) -> bool:
    """Whether this reader knows the archive."""
    return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())


def read_torch_zip(archive: zipfile.ZipFile, path: Path) -> WeightFile:
    """The state dictionary of a zip file.

    Raises:
        ValueError: it is damaged, would run code, or holds no state dictionary.
    """
    pickled = next(n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl"))
    root = pickled.removesuffix("data.pkl")
    if archive.getinfo(pickled).file_size > _MAX_PICKLE:
        raise ValueError(f"data.pkl must have at most {_MAX_PICKLE:,} bytes. Received: {path}")
    try:
        if f"{root}byteorder" in archive.namelist():
            with archive.open(f"{root}byteorder") as member:
                if member.read(9) != b"little":
                    raise ValueError(f"a PyTorch file must be little-endian. Received: {path}")
        with archive.open(pickled) as member:
            stored = _state(read_pickle(member), path)
    except ZIP_DAMAGE as error:
        raise ValueError(f"a PyTorch file must be whole. Received: {path} ({error})") from None

    def data(name: str, own: _Stored) -> bytes:
        try:
            info = archive.getinfo(f"{root}data/{own.key}")
            if info.file_size > own.count * _width(own.dtype):
                raise ValueError("more bytes than numbers")
            with archive.open(info) as member:
                return member.read(info.file_size)
        except (ValueError, *ZIP_DAMAGE) as error:
            raise ValueError(f"tensor {name} must be whole. Received: {error}") from None

    for name, own in stored.items():
        member = f"{root}data/{own.key}"
        size = archive.getinfo(member).file_size if member in archive.namelist() else 0
        _check_storage(name, own, size)
    return _weight_file(stored, data, path, "PyTorch zip")


def read_torch_stream(file: BinaryIO, path: Path) -> WeightFile:
    """The state dictionary of the old stream: pickles in a row, then the storages.

    Raises:
        ValueError: as `read_torch_zip`.
    """
    if read_pickle(file) != MAGIC:
        raise ValueError(f"a PyTorch file must begin with its number. Received: {path}")
    if read_pickle(file) != 1001:
        raise ValueError(f"a PyTorch stream must have version 1001. Received: {path}")
    system, references = read_pickle(file), []
    if not isinstance(system, dict) or not system.get("little_endian", False):
        raise ValueError(f"a PyTorch file must be little-endian. Received: {path}")
    stored = _state(read_pickle(file, references), path)
    keys = read_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"a PyTorch stream must name its storages. Received: {path}")
    places, end = {}, path.stat().st_size
    # Storages of what an optimiser keeps lie between those of the weights.
    widths = {key: _width(dtype) for dtype, key, _ in map(_storage, references)}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        start = file.tell()
        width = widths.get(key)
        if width is None or count * width > end - start:
            name = next((n for n, own in stored.items() if own.key == key), str(key))
            raise ValueError(f"tensor {name} must be whole. Received: {end - start:,} bytes for {count:,} "
                             f"numbers in {path}")  # fmt: skip
        places[key] = (start, count * width)
        file.seek(start + count * width)
    for name, own in stored.items():
        _check_storage(name, own, places.get(own.key, (0, 0))[1])

    def data(name: str, own: _Stored) -> bytes:
        start, size = places[own.key]
        file.seek(start)
        return file.read(size)

    return _weight_file(stored, data, path, "PyTorch stream")


def _state(root: object, path: Path) -> dict[str, _Stored]:
    """The tensors by name; those of training (optimizer, counters) are left out."""
    for key in ("state_dict", "model"):
        if isinstance(root, dict) and isinstance(root.get(key), dict):
            root = root[key]
    if not isinstance(root, dict):
        raise ValueError(f"a PyTorch file must hold a state dictionary, not a whole module. Received: {path}")
    stored = {}
    for name, value in root.items():
        if isinstance(value, Call) and value.name.endswith("_rebuild_parameter"):
            value = value.arguments[0] if value.arguments else None
        if isinstance(value, Call):
            stored[str(name)] = _tensor_of(str(name), value)
    if not stored:
        raise ValueError(f"a PyTorch file must hold a state dictionary. Received: {path}, without tensors")
    return stored


def _tensor_of(name: str, call: Call) -> _Stored:
    try:
        storage, offset, shape, strides = call.arguments[:4]
        dtype, key, count = _storage(storage)
        numbers = [offset, count, *shape, *strides]
        if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(shape) != len(strides):
            raise ValueError("no shape")
    except (ValueError, TypeError) as error:
        raise ValueError(f"tensor {name} must be a plain tensor. Received: {error}") from None
    return _Stored(dtype, key, count, offset, tuple(shape), tuple(strides))


def _storage(reference: object) -> tuple[str, str, int]:
    """Type, key and count of numbers of a storage."""
    try:
        word, kind, key, _, count = reference.key[:5]
        if word != "storage":
            raise ValueError("no storage")
        return _TYPES[kind.name.split(".")[-1].removesuffix("Storage")], str(key), int(count)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a storage must have a known type and a key. Received: {error!r}") from None


def _width(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _check_storage(name: str, own: _Stored, size: int) -> None:
    last = own.offset + sum((n - 1) * s for n, s in zip(own.shape, own.strides, strict=True))
    if size != own.count * _width(own.dtype) or (math.prod(own.shape) and last >= own.count):
        raise ValueError(f"tensor {name} must lie in its storage. Received: shape {own.shape}, storage of "
                         f"{size:,} bytes for {own.count:,} numbers")  # fmt: skip


def _weight_file(
    stored: dict[str, _Stored], data: Callable[[str, _Stored], bytes], path: Path, kind: str
) -> WeightFile:
    grouped: dict[str, list[tuple[str, _Stored]]] = {}
    for name, own in stored.items():
        layer, word = _split(name)
        if word != "num_batches_tracked":
            grouped.setdefault(layer, []).append((word, own))
    layers = []
    for index, (layer, rows) in enumerate(grouped.items()):
        tensors = tuple(_tensor(layer, word, own, rows, data) for word, own in rows)
        layers.append(Layer(index, layer, tensors, canonical_name(layer)))
    check_total(layers, path)
    torchvision = "backbone.scale_weight" in grouped
    detector = any(layer.canonical == "conv4_3_norm" for layer in layers)
    return WeightFile(
        path, kind, tuple(layers), channel_order="RGB", flatten="CHW",
        clip=("sides" if torchvision else "centres") if detector else None,
    )  # fmt: skip


def _split(name: str) -> tuple[str, str]:
    """Layer and word: conv.weight; the norm of torchvision stands alone."""
    layer, _, word = name.rpartition(".")
    if name.endswith("backbone.scale_weight"):
        return name, "weight"
    return layer, word


def _tensor(layer: str, word: str, own: _Stored, rows: list, data: Callable) -> Tensor:
    name, layout = f"{layer}.{word}", {4: "OIHW", 2: "OI"}.get(len(own.shape), "C")
    if word not in _ROLES:
        raise ValueError(f"a tensor must be one of {', '.join(_ROLES)}. Received: {name}")
    role = _ROLES[word]
    if role == "kernel" and layout == "C":  # of a normalisation: L2, or of a batch
        role = "scale" if len(rows) == 1 else "gamma"
    if role == "bias" and len(rows) > 2:
        role = "beta"

    def read() -> np.ndarray:
        raw = np.frombuffer(data(name, own), "<u2" if own.dtype == "bfloat16" else own.dtype)
        if len(raw) != own.count:
            raise ValueError(f"tensor {name} must be whole. Received: {len(raw):,} of {own.count:,} numbers")
        if own.dtype == "bfloat16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        strides = [s * raw.itemsize for s in own.strides]
        return np.lib.stride_tricks.as_strided(raw[own.offset :], own.shape, strides, writeable=False)

    dtype = own.dtype if own.dtype == "bfloat16" else np.dtype(own.dtype).name
    return make_tensor(name, role, own.shape, dtype, layout, read)
