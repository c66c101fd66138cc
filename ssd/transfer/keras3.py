"""Keras 3: `.weights.h5` and the `.keras` archive around it, told by their content.

Layout: keras-team/keras 3.15 saving/saving_lib.py. Nothing is ever built from the configuration:
it is read as JSON for the order and the names of the layers. The archive may hold any code; it
stays where it is.
"""

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

import h5py

from ssd.transfer.hdf5 import child, group, has, open_hdf5, strings, tensor, text, whole
from ssd.transfer.keras_hdf5 import name_by_shape, with_card
from ssd.transfer.names import canonical_name
from ssd.transfer.weightfile import (
    CARD,
    LAYER_NAMES,
    MAX_BYTES,
    ZIP_DAMAGE,
    Layer,
    Tensor,
    WeightFile,
    check_total,
)

WEIGHTS_MEMBER = "model.weights.h5"
_MAX_CONFIG = 32 << 20
_MAX_RATIO = 100  # of weights to what they are packed into; random numbers shrink by a tenth


def is_keras3(file: h5py.File) -> bool:
    """Whether this reader knows the file."""
    return has(file, "layers")


def read_keras3(file: h5py.File, path: Path, config: dict | None = None) -> WeightFile:
    """Every layer of a Keras 3 weight file.

    The file itself keeps no order but one within each class of layer; with `config`, or in a file of
    this project, places are known.

    Raises:
        ValueError: the file is damaged.
    """
    names = _order(file, config)
    layers = _read_group(group(file, "layers"), "", set(), config)
    if names:
        layers = _in_order(layers, names)
    else:
        layers = [Layer(i, m.name, m.tensors, m.canonical) for i, m in enumerate(layers)]
    layers = name_by_shape(layers)
    check_total(layers, path)
    found = WeightFile(path, "Keras 3 weights", tuple(layers), bool(names))
    return with_card(found, text(file.attrs, CARD))


def read_keras_archive(archive: zipfile.ZipFile, path: Path) -> WeightFile:
    """The weights inside a `.keras` file.

    Raises:
        ValueError: it is damaged, holds no HDF5 weights, or more than a model can hold.
    """
    try:
        config = json.loads(read_member(archive, "config.json", _MAX_CONFIG, path))
    except RecursionError:
        raise ValueError(f"config.json must be that of a Keras model. Received: {path}") from None
    if WEIGHTS_MEMBER not in archive.namelist():
        raise ValueError(f"a Keras archive must hold {WEIGHTS_MEMBER}. Received: {archive.namelist()}")
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the file is
    inner = None
    try:
        unpack(archive, WEIGHTS_MEMBER, spool, path)
        inner = open_hdf5(spool, path)
        with whole(path):
            found = read_keras3(inner, path, config)
        if (name := f"{CARD}.json") in archive.namelist():
            with_card(found, read_member(archive, name, _MAX_CONFIG, path).decode("utf-8", "replace"))
    except BaseException:
        _close(inner, spool)
        raise
    found.format, found.close = "Keras 3 archive", lambda: _close(inner, spool)
    return found


def read_member(archive: zipfile.ZipFile, name: str, limit: int, path: Path) -> bytes:
    """A small member of an archive. Raises ValueError: it is missing, damaged or too large."""
    try:
        if archive.getinfo(name).file_size > limit:
            raise ValueError(f"{name} must have at most {limit:,} bytes. Received: {path}")
        with archive.open(name) as member:
            return member.read(limit)
    except ZIP_DAMAGE as error:
        raise ValueError(f"archive {path} must hold {name} whole. Received: {error}") from None


def unpack(archive: zipfile.ZipFile, name: str, out: BinaryIO, path: Path) -> None:
    """Copy a large member of an archive to `out`. Raises ValueError as `read_member` does."""
    info = archive.getinfo(name)
    if info.file_size > min(MAX_BYTES, info.compress_size * _MAX_RATIO):
        raise ValueError(
            f"{name} must have at most {MAX_BYTES:,} bytes, and {_MAX_RATIO} for each that is stored. "
            f"Received: {path} with {info.file_size:,} in {info.compress_size:,}"
        )
    try:
        with archive.open(name) as member:
            shutil.copyfileobj(member, out, 1 << 20)
    except ZIP_DAMAGE as error:
        raise ValueError(f"archive {path} must hold {name} whole. Received: {error}") from None
    out.seek(0)


