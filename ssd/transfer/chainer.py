"""Chainer's `.npz`: a zip of NumPy arrays, whose order means nothing.

Names: chainer/chainercv, links/model/ssd. No array of objects (a pickle) is ever read.
"""

import math
import tokenize
import warnings
import zipfile
from pathlib import Path

import numpy as np

from ssd.transfer.names import CANONICAL, EXTRAS, HEADS, VGG, canonical_name
from ssd.transfer.weightfile import ZIP_DAMAGE, Layer, Tensor, WeightFile, check_total, make_tensor

_ROLES = {"W": "kernel", "b": "bias", "scale": "scale", "gamma": "gamma", "beta": "beta",
          "avg_mean": "mean", "avg_var": "variance"}  # fmt: skip
_ORDER = {name: i for i, name in enumerate((*VGG, "fc6", "fc7", *EXTRAS, "conv4_3_norm", *HEADS))}
_HEADER_BYTES = 10_000


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Whether this reader knows the archive."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_chainer(archive: zipfile.ZipFile, path: Path) -> WeightFile:
    """Every link of the archive, known ones in the network's order.

    Raises:
        ValueError: it is damaged or holds other things than arrays of floats.
    """
    links: dict[str, list[Tensor]] = {}
    for info in archive.infolist():
        link, _, word = info.filename.removesuffix(".npy").rpartition("/")
        if word not in _ROLES:
            raise ValueError(f"an array must be one of {', '.join(_ROLES)} of a link. Received: "
                             f"{info.filename} in {path}")  # fmt: skip
        links.setdefault(link, []).append(_tensor(archive, info, f"{link}/{word}", _ROLES[word]))
    rows = [(canonical_name(link), link, tensors) for link, tensors in links.items()]
    rows.sort(key=lambda row: (_ORDER.get(row[0], len(CANONICAL)), row[1]))
    layers = [Layer(i, link, _ordered(tensors), name) for i, (name, link, tensors) in enumerate(rows)]
    check_total(layers, path)
    detector = any(link.startswith("multibox/") for link in links)
    return WeightFile(
        path, "Chainer npz", tuple(layers), ordered=False, channel_order="RGB", flatten="CHW",
        delta_order="yxhw", clip="none" if detector else None,
    )  # fmt: skip


def _ordered(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(sorted(tensors, key=lambda t: list(_ROLES.values()).index(t.role)))


def _tensor(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, role: str) -> Tensor:
    """An array by its header alone; the header must claim exactly the bytes that follow."""
    try:
        with archive.open(info) as member, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 2 wrote shapes as (64L, 3L)
            version = np.lib.format.read_magic(member)
            reader = {(1, 0): np.lib.format.read_array_header_1_0,
                      (2, 0): np.lib.format.read_array_header_2_0}[version]  # fmt: skip
            shape, fortran, dtype = reader(member, max_header_size=_HEADER_BYTES)
            start = member.tell()
    except (ValueError, MemoryError, SyntaxError, tokenize.TokenError, *ZIP_DAMAGE) as error:
        raise ValueError(f"array {name} must be whole. Received: {error}") from None
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != info.file_size - start:
        raise ValueError(f"array {name} must hold as many floats as its header says. "
                         f"Received: shape {shape}, {dtype}, {info.file_size - start:,} bytes")  # fmt: skip

    def read() -> np.ndarray:
        try:
            with archive.open(info) as member:
                data = member.read(info.file_size)[start:]
        except ZIP_DAMAGE as error:
            raise ValueError(f"array {name} must be readable. Received: {error}") from None
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")

    layout = {4: "OIHW", 2: "OI"}.get(len(shape), "C")
    return make_tensor(name, role, shape, dtype, layout, read)
