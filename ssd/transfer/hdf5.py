"""HDF5 opened as data from a stranger: what reaches outside the file, or lies about sizes, is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from ssd.transfer.weightfile import Tensor, make_tensor

MAX_RATIO = 1100  # of an array to its stored bytes; deflate cannot make zeros smaller
MAX_NAMES = 20_000
_FILTERS = {"gzip", "lzf", None}


def open_hdf5(file: Path | BinaryIO, path: Path) -> h5py.File:
    """Open a file for reading.

    Args:
        file: what is opened.
        path: names it in errors.
    Raises:
        ValueError: it is damaged or no HDF5.
    """
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise ValueError(f"an HDF5 file must be whole. Received: {path} ({error})") from None


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn into ValueError what h5py raises, at any call, of a file whose inside is damaged."""
    try:
        yield
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError) as error:
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
    found = dataset(parent, path)

    def read() -> np.ndarray:
        try:
            return found[...]
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"tensor {name} must be readable. Received: {error}") from None

    return make_tensor(name, role, found.shape, found.dtype, layout, read)


def dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    """A member that must be an array inside this file. Raises ValueError as `tensor` does."""
    found = child(parent, path)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"HDF5 member {path!r} must be an array. Received: a group")
    if found.external or found.is_virtual:
        raise ValueError(f"HDF5 arrays must lie in the file itself. Received: {path!r}, stored elsewhere")
    if found.compression not in _FILTERS:
        raise ValueError(f"HDF5 compression must be gzip or lzf. Received: {path!r}, {found.compression}")
    stored, size = found.id.get_storage_size(), (found.size or 0) * found.dtype.itemsize
    if found.shape is None or size > stored * (MAX_RATIO if found.compression else 1):
        raise ValueError(
            f"HDF5 arrays must be stored whole. Received: {path!r}, {size:,} bytes in {stored:,}"
        )
    return found


def strings(attributes: h5py.AttributeManager, key: str) -> list[str]:
    """A list of names in an attribute, which Keras splits into key0, key1 ... if it is long.

    Raises:
        ValueError: it is no list of strings.
    """
    parts = takewhile(lambda part: part in attributes, (f"{key}{i}" for i in count()))
    keys = [key] if key in attributes else list(parts)
    values = []
    for part in keys:
        if np.prod(attributes.get_id(part).shape or (), dtype=float) > MAX_NAMES:
            raise ValueError(f"HDF5 attribute {part!r} must hold at most {MAX_NAMES} names")
        values += [_text(v) for v in np.atleast_1d(attributes[part])]
    return values


def text(attributes: h5py.AttributeManager, key: str) -> str | None:
    """The text in an attribute, None if there is none."""
    return _text(attributes[key]) if key in attributes else None


def _text(value: object) -> str:
    # h5py 2 wrote bytes, h5py 3 strings.
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise ValueError(f"HDF5 names must be strings. Received: {value!r}")
    return str(value)
