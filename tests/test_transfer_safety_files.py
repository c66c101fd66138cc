"""Zip files, Caffe's and TensorFlow's from a stranger; files of a wrong name, and of no known format."""

import io
import json
import os
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the extra 'train'")

import weight_files as w  # noqa: E402
import weight_files_hdf5 as h  # noqa: E402
from weight_faults import patch, refused  # noqa: E402

from ssd.transfer.read import FORMATS, open_weights  # noqa: E402


def arrays() -> w.Arrays:
    """Two small layers."""
    rng = np.random.default_rng(0)
    layers = {"conv1_1": (3, 4), "conv1_2": (4, 2)}
    return {
        name: {"kernel": rng.random((3, 3, i, o), np.float32), "bias": np.ones(o, np.float32)}
        for name, (i, o) in layers.items()
    }


# ---- Zip files


def member(array: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def npz(path: Path, members: dict[str, bytes], packed: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


GOOD = {"extractor/conv1_1/b.npy": member(np.ones(4, np.float32))}


class Evil:
    """What an array of objects could hold."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_an_array_of_objects_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = npz(tmp_path / "w.npz", {"conv1_1/b.npy": member(np.array([Evil()]), allow_pickle=True)})
    refused(path, "conv1_1/b")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 100, 200, 1 << 31])
def test_a_member_that_lies_about_its_size(size, tmp_path):
    path = npz(tmp_path / "w.npz", GOOD)
    true = struct.pack("<I", len(GOOD["extractor/conv1_1/b.npy"]))
    patch(path, true * 2, true + struct.pack("<I", size), after=b"PK\x01\x02")  # stored, and said
    refused(path, "conv1_1/b")


def test_names_lead_nowhere(tmp_path):
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    names = ("../../evil", "/tmp/evil", "..\\evil", "C:/evil")
    path = npz(
        folder / "w.npz", GOOD | {f"{name}/W.npy": member(np.ones((1, 1, 3, 3), "f4")) for name in names}
    )
    with open_weights(path) as file:
        assert {layer.name for layer in file.layers} == {"extractor/conv1_1", *names}
        assert [t.read().size for layer in file.layers for t in layer.tensors] == [4, 9, 9, 9, 9]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_members_must_be_unique(tmp_path):
    path = npz(tmp_path / "w.npz", GOOD)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("extractor/conv1_1/b.npy", member(np.zeros(4, np.float32)))
    refused(path, "unique members")


HEADERS = {
    "larger": b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n",
    "negative": b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }\n",
    "deep": b"(" * 9_000 + b"\n",
    "code": b"__import__('os').mkdir('ran')\n",
    "cut": b"{'descr': '''\n",
    "type": b"{'descr': 'O', 'fortran_order': False, 'shape': (2,), }\n",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_lies(header, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(HEADERS[header])) + HEADERS[header] + bytes(16)
    path = npz(tmp_path / "w.npz", {"conv1_1/b.npy": data})
    refused(path, "conv1_1/b")
    assert list(tmp_path.iterdir()) == [path]


def test_a_header_of_python_2_is_read(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4L,), }\n"
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + np.ones(4, np.float32).tobytes()
    with open_weights(npz(tmp_path / "w.npz", {"conv1_1/b.npy": data})) as file:
        assert file.layers[0].tensors[0].read().tolist() == [1, 1, 1, 1]


# ---- Keras archives


@pytest.fixture
def archive(tmp_path) -> Path:
    """A small `.keras` file."""
    h.write_keras3_weights(tmp_path / "inner", arrays())
    h.write_keras_zip(tmp_path / "m.keras", tmp_path / "inner", v1=True)
    (tmp_path / "inner").unlink()
    return tmp_path / "m.keras"


def change(path: Path, members: dict[str, bytes]) -> None:
    """Write a zip again, packed, with other members."""
    with zipfile.ZipFile(path) as old:
        kept = {name: old.read(name) for name in old.namelist()}
    npz(path, kept | members, packed=True)


def test_a_lambda_is_read_past(archive):
    with zipfile.ZipFile(archive) as old:
        config = json.loads(old.read("config.json"))
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    evil = {"class_name": "Lambda", "config": {"name": "evil", "function": code}, "name": "evil"}
    config["config"]["layers"].append(evil)
    change(archive, {"config.json": json.dumps(config).encode(), "../evil.py": b"raise SystemExit"})
    with open_weights(archive) as file:
        assert file.format == "Keras 3 archive"
        assert [(layer.name, layer.size) for layer in file.layers][-1] == ("evil", 0)
        assert np.array_equal(file.find("conv1_1").tensors[1].read(), np.ones(4))
    assert list(archive.parent.iterdir()) == [archive]


CONFIGS = {
    "list": b"[1]",
    "text": b'{"config": "layers"}',
    "numbers": b'{"config": {"layers": [1, 2]}}',
    "deep": b"[" * 100_000,
    "no JSON": b"\xff\xfe",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_that_is_none(config, archive):
    change(archive, {"config.json": CONFIGS[config]})
    refused(archive)


def test_nothing_is_unpacked_a_thousandfold(archive):
    change(archive, {"model.weights.h5": bytes(20_000_000)})
    refused(archive, "100 for each that is stored")
    path = npz(archive.with_name("w.pth"), {"m/data.pkl": bytes(70 << 20)}, packed=True)
    refused(path, "data.pkl must have at most")


# ---- Caffe


def caffe(path: Path) -> Path:
    w.write_caffe(path, arrays())
    return path


def test_a_length_beyond_the_file(tmp_path):
    path = caffe(tmp_path / "w.caffemodel")
    size = path.read_bytes().index(b"\xa2\x06") + 2  # the length of the first layer
    data = path.read_bytes()
    path.write_bytes(data[:size] + b"\xff\xff\xff\xff\x7f" + data[size + 1 :])
    with pytest.raises(ValueError, match=r"w\.caffemodel"):
        open_weights(path)


@pytest.mark.parametrize("number", [b"\xff" * 10 + b"\1", b"\xff" * 9 + b"\1", b"\xff" * 4 + b"\7"])
def test_a_number_without_end(number, tmp_path):
    """Of 11 bytes; of 10, which is -1 to Caffe; of 5, far too large a blob."""
    shape = b"\x3a" + bytes([len(number) + 2]) + b"\x0a" + bytes([len(number)]) + number
    blob = b"\x3a" + bytes([len(shape)]) + shape
    layer = b"\x0a\x07conv1_1\x12\x0bConvolution" + blob
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    refused(path)


# ---- TensorFlow


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    pytest.importorskip("tensorflow", reason="needs the extra 'train'")
    w.write_tf_checkpoint(tmp_path / "m.ckpt", arrays())
    return tmp_path / "m.ckpt"


def numbers(data: bytes, count: int) -> list[int]:
    """Varints in a row."""
    found, shift = [0], 0
    for byte in data:
        found[-1] |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found, shift = [*found, 0], 0
    return found[:count]


def test_a_compressed_block_is_refused(checkpoint):
    index = checkpoint.with_name("m.ckpt.index")
    data = bytearray(index.read_bytes())
    start, size = numbers(data[-48:], 4)[2:]
    data[start + size] = 1  # Snappy
    index.write_bytes(data)
    refused(checkpoint, "compressed")


def test_numbers_beyond_the_shard(checkpoint):
    shard = checkpoint.with_name("m.ckpt.data-00000-of-00001")
    shard.write_bytes(shard.read_bytes()[:20])
    refused(checkpoint, "ssd_300_vgg/conv1/conv1_[12]/(weights|biases)")


def test_a_missing_shard_is_named(checkpoint):
    checkpoint.with_name("m.ckpt.data-00000-of-00001").unlink()
    refused(checkpoint, "m.ckpt.data-00000-of-00001")


def test_one_block_named_again_and_again(tmp_path):
    """Each of a million entries leads to the same block of a million entries."""
    from weight_files import _varint as varint

    entries = b"\0\0\0" * 1_000_000 + b"\1\0\0\0"  # of no name and no value; no restarts
    handle = varint(0) + varint(len(entries))
    index = (b"\0\0" + bytes([len(handle)]) + handle) * 1_000_000 + b"\0\0\0\0"
    footer = b"\0\0" + varint(len(entries) + 5) + varint(len(index))
    data = entries + bytes(5) + index + bytes(5) + footer.ljust(40, b"\0")
    path = tmp_path / "m.ckpt.index"
    path.write_bytes(data + bytes.fromhex("57fb808b247547db"))
    refused(path, "entries")


# ---- By content, never by name


@pytest.mark.parametrize("suffix", [".h5", ".pth", ".caffemodel", ".keras", ".weights.h5", ".npz", ".jpg"])
def test_a_wrong_suffix_does_not_matter(suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    makers = {
        "Caffe (V2 layers)": w.write_caffe,
        "Keras 2 HDF5": h.write_keras2,
        "Chainer npz": w.write_chainer,
    }
    for kind, make in makers.items():
        make(path, arrays())
        with open_weights(path) as file:
            assert file.format == kind
            assert np.array_equal(file.find("conv1_1").tensors[1].read(), np.ones(4))


@pytest.mark.parametrize(
    "name", ["empty", "text", "large text", "folder", "astronaut.jpg", "chelsea.png", "carphone.mp4"]
)
@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_what_is_no_weight_file_is_refused_in_one_sentence(name, suffix, samples, tmp_path):
    path = tmp_path / f"{name}{suffix}"
    made = {"empty": "", "text": "conv1_1 3 3 64\n" * 9, "large text": "0 0.1 0.2 0.3\n" * 3_000_000}
    if name in made:
        path.write_text(made[name])
    elif name == "folder":
        path.mkdir()
    else:
        shutil.copy(samples / name, path)
    refused(path)
    with pytest.raises(ValueError, match="one of") as error:
        open_weights(path)
    assert FORMATS in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.h5"):
        open_weights(tmp_path / "gone.h5")
