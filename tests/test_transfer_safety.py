"""Pickles and HDF5 from a stranger: nothing of them runs, nothing outside them is opened, and no lie
about sizes is believed."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the extra 'train'")

from weight_faults import refused  # noqa: E402

# ---- Pickles


def torch_zip(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickled)
        archive.writestr("m/byteorder", "little")
    return path


def torch_stream(path: Path, pickled: bytes) -> Path:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, system)]
    path.write_bytes(b"".join(head) + pickled)
    return path


CALLS = {
    "reduce": b"\x80\x02cos\nsystem\nX%c\0\0\0%s\x85R.",
    "state": b"\x80\x02}X\x08\0\0\0a.weightcposix\nsystem\nX%c\0\0\0%s\x85Rs.",
    "instance": b"\x80\x02(X%c\0\0\0%sios\nsystem\n.",
    "newobj": b"\x80\x02csubprocess\nPopen\nX%c\0\0\0%s\x85\x81.",
    "builtin": b"\x80\x02cbuiltins\neval\nX%c\0\0\0%s\x85R.",
}


@pytest.mark.parametrize("container", [torch_zip, torch_stream])
@pytest.mark.parametrize("call", CALLS)
def test_a_pickle_calls_nothing(container, call, tmp_path):
    command = f"echo > {tmp_path}/ran".encode()
    path = container(tmp_path / "w.pth", CALLS[call] % (len(command), command))
    refused(path, "data only.*(system|Popen|eval)")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("new", [True, False])
def test_a_whole_module_is_refused(new, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch, to write the file")
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Conv2d(2, 3, 1), path, _use_new_zipfile_serialization=new)
    refused(path, r"an object of torch\.nn\.modules\.conv\.Conv2d")


def doubled(start: bytes, two: bytes, count: int = 60) -> bytes:
    """An object that holds the last one twice, again and again: 2 ** count when walked through."""
    steps = b"".join(b"(h%ch%c%sq%c0" % (i, i, two, i + 1) for i in range(count))
    return b"\x80\x02" + start + b"q\x000" + steps + b"h%c" % count


BOMBS = {
    "walked": doubled(b"]", b"l") + b"}X\x01\0\0\0ah" + bytes([60]) + b"s.",
    "hashed": b"\x80\x02}" + doubled(b")", b"t")[2:] + b"K\x01s.",
    "called": doubled(b")", b"t") + b")R.",
    "copied": b"\x80\x02]("
    + b"K\x01K\x02\x86" * 5000
    + b"eq\0"
    + b"ccollections\nOrderedDict\nh\0\x85R0" * 5000
    + b".",
    "marked": b"\x80\x02" + b"N" * 200_000 + b"(t0" * 200_000 + b".",
    "endless": b"\x80\x02" + b"N0" * 1_100_000 + b".",
    "long": b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "deep": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
}


@pytest.mark.parametrize("container", [torch_zip, torch_stream])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_cannot_grow(container, bomb, tmp_path):
    refused(container(tmp_path / "w.pth", BOMBS[bomb]), "pickle|PyTorch|weight file|steps|items|keys")


def test_batch_normalisation_for_l2_is_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch, to write the file")
    state = {"base_net.0.weight": torch.ones(2, 3, 3, 3), "base_net.0.bias": torch.ones(2)}
    words = ("weight", "bias", "running_mean", "running_var")
    state |= {f"source_layer_add_ons.0.{word}": torch.ones(2) for word in words}
    torch.save(state, tmp_path / "vgg16-ssd.pth")
    refused(tmp_path / "vgg16-ssd.pth", r"batch normalisation, source_layer_add_ons\.0")


# ---- HDF5


def keras2(path: Path, change) -> Path:
    """A Keras 2 file of one layer, changed by a function of its group, its bias still missing."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"], file.attrs["backend"] = np.array([b"conv1_1"]), b"tensorflow"
        group = file.create_group("conv1_1")
        group.attrs["weight_names"] = np.array([b"kernel:0", b"bias:0"])
        group["kernel:0"] = np.ones((3, 3, 3, 4), np.float32)
        change(group)
    return path


