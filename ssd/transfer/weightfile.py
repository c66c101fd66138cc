"""What every reader yields: a weight file as an ordered list of layers with named tensors.

Nothing is read but names and shapes until `Tensor.read` is called; sizes are checked before.
"""

import lzma
import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from ssd.card import ModelCard

# What this project puts into its own HDF5 files beside the weights; in archives, files of these names.
CARD, LEDGER, LAYER_NAMES = "ssd_card", "ssd_ledger", "ssd_layer_names"
ROLES = ("kernel", "bias", "scale", "gamma", "beta", "mean", "variance")
# How the axes of a tensor stand: rows, columns, inputs, outputs; "C": one number a channel.
LAYOUTS = ("HWIO", "OIHW", "IO", "OI", "C")
MAX_BYTES = 4 << 30  # of all tensors of a file; SSD300 has 0.14
MAX_TENSORS = 10_000
# What `zipfile` raises of a member that is damaged, packed in an unknown way or locked.
ZIP_DAMAGE = (KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Tensor:
    """One array of a file.

    Args:
        name: as the file has it.
        role: one of ROLES.
        shape: as the file has it.
        layout: one of LAYOUTS.
        read: returns the array, float16, float32 or float64; raises ValueError if it is damaged.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    layout: str
    read: Callable[[], np.ndarray] = field(repr=False)

    @property
    def size(self) -> int:
        """Count of its numbers."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layer:
    """A layer of a file, with or without weights.

    Args:
        index: its place in the file; layers inside a nested model share the place of that model.
        name: as the file has it; "model/layer" inside a nested model.
        tensors: in the file's order.
        canonical: its Caffe name if the network is known (`ssd.transfer.names`).
    """

    index: int
    name: str
    tensors: tuple[Tensor, ...] = ()
    canonical: str | None = None

    @property
    def size(self) -> int:
        """Count of its parameters."""
        return sum(t.size for t in self.tensors)


@dataclass
class WeightFile:
    """A weight file, open until `close`; use it in a `with` statement.

    Args:
        format: for people, such as "Keras 2 HDF5".
        layers: in the file's order.
        ordered: the places of the layers mean something (files that keep no order: False).
        flipped: kernels are turned by 180 degrees in space, as Theano has them; None: not known.
        channel_order: of the picture that the first convolution sees, "RGB" or "BGR".
        flatten: order in which a map became a vector in front of dense layers.
        delta_order: (dx, dy, dw, dh) is "xywh"; ChainerCV has "yxhw".
        clip: of the anchors that the heads were trained with, if this kind of file tells.
        card: the model card of this project's own files.
        notes: what a user should know of how the file was read.
        files: all that it consists of; empty: `path` alone.
        close: gives the file back.
    """

    path: Path
    format: str
    layers: tuple[Layer, ...]
    ordered: bool = True
    flipped: bool | None = False
    channel_order: str = "BGR"
    flatten: str = "HWC"
    delta_order: str = "xywh"
    clip: str | None = None
    card: ModelCard | None = None
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    close: Callable[[], None] = lambda: None

    def __enter__(self) -> "WeightFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Count of all its parameters."""
        return sum(layer.size for layer in self.layers)

    def find(self, canonical: str) -> Layer | None:
        """The layer of that canonical name."""
        return next((layer for layer in self.layers if layer.canonical == canonical), None)


def make_tensor(
    name: str, role: str, shape: tuple, dtype: object, layout: str, read: Callable[[], np.ndarray]
) -> Tensor:
    """A tensor after the checks that hold for every format.

    Raises:
        ValueError: a type that is no float, no such role, an axis below 1 or a shape that does not
            go with the layout.
    """
    shape = tuple(int(n) for n in shape)
    if str(dtype) not in (*_FLOATS, "bfloat16"):
        raise ValueError(f"a tensor must hold floats. Received: {name} of type {dtype}")
    if role not in ROLES:
        raise ValueError(f"a tensor must be one of {', '.join(ROLES)}. Received: {name}")
    if any(n < 1 for n in shape) or math.prod(shape) * 4 > MAX_BYTES:
        raise ValueError(f"a tensor must have between 1 number and {MAX_BYTES >> 30} GiB. "
                         f"Received: {name} with shape {shape}")  # fmt: skip
    if len(shape) != {"C": 1}.get(layout, len(layout)):
        raise ValueError(f"a {role} must have {len(layout)} axes, {layout}. Received: {name}, {shape}")

    def checked() -> np.ndarray:
        array = read()
        if array.shape != shape:
            raise ValueError(f"tensor {name} must have shape {shape}. Received: {array.shape}")
        return array

    return Tensor(name, role, shape, layout, checked)


def check_total(layers: list[Layer], path: Path) -> None:
    """Raise ValueError for a file with no tensor, or more than a weight file can sensibly hold."""
    count = sum(len(layer.tensors) for layer in layers)
    size = sum(layer.size for layer in layers) * 4
    if not 0 < count <= MAX_TENSORS or size > MAX_BYTES:
        raise ValueError(
            f"a weight file must hold 1 to {MAX_TENSORS:,} tensors of at most {MAX_BYTES >> 30} GiB. "
            f"Received: {path} with {count:,} tensors of {size:,} bytes"
        )
    seen = set()
    for layer in layers:
        if layer.tensors and layer.name in seen:
            raise ValueError(f"layer names must be unique. Received: {layer.name} twice in {path}")
        seen.add(layer.name)
        roles = [tensor.role for tensor in layer.tensors]
        if len(set(roles)) != len(roles):
            raise ValueError(f"a layer must have one tensor of a kind. Received: {layer.name} with "
                             f"{', '.join(tensor.name for tensor in layer.tensors)} in {path}")  # fmt: skip
