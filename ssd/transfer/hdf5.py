"""HDF5 opened as data from a stranger: what reaches outside the file, or lies about sizes, is refused."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count, takewhile
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from ssd.transfer.weightfile import Tensor, make_tensor

MAX_RATIO = 1100  # of an array to its stored bytes; deflate cannot make zeros smaller
MAX_NAMES = 20_000
_MAX_TEXT = 32 << 20  # bytes of an attribute
_FILTERS = {"gzip", "lzf", None}
_HEAP = b"GCOL\x01\0\0\0"  # begins a global heap


def open_hdf5(file: Path | BinaryIO, path: Path) -> h5py.File:
    """Open a file for reading.

    Args:
        file: what is opened.
        path: names it in errors.
    Raises:
        ValueError: it is damaged or no HDF5.
    """
    with whole(path):
        opened = h5py.File(file, "r")
        try:
            _check_heaps(file, path)
        except BaseException:
            opened.close()
            raise
        return opened


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn into ValueError what h5py raises, at any call, of a file whose inside is damaged."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(f"an HDF5 file must be whole. Received: {path} ({error})") from None


def has(parent: h5py.Group, name: str) -> bool:
    """Whether a group has a member of that name; links are not followed."""
    return parent.get(name, getlink=True) is not None


def child(parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """A member of a group, by a name or by a path with slashes.

    Raises:
        ValueError: there is none, or it is a link of another kind than HDF5's plain one, which
            could lead to another file or nowhere.
    """
    for part in name.split("/"):
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) and part else None
        if link is None:
            raise ValueError(f"HDF5 must hold {name!r} in group {parent.name}. Received: no such member")
        if not isinstance(link, h5py.HardLink):
            kind = type(link).__name__
            raise ValueError(f"HDF5 must hold no external or soft links. Received: {name!r}, {kind}")
        try:
            parent = parent[part]
        except (KeyError, OSError, RuntimeError) as error:
            raise ValueError(f"HDF5 member {name!r} must be readable. Received: {error}") from None
    return parent


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """A member that must be a group. Raises ValueError."""
    found = child(parent, name)
    if not isinstance(found, h5py.Group):
        raise ValueError(f"HDF5 member {name!r} must be a group. Received: an array")
    return found


def tensor(parent: h5py.Group, path: str, name: str, role: str, layout: str) -> Tensor:
    """A member that must be an array of floats, checked but not read.

    Args:
        parent: where `path` starts.
        path: of the array.
        name: of the tensor.
        role: of the tensor.
        layout: of the tensor.
    Raises:
        ValueError: external or virtual storage, an unknown filter, or more numbers than stored bytes
            can hold.
    """
    found = dataset(parent, path, name)

    def read() -> np.ndarray:
        try:
            return found[...]
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"tensor {name} must be readable. Received: {error}") from None

    return make_tensor(name, role, found.shape, found.dtype, layout, read)


def dataset(parent: h5py.Group, path: str, name: str) -> h5py.Dataset:
    """A member that must be an array inside this file; `name` is for errors. Raises as `tensor`."""
    found = child(parent, path)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"HDF5 member {name} must be an array. Received: a group")
    if found.external or found.is_virtual:
        raise ValueError(f"HDF5 arrays must lie in the file itself. Received: {name}, stored elsewhere")
    if found.compression not in _FILTERS:
        raise ValueError(f"HDF5 compression must be gzip or lzf. Received: {name}, {found.compression}")
    stored, size = found.id.get_storage_size(), (found.size or 0) * found.dtype.itemsize
    if found.shape is None or size > stored * (MAX_RATIO if found.compression else 1):
        raise ValueError(f"HDF5 arrays must be stored whole. Received: {name}, {size:,} bytes in {stored:,}")
    return found


def strings(attributes: h5py.AttributeManager, key: str) -> list[str]:
    """A list of names in an attribute, which Keras splits into key0, key1 ... if it is long.

    Raises:
        ValueError: it is no list of strings.
    """
    parts = takewhile(lambda part: part in attributes, (f"{key}{i}" for i in count()))
    keys = [key] if key in attributes else list(parts)
    return [name for part in keys for name in _texts(attributes, part)]


def text(attributes: h5py.AttributeManager, key: str) -> str | None:
    """The text in an attribute, None if there is none. Raises ValueError as `strings` does."""
    found = _texts(attributes, key) if key in attributes else [None]
    if len(found) != 1:
        raise ValueError(f"HDF5 attribute {key!r} must hold one text. Received: {len(found)}")
    return found[0]


def number(attributes: h5py.AttributeManager, key: str) -> int:
    """The whole number in an attribute, 0 if there is none. Raises ValueError."""
    if key not in attributes:
        return 0
    own = attributes.get_id(key)
    if own.shape != () or own.dtype.kind not in "iu":
        raise ValueError(f"HDF5 attribute {key!r} must be a whole number. Received: {own.dtype} {own.shape}")
    return int(attributes[key])


def _texts(attributes: h5py.AttributeManager, key: str) -> list[str]:
    """The texts in an attribute, which is read only if it says that it holds so many texts and no more:
    HDF5 crashes over some others."""
    own = attributes.get_id(key)
    size = math.prod(own.shape) if own.shape is not None else 0
    if not size:  # without weights, Keras keeps an empty list of floats
        return []
    known = h5py.check_string_dtype(own.dtype)
    if known is None or size > MAX_NAMES or size * own.dtype.itemsize > _MAX_TEXT:
        raise ValueError(
            f"HDF5 attribute {key!r} must hold at most {MAX_NAMES:,} texts. Received: {size:,} of {own.dtype}"
        )
    # h5py 2 wrote bytes, h5py 3 strings.
    values = np.ravel(attributes[key])
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _check_heaps(file: Path | BinaryIO, path: Path) -> None:
    """Refuse a heap of texts whose parts do not lie one behind the other.

    HDF5 1.14 (H5HG__cache_heap_deserialize) would read it for ever, and Ctrl-C could not end that.
    """
    own = open(file, "rb") if isinstance(file, Path) else nullcontext(file)  # noqa: SIM115
    with own as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        start = data.find(_HEAP)
        while start >= 0:
            at, end = start + 16, start + int.from_bytes(data[start + 8 : start + 16], "little")
            while at + 16 <= min(end, len(data)):
                index, size = data[at : at + 2], int.from_bytes(data[at + 8 : at + 16], "little")
                # The free part, number 0, counts its own head; the others are rounded up.
                step = 16 + -(-size // 8) * 8 if any(index) else size
                if step == 0 or at + step > end:
                    raise ValueError(f"an HDF5 file must be whole. Received: {path}, a heap damaged at {at}")
                at += step
            start = data.find(_HEAP, start + 1)