def virtual(group, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(other, "x", (4,))
    group.create_virtual_dataset("bias:0", layout)


HDF5 = {
    "external link": (lambda g, o: g.__setitem__("bias:0", h5py.ExternalLink(o, "x")), "links.*bias:0"),
    "soft link": (lambda g, o: g.__setitem__("bias:0", h5py.SoftLink("/conv1_1/kernel:0")), "links.*bias:0"),
    "external storage": (
        lambda g, o: g.create_dataset("bias:0", (4,), "f4", external=[(str(o), 0, 16)]),
        "in the file itself.*bias:0",
    ),
    "virtual": (virtual, "in the file itself.*bias:0"),
    "objects": (lambda g, o: g.create_dataset("bias:0", data=["x"] * 4), "floats.*bias:0"),
    "texts": (lambda g, o: g.create_dataset("bias:0", data=np.array([b"ab"] * 4)), "floats.*bias:0"),
    "integers": (lambda g, o: g.create_dataset("bias:0", data=[1, 2]), "floats.*bias:0"),
    "huge": (
        lambda g, o: g.create_dataset("bias:0", (1 << 40,), "f4", chunks=(1 << 20,)),
        "stored whole.*bias:0",
    ),
    "huge, packed": (
        lambda g, o: g.create_dataset("bias:0", (1 << 40,), "f4", chunks=(4,), compression="gzip"),
        "stored whole.*bias:0",
    ),
    "lossy": (
        lambda g, o: g.create_dataset("bias:0", data=np.ones(99), scaleoffset=2),
        "stored whole.*bias:0",
    ),
    "null": (lambda g, o: g.create_dataset("bias:0", data=h5py.Empty("f4")), "whole"),
    "group": (lambda g, o: g.create_group("bias:0"), "bias:0 must be an array"),
    "itself": (lambda g, o: g.__setitem__("bias:0", g), "bias:0 must be an array"),
    "nothing": (lambda g, o: None, "bias:0.*no such member"),
    "names": (lambda g, o: g.attrs.__setitem__("weight_names", [1.0, 2.0]), "weight_names.*texts"),
    "more names": (
        lambda g, o: g.attrs.__setitem__("weight_names", np.full(21_000, b"a")),
        "weight_names.*texts",
    ),
}


@pytest.mark.parametrize("case", HDF5)
def test_hdf5_reaches_nowhere(case, tmp_path):
    other = tmp_path / "other"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(4, np.float32)
    change, match = HDF5[case]
    path = keras2(tmp_path / "w.h5", lambda group: change(group, other))
    refused(path, match)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes to set as a trap")
@pytest.mark.parametrize("name", ["model_weights", "layers", "conv1_1"])
def test_a_group_elsewhere_is_not_opened(name, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    path = keras2(tmp_path / "w.h5", lambda group: None)
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file[name] = h5py.ExternalLink(tmp_path / "pipe", "/")
    refused(path, f"links.*{name}")


@pytest.mark.parametrize("twice", [False, True])
def test_a_group_inside_itself_is_refused(twice, tmp_path):
    path = tmp_path / "w.weights.h5"
    with h5py.File(path, "w") as file:
        layers = file.create_group("layers")
        if not twice:
            layers.create_group("functional")["layers"] = layers
        for _ in range(60 if twice else 0):  # 2 ** 60 paths
            inner = file.create_group(f"g{len(file)}")
            for name in "ab":
                layers.create_group(name)["layers"] = inner
            layers = inner
        layers.create_group("last/vars")
    refused(path, "a tree")


def test_a_damaged_heap_of_texts_does_not_hang(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["conv1_1"]
    with h5py.File(path, "r") as file:
        assert list(file.attrs["layer_names"]) == ["conv1_1"]
    # The free part behind the first text gets number 0 and size 0, which HDF5 1.14 reads for ever.
    at = path.read_bytes().index(b"GCOL") + 16 + 16 + 8
    data = bytearray(path.read_bytes())
    data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    refused(path, "heap")
