"""TensorFlow checkpoints (version 2): an `.index` table and `.data` shards, read without TensorFlow.

Formats: tensorflow/tensorflow, core/util/tensor_bundle and core/lib/io/table (a LevelDB table).
Names: balancap/SSD-Tensorflow, nets/ssd_vgg_300.py on TF-slim.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssd.transfer.names import canonical_name
from ssd.transfer.protobuf import fields, varint
from ssd.transfer.weightfile import Layer, Tensor, WeightFile, check_total, make_tensor

MAGIC = bytes.fromhex("57fb808b247547db")  # the end of a table
_TYPES = {1: "<f4", 2: "<f8", 19: "<f2"}
_ROLES = {"weights": "kernel", "kernel": "kernel", "biases": "bias", "bias": "bias", "gamma": "gamma",
          "beta": "beta", "moving_mean": "mean", "moving_variance": "variance"}  # fmt: skip
_MAX_INDEX = 64 << 20
_MAX_SHARDS = 1000
_MAX_ENTRIES, _MAX_KEY = 100_000, 4_000


def find_index(path: Path) -> Path | None:
    """The `.index` file of a checkpoint named by its prefix, its index or one of its shards."""
    if not path.name:
        return None
    prefix = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name)
    index = path.with_name(f"{prefix}.index")
    return index if index.is_file() else None


def read_tf_checkpoint(index: Path, path: Path) -> WeightFile:
    """Every variable of a checkpoint, without counters and what optimisers keep.

    Raises:
        ValueError: a file is damaged or missing.
    """
    if index.stat().st_size > _MAX_INDEX:
        raise ValueError(f"an index must have at most {_MAX_INDEX:,} bytes. Received: {index}")
    try:
        entries = dict(_table(index.read_bytes()))
        shards = _numbers(entries.pop(b"", b"")).get(1, 1)
        if not 0 < shards <= _MAX_SHARDS:
            raise ValueError(f"{shards} shards")
        grouped: dict[str, list[tuple[str, dict]]] = {}
        for key, value in entries.items():
            layer, _, word = key.decode("utf-8", "replace").rpartition("/")
            if word in _ROLES:
                grouped.setdefault(layer, []).append((word, _numbers(value)))
    except (IndexError, ValueError) as error:
        raise ValueError(f"a checkpoint index must be whole. Received: {index} ({error})") from None
    layers = []
    for i, (layer, rows) in enumerate(grouped.items()):
        rows.sort(key=lambda row: list(_ROLES).index(row[0]))
        tensors = [_tensor(index, shards, layer, word, entry) for word, entry in rows]
        if [t.role for t in tensors] == ["gamma"]:
            own = tensors[0]
            tensors = [Tensor(own.name, "scale", own.shape, own.layout, own.read)]
        layers.append(Layer(i, layer, tuple(tensors), canonical_name(layer)))
    check_total(layers, path)
    # The table is sorted by name.
    data = [index.with_name(_shard(index, i, shards)) for i in range(shards)]
    return WeightFile(
        path, "TensorFlow checkpoint", tuple(layers), ordered=False, channel_order="RGB", clip="none",
        files=(index, *(shard for shard in data if shard.is_file())),
    )  # fmt: skip


def _tensor(index: Path, shards: int, layer: str, word: str, entry: dict) -> Tensor:
    name = f"{layer}/{word}"
    dtype = _TYPES.get(entry.get(1, 0))
    if dtype is None:
        raise ValueError(f"a tensor must hold floats. Received: {name} of type {entry.get(1, 0)}")
    shape, offset, size = entry.get("shape", ()), entry.get(4, 0), entry.get(5, 0)
    data = index.with_name(_shard(index, entry.get(3, 0), shards))
    if not data.is_file():
        raise ValueError(f"a checkpoint must have all its files. Received: no {data}")
    wanted = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if size != wanted or offset + size > data.stat().st_size:
        raise ValueError(f"tensor {name} must be whole. Received: shape {shape}, {size:,} bytes at "
                         f"{offset:,} of {data.name} with {data.stat().st_size:,}")  # fmt: skip

    def read() -> np.ndarray:
        return np.fromfile(data, dtype, size // np.dtype(dtype).itemsize, offset=offset).reshape(shape)

    layout = {4: "HWIO", 2: "IO"}.get(len(shape), "C")
    return make_tensor(name, _ROLES[word], shape, np.dtype(dtype).name, layout, read)


def _shard(index: Path, number: int, shards: int) -> str:
    return f"{index.name.removesuffix('.index')}.data-{number:05d}-of-{shards:05d}"


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table."""
    if len(data) < 48 or not data.endswith(MAGIC):
        raise ValueError("it does not end as a table does")
    at = len(data) - 48
    for _ in range(2):  # the handle of the meta index; that of the index follows
        _, at = varint(data, at, len(data))
    count = 0
    for _, handle in _block(data, *_handle(data, at)):
        for key, value in _block(data, *_handle(handle, 0)):
            count += 1  # blocks can be named again and again
            if count > _MAX_ENTRIES or len(key) > _MAX_KEY:
                raise ValueError(f"over {_MAX_ENTRIES:,} entries or {_MAX_KEY:,} bytes a name")
            yield key, value


def _handle(data: bytes, at: int) -> tuple[int, int]:
    start, at = varint(data, at, len(data))
    return start, varint(data, at, len(data))[0]


def _block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: each key shares its beginning with the one before."""
    if start + size + 5 > len(data):
        raise ValueError("a block ends behind the file")
    if data[start + size]:
        raise ValueError("a block is compressed")
    block = data[start : start + size]
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = len(block) - 4 - 4 * restarts, 0, b""
    if end < 0:
        raise ValueError("a block is too short")
    while at < end:
        shared, at = varint(block, at, end)
        rest, at = varint(block, at, end)
        length, at = varint(block, at, end)
        if shared > len(key) or at + rest + length > end:
            raise ValueError("an entry ends behind its block")
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + length]
        at += length


def _numbers(message: bytes) -> dict:
    """Varints of a small message by number, and the `shape` of field 2."""
    values: dict = {}
    for number, wire, start, end in fields(message, 0, len(message)):
        if wire == 0:
            values[number] = start
        elif number == 2 and wire == 2:
            values["shape"] = _shape(message[start:end])
    return values


def _shape(message: bytes) -> tuple[int, ...]:
    """TensorShapeProto: repeated field 2 {size 1}; an axis of 0 leaves its size out."""
    rows = fields(message, 0, len(message))
    return tuple(
        _numbers(message[start:end]).get(1, 0)
        for number, wire, start, end in rows
        if (number, wire) == (2, 2)
    )
