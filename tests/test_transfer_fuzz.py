"""Damaged files of every format: a reader reads them or refuses them, and does nothing else.

The damage is the same in every run: HDF5's own library is known to crash over some files.
"""

import io
import json
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the extra 'train'")

import weight_files as w  # noqa: E402
import weight_files_torch as t  # noqa: E402

from ssd.transfer.read import open_weights, orientation  # noqa: E402

MUTATIONS = 300
LIMIT = 5  # seconds for one file


def arrays() -> w.Arrays:
    """Three small layers."""
    rng = np.random.default_rng(0)
    made = {}
    for name, inputs, outputs in (("conv1_1", 3, 4), ("conv1_2", 4, 2)):
        kernel = rng.standard_normal((3, 3, inputs, outputs), dtype=np.float32)
        made[name] = {"kernel": kernel, "bias": np.ones(outputs, np.float32)}
    return made | {"conv4_3_norm": {"scale": np.ones(5, np.float32)}}


def keras0(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = 2
        for i, name in enumerate(("conv1_1", "conv1_2")):
            group = file.create_group(f"layer_{i}")
            group.attrs["nb_params"] = 2
            group["param_0"] = arrays()[name]["kernel"].transpose(3, 2, 0, 1)
            group["param_1"] = arrays()[name]["bias"]


def legacy(
    words: tuple[str, str], root: str = "/", packed: str | None = None, **attributes: object
) -> Callable:
    """A maker of a Keras 1, 2 or 3 file whose weights end so."""

    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            if root != "/":
                file.attrs["model_config"] = json.dumps({"layers": [{"dim_ordering": "tf"}]})
            own = file.require_group(root)
            own.attrs.update(attributes)
            own.attrs["layer_names"] = np.array([b"input_1", b"conv1_1", b"conv1_2"])
            own.create_group("input_1").attrs["weight_names"] = []
            for name in ("conv1_1", "conv1_2"):
                group, names = own.create_group(name), [name + word for word in words]
                group.attrs["weight_names"] = np.array(names, "S")
                for key, array in zip(names, arrays()[name].values(), strict=True):
                    group.create_dataset(key, data=array, compression=packed)

    return make


def keras3(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for i, (name, values) in enumerate(arrays().items()):
            group = file.create_group(f"layers/conv2d_{i}/vars")
            group.attrs["name"] = name
            for j, array in enumerate(values.values()):
                group[str(j)] = array
        file.create_group("vars")


def archive(packing: int) -> Callable:
    """A maker of a `.keras` file."""

    def make(path: Path) -> None:
        keras3(path.with_name("inner"))
        config = {"config": {"layers": [{"config": {"name": name}} for name in arrays()]}}
        with zipfile.ZipFile(path, "w", packing) as file:
            file.writestr("config.json", json.dumps(config))
            file.write(path.with_name("inner"), "model.weights.h5")

    return make


def checkpoint(part: str) -> Callable:
    """A maker of a TensorFlow checkpoint; the path is that of its index or its shard."""

    def make(path: Path) -> None:
        pytest.importorskip("tensorflow", reason="needs the extra 'train'")
        w.write_tf_checkpoint(path.with_name(path.name.removesuffix(part)), arrays())

    return make


def torch_file(write: Callable) -> Callable:
    def make(path: Path) -> None:
        pytest.importorskip("torch", reason="needs torch, to write the file")
        write(path, arrays())

    return make


INDEX, SHARD = ".index", ".data-00000-of-00001"
MAKERS = {
    "keras0": keras0,
    "keras1-theano": legacy(("_W", "_b")),
    "keras1-whole": legacy(("_W:0", "_b:0"), "model_weights", keras_version=b"1.2.2"),
    "keras2": legacy(("/kernel:0", "/bias:0"), backend=b"tensorflow", keras_version=b"2.2.4"),
    "keras2-packed": legacy(("/kernel:0", "/bias:0"), packed="gzip", backend=b"theano"),
    "keras3-legacy": legacy(("/kernel", "/bias"), backend="torch", keras_version="3.15.1"),
    "keras3": keras3,
    "keras3-archive": archive(zipfile.ZIP_STORED),
    "keras3-archive-packed": archive(zipfile.ZIP_DEFLATED),
    "caffe": lambda p: w.write_caffe(p, arrays()),
    "caffe-old": lambda p: w.write_caffe(p, arrays(), v1_layers=True, legacy_shape=True),
    "chainer": lambda p: w.write_chainer(p, arrays()),
    "chainer-packed": lambda p: w.write_chainer(p, arrays(), compressed=True),
    "torch-stream": torch_file(t.write_ssd_pytorch),
    "torch-zip": torch_file(t.write_torchvision),
    f"tensorflow{INDEX}": checkpoint(INDEX),
    f"tensorflow{SHARD}": checkpoint(SHARD),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, or with some bytes flipped, overwritten, inserted, deleted or doubled."""
    if rng.random() < 0.15:
        return data[: rng.randrange(len(data))]
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at, count = rng.randrange(len(out)), rng.randrange(1, 9)
        kind = rng.randrange(6)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            out[at:at] = rng.randbytes(count)
        elif kind == 3:
            del out[at : at + count]
        elif kind == 4:
            out[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\0\0\0\0\1\0\0\0"))
        else:
            start = rng.randrange(len(out))
            out[at : at + 40] = out[start : start + 40]
        out = out or bytearray(data)
    return bytes(out)


def read(path: Path) -> bool:
    """Whether every tensor of a file can be read; what is no ValueError or OSError passes through."""
    start = time.perf_counter()
    try:
        with open_weights(path) as file:
            for layer in file.layers:
                for tensor in layer.tensors:
                    assert tensor.read().shape == tensor.shape
        return True
    except (ValueError, OSError):
        return False
    finally:
        assert time.perf_counter() - start < LIMIT


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    path = tmp_path / name
    MAKERS[name](path)
    good, fine = path.read_bytes(), 0
    assert read(path)
    for i in range(MUTATIONS):
        path.write_bytes(damaged(good, random.Random(f"{name} {i}")))
        try:
            fine += read(path)
        except BaseException as error:
            error.add_note(f"{name}, damage {i}")
            raise
    assert fine < MUTATIONS


@pytest.mark.parametrize("name", ["torch-zip", "chainer", "keras3-archive"])
def test_damage_behind_the_sums_of_a_zip(name, tmp_path):
    """A member damaged before it was packed: its checksum is right."""
    path = tmp_path / name
    MAKERS[name](path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as good:
        members = {member: good.read(member) for member in good.namelist()}
    for i in range(MUTATIONS):
        rng = random.Random(f"{name} inside {i}")
        broken = rng.choice([m for m in members if members[m]])
        with zipfile.ZipFile(path, "w") as file:
            for member, data in members.items():
                file.writestr(member, damaged(data, rng) if member == broken else data)
        try:
            read(path)
        except BaseException as error:
            error.add_note(f"{name}, damage {i} in {broken}")
            raise


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_odd_numbers_in_the_first_kernel(kind):
    """Any bits are read without a word: NaN of both sorts, infinity, numbers too large to be squared."""
    shape, rng = (3, 3, 3, 64), np.random.default_rng(0)
    for _ in range(20):
        assert orientation(np.frombuffer(rng.bytes(1728 * int(kind[1])), kind).reshape(shape)) is None
    for number in (0, np.nan, np.inf, np.finfo(kind).max, np.finfo(kind).tiny):
        assert orientation(np.full(shape, number, kind)) is None
        kernel = np.ones(shape, kind)
        kernel[0, 0, 0, 0] = number
        assert orientation(kernel) is None