def _close(inner: h5py.File | None, spool: BinaryIO) -> None:
    if inner is not None:
        inner.close()
    spool.close()


def _read_group(parent: h5py.Group, prefix: str, seen: set, config: dict | None = None) -> list[Layer]:
    """The layers of a `layers` group; those of nested models in their place.

    Before Keras 3.6 a file stored no names; then `config`, if there is one, has them.
    """
    if parent in seen:  # HDF5 can link a group into itself
        raise ValueError(f"groups of layers must form a tree. Received: {parent.name} twice")
    seen.add(parent)
    layers = []
    for key in sorted(parent, key=_natural):
        member = group(parent, key)
        variables = group(member, "vars") if has(member, "vars") else None
        stored = text(variables.attrs, "name") if variables is not None else None
        own = _by_key(config).get(key, {})
        stored = stored or own.get("config", {}).get("name")
        name = f"{prefix}{stored or key}"
        if has(member, "layers") and len(group(member, "layers")):
            layers += _read_group(group(member, "layers"), f"{name}/", seen, own)
            continue
        if variables is None:
            raise ValueError(f"layer {name} must have a group 'vars'. Received: none")
        # A renamed layer that has no stored name still has its class and number.
        canonical = canonical_name(stored.split("/")[-1]) if stored else None
        layers.append(Layer(0, name, _tensors(variables, name), canonical))
    return layers


def _by_key(config: dict | None) -> dict[str, dict]:
    """Group name -> configuration of a layer: its class in snake case, counted from the second on."""
    inner = config.get("config") if isinstance(config, dict) else None
    rows = inner.get("layers") if isinstance(inner, dict) else None
    counts: dict[str, int] = {}
    found = {}
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or not isinstance(row.get("config"), dict):
            continue
        key = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", str(row.get("class_name")))
        key = re.sub(r"([a-z])([A-Z])", r"\1_\2", key).lower()
        number = counts.get(key, 0)
        counts[key] = number + 1
        found[f"{key}_{number}" if number else key] = row
    return found


def _tensors(variables: h5py.Group, name: str) -> tuple[Tensor, ...]:
    keys = sorted(variables, key=_natural)
    if keys != [str(i) for i in range(len(keys))]:
        raise ValueError(f"variables of layer {name} must be 0, 1, ... Received: {', '.join(keys)}")
    axes = [len(getattr(child(variables, key), "shape", ())) for key in keys]
    roles = {
        (4, 1): ("kernel", "bias"), (4,): ("kernel",), (2, 1): ("kernel", "bias"), (1,): ("scale",),
        (1, 1, 1): ("beta", "mean", "variance"), (1, 1, 1, 1): ("gamma", "beta", "mean", "variance"), (): (),
    }.get(tuple(axes))  # fmt: skip
    if roles is None:
        raise ValueError(f"layer {name} must be a convolution, dense or a normalisation. Received: "
                         f"tensors of {axes} axes")  # fmt: skip
    layouts = [{4: "HWIO", 2: "IO"}.get(a, "C") for a in axes]
    rows = zip(keys, roles, layouts, strict=True)
    return tuple(tensor(variables, key, f"{name}/{role}", role, layout) for key, role, layout in rows)


def _order(file: h5py.File, config: dict | None) -> list[str]:
    """Names of the top-level layers in the order of the model; empty if not known."""
    if config is None:
        return strings(file.attrs, LAYER_NAMES)
    try:
        layers = config.get("config", {}).get("layers", [])
        return [str(layer["config"]["name"]) for layer in layers if "name" in layer.get("config", {})]
    except (AttributeError, TypeError):
        raise ValueError("config.json must be that of a Keras model. Received: other JSON") from None


def _in_order(layers: list[Layer], names: list[str]) -> list[Layer]:
    """Layers with their places; in a model without stored names the class counters give them."""
    places = {name: i for i, name in enumerate(names)}
    placed = []
    for layer in layers:
        top = layer.name.split("/")[0]
        if top not in places:
            raise ValueError(f"layer {layer.name} must be in the order of the model. Received: {names}")
        placed.append(Layer(places[top], layer.name, layer.tensors, layer.canonical))
    known = {layer.name.split("/")[0] for layer in placed}
    placed += [Layer(i, name) for name, i in places.items() if name not in known]
    return sorted(placed, key=lambda layer: layer.index)


def _natural(key: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)_?(\d*)", key)
    return found[1], int(found[2] or 0)
