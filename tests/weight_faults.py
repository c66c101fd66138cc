"""One fault in a whole weight file: a tensor renamed, turned, short or not finite; a file cut.

Each works on the file itself, byte by byte where its length must stay, so that nothing else changes.
"""

import mmap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssd.transfer.read import open_weights

NAN = np.float32(np.nan).tobytes()
LIMIT = 60  # seconds: far from a hang, on a machine that does other work too


def refused(path: Path, match: str | None = None) -> None:
    """Asserts that a file is refused when it is opened: at once, in one line that names it."""
    start = time.perf_counter()
    with pytest.raises(ValueError, match=match) as error:
        open_weights(path)
    assert time.perf_counter() - start < LIMIT
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def patch(path: Path, old: bytes, new: bytes, after: bytes = b"") -> None:
    """Replace the first `old` behind the first `after` by as many other bytes."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at = data.find(old, data.find(after))
        assert at >= 0, "the file does not hold what is to be replaced"
        assert len(old) == len(new)
        data[at : at + len(new)] = new


def poison(path: Path, array: np.ndarray) -> None:
    """Put a NaN first in an array that lies in the file as it is."""
    raw = array.tobytes()
    patch(path, raw, NAN + raw[4:])


def cut(path: Path, keep: float | int) -> None:
    """Keep a share of the file; of a negative number, all but as many bytes."""
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(size + keep if keep < 0 else int(size * keep))


def rewrite_zip(path: Path, change: Callable[[str, bytes], tuple[str, bytes]], packed: bool = False) -> None:
    """Write a zip again with other names or bytes of members; exactly one must change."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    changed = [change(*member) for member in members]
    assert sum(a is not b or m != n for (m, a), (n, b) in zip(members, changed, strict=True)) == 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in changed:
            archive.writestr(name, data)


def patch_zip(path: Path, member: str, old: bytes, new: bytes, after: bytes = b"") -> None:
    """`patch` inside a member whose name ends so."""

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if not name.endswith(member):
            return name, data
        at = data.index(old, data.find(after))
        return name, data[:at] + new + data[at + len(old) :]

    rewrite_zip(path, change)


def change_array(path: Path, array: np.ndarray, new: Callable[[bytes], bytes]) -> None:
    """Other bytes for an array that lies in a member of a zip as it is."""
    raw = array.tobytes()

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        return (name, data.replace(raw, new(raw))) if raw in data else (name, data)

    rewrite_zip(path, change)


def rename_hdf5(path: Path, group: str, old: str, new: str) -> None:
    """Rename an array and its entry in the list of its layer."""
    with h5py.File(path, "r+") as file:
        own = file[group]
        own.move(old, new)
        if "weight_names" in own.attrs:
            names = [name.replace(old.encode(), new.encode()) for name in _bytes(own.attrs["weight_names"])]
            own.attrs["weight_names"] = np.array(names)


def rename_layer(path: Path, root: str, old: str, new: str) -> None:
    """Rename a group and its entry in the list of layers."""
    with h5py.File(path, "r+") as file:
        file[root].move(old, new)
        names = [
            new.encode() if name == old.encode() else name for name in _bytes(file[root].attrs["layer_names"])
        ]
        file[root].attrs["layer_names"] = np.array(names)


def turn(path: Path, place: str, axes: tuple[int, int]) -> None:
    """Swap two axes of an array."""
    with h5py.File(path, "r+") as file:
        array = file[place][...]
        del file[place]
        file[place] = np.ascontiguousarray(array.swapaxes(*axes))


def shorten(path: Path, place: str) -> None:
    """Leave the last half of an array unwritten, though its shape stays."""
    with h5py.File(path, "r+") as file:
        array = file[place][...]
        del file[place]
        half = array.shape[-1] // 2
        chunks = (*array.shape[:-1], half)
        file.create_dataset(place, array.shape, "f4", chunks=chunks)[..., :half] = array[..., :half]


def _bytes(names: np.ndarray) -> list[bytes]:
    return [name if isinstance(name, bytes) else name.encode() for name in names]
