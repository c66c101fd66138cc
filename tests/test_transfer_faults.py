"""One fault in a true-shape file of every format: refused by name, and the model stays as it was."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_faults as f  # noqa: E402
import weight_files as w  # noqa: E402
import weight_files_hdf5 as h  # noqa: E402
import weight_files_torch as t  # noqa: E402

from ssd.card import ModelCard  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.spec import SPECS, VOC_CLASSES  # noqa: E402
from ssd.transfer.load import load_backbone, transfer  # noqa: E402

SSD = Path(sys.executable).with_name("ssd")
# conv2_1 (128, 64, 3, 3) as Caffe and PyTorch keep it, in and out swapped, and with an input too many.
_CAFFE = b"\x80\x01\x40\x03\x03", b"\x40\x80\x01\x03\x03", b"\x80\x01\x41\x03\x03"
_TORCH = b"(K\x80K@K\x03K\x03", b"(K@K\x80K\x03K\x03", b"(K\x80KAK\x03K\x03"
# TensorFlow's sizes of the last two axes, (3, 3, 64, 128).
_TF = b"\x12\x02\x08\x40\x12\x03\x08\x80\x01", b"\x12\x03\x08\x80\x01\x12\x02\x08\x40"


def hdf5(group: str, old: str, new: str, axes: tuple[int, int] = (2, 3)) -> dict[str, Callable]:
    """Faults in the kernel `old` of conv2_1 in its group; `axes` are its inputs and outputs."""
    return {
        "renamed": lambda p, a: f.rename_hdf5(p, group, old, new),
        "turned": lambda p, a: f.turn(p, f"{group}/{old}", axes),
        "short": lambda p, a: f.shorten(p, f"{group}/{old}"),
        "nan": lambda p, a: f.poison(p, last(a)),
    }


def last(arrays: w.Arrays) -> np.ndarray:
    """The bias of the last head, or of the last convolution: everything before it is good."""
    name = next(n for n in ("pool6_mbox_conf_flat", "conv9_2_mbox_conf", "conv5_3") if n in arrays)
    return arrays[name]["bias"]


def caffe(tag: bytes) -> dict[str, Callable]:
    """Faults in the layer whose name follows a tag."""
    old, turned, more = _CAFFE
    layer = tag + b"\x07conv2_1"
    return {
        "renamed": lambda p, a: f.patch(p, layer, tag + b"\x07conv2_x"),
        "turned": lambda p, a: f.patch(p, old, turned, layer),
        "short": lambda p, a: f.patch(p, old, more, layer),
        "nan": lambda p, a: f.poison(p, last(a)),
    }


def archived(fault: Callable) -> Callable:
    """A fault in the weights inside a `.keras`."""

    def change(path: Path, arrays: w.Arrays) -> None:
        inner = path.with_name("inner")
        shutil.copyfile(path.with_name("keras3.base"), inner)
        fault(inner, arrays)
        h.write_keras_zip(path, inner, v1=True)
        inner.unlink()

    return change


def npz_name(name: str, data: bytes) -> tuple[str, bytes]:
    return name.replace("conv2_1/W", "conv2_x/W"), data


KERAS3 = hdf5("layers/conv2d_2/vars", "0", "x")
VGG5, FEATURES5 = b"vgg.5.weight", b"backbone.features.5.weight"
NPZ = "extractor/conv2_1/W.npy"
# What writes it, its network, its faults, and what an error must name: of conv2_1, and of the NaN.
CASES = {
    "keras0": (
        h.write_keras0,
        "vgg",
        hdf5("layer_6", "param_0", "param_9", (0, 1)),
        "layer_6|param_0",
        "param_1",
    ),
    "keras1-th-theano": (
        lambda p, a: h.write_keras1(p, a, "th", "theano"),
        "v1",
        hdf5("conv2_1", "conv2_1_W", "conv2_x_W", (0, 1)),
        "conv2_[1x]",
        "pool6_mbox_conf_flat_b",
    ),
    "keras1-tf": (
        h.write_keras1,
        "v1",
        hdf5("conv2_1", "conv2_1_W:0", "conv2_x_W:0"),
        "conv2_[1x]",
        "pool6_mbox_conf_flat_b",
    ),
    "keras2": (
        h.write_keras2,
        "v1",
        hdf5("conv2_1", "conv2_1/kernel:0", "conv2_x/kernel:0"),
        "conv2_[1x]",
        "pool6_mbox_conf_flat/bias",
    ),
    "keras2-whole": (
        lambda p, a: h.write_keras2(p, a, whole=True),
        "v1",
        hdf5("model_weights/conv2_1", "conv2_1/kernel:0", "conv2_x/kernel:0"),
        "conv2_[1x]",
        "pool6_mbox_conf_flat/bias",
    ),
    "keras3-legacy": (
        lambda p, a: h.write_keras2(p, a, keras3=True),
        "v1",
        hdf5("conv2_1", "conv2_1/kernel", "conv2_x/kernel"),
        "conv2_[1x]",
        "pool6_mbox_conf_flat/bias",
    ),
    "keras3": (h.write_keras3_weights, "v1", KERAS3, "conv2_1", "pool6_mbox_conf_flat/bias"),
    "keras3-archive": (
        lambda p, a: archived(lambda *_: None)(p, a),
        "v1",
        {name: archived(fault) for name, fault in KERAS3.items()},
        "conv2_1",
        "pool6_mbox_conf_flat/bias",
    ),
    "caffe": (w.write_caffe, "v2", caffe(b"\x0a"), "conv2_[1x]", r"conv9_2_mbox_conf\[1\]"),
    "caffe-old": (
        lambda p, a: w.write_caffe(p, a, v1_layers=True),
        "v2",
        caffe(b"\x22"),
        "conv2_[1x]",
        r"conv9_2_mbox_conf\[1\]",
    ),
    "chainer": (
        w.write_chainer,
        "v2",
        {
            "renamed": lambda p, a: f.rewrite_zip(p, npz_name),
            "turned": lambda p, a: f.patch_zip(p, NPZ, b"(128, 64", b"(64, 128"),
            "short": lambda p, a: f.patch_zip(p, NPZ, b"(128, 64", b"(128, 65"),
            "nan": lambda p, a: f.change_array(p, last(a), lambda raw: f.NAN + raw[4:]),
        },
        "extractor/conv2_[1x]",
        "multibox/conf/5/b",
    ),
    "torch-stream": (
        t.write_ssd_pytorch,
        "v2",
        {
            "renamed": lambda p, a: f.patch(p, VGG5, b"vgg.4.weight"),
            "turned": lambda p, a: f.patch(p, _TORCH[0], _TORCH[1], VGG5),
            "short": lambda p, a: f.patch(p, _TORCH[0], _TORCH[2], VGG5),
            "nan": lambda p, a: f.poison(p, last(a)),
        },
        r"vgg\.[45]",
        r"conf\.5\.bias",
    ),
    "torch-zip": (
        t.write_torchvision,
        "v2",
        {
            "renamed": lambda p, a: f.patch_zip(p, "data.pkl", FEATURES5, b"backbone.features.4.weight"),
            "turned": lambda p, a: f.patch_zip(p, "data.pkl", _TORCH[0], _TORCH[1], FEATURES5),
            "short": lambda p, a: f.change_array(p, a["conv2_1"]["bias"], lambda raw: raw[:-4]),
            "nan": lambda p, a: f.change_array(p, last(a), lambda raw: f.NAN + raw[4:]),
        },
        r"backbone\.features\.[45]",
        r"classification_head\.module_list\.5\.bias",
    ),
    "tensorflow": (
        w.write_tf_checkpoint,
        "v2",
        {
            "renamed": lambda p, a: f.patch(index(p), b"/conv2_1/", b"/conv2_x/"),
            "turned": lambda p, a: f.patch(index(p), *_TF, b"/conv2_1/"),
            "short": lambda p, a: f.patch(index(p), _TF[0][:4], b"\x12\x02\x08\x41", b"/conv2_1/"),
            "nan": lambda p, a: f.poison(shard(p), last(a)),
        },
        "conv2_[1x]",
        "block11_box/conv_cls/biases",
    ),
}
FAULTS = ("renamed", "turned", "short", "nan")
CUTS = (0.001, 0.6, -1)


def index(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def shard(path: Path) -> Path:
    return path.with_name(f"{path.name}.data-00000-of-00001")


@pytest.fixture(scope="module")
def arrays() -> dict[str, w.Arrays]:
    return {"v1": w.random_arrays(True), "v2": w.random_arrays(False), "vgg": w.random_vgg16(top=False)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Where the good files lie, made when they are first asked for."""
    path = tmp_path_factory.mktemp("faults")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def broken(folder: Path, arrays: dict) -> Iterator[Callable]:
    """A copy of a good file, to be broken; it does not outlive the test."""

    def make(name: str) -> Path:
        path, (write, network, *_) = folder / f"{name}.base", CASES[name]
        if name == "keras3-archive" and not (folder / "keras3.base").exists():
            make("keras3")
        if not list(folder.glob(f"{name}.base*")):
            write(path, arrays[network])
        for part in folder.glob(f"{name}.base*"):
            shutil.copyfile(part, folder / part.name.replace(".base", ".broken"))
        return folder / f"{name}.broken"

    yield make
    for part in folder.glob("*.broken*"):
        part.unlink()


@pytest.fixture(scope="module")
def refuse() -> Iterator[Callable]:
    """Asserts that a file does not go into the model, and that it is as it was."""
    models = {"v1": build_model(SPECS["ssd300_v1"], 20), "v2": build_model(SPECS["ssd300"], 20)}
    before = {name: model.get_weights() for name, model in models.items()}
    few = ("conv1_1", "conv2_1", "conv4_3_norm")

    def check(network: str, path: Path, match: str) -> str:
        key = "v1" if network == "v1" else "v2"
        card = ModelCard("x", "ssd300_v1" if network == "v1" else "ssd300", "vgg16", VOC_CLASSES)
        load = load_backbone if network == "vgg" else transfer
        with pytest.raises(ValueError, match=match) as error:
            load(models[key], "vgg16" if network == "vgg" else card, path)
        old = {id(v): b for v, b in zip(models[key].weights, before[key], strict=True)}
        for layer in few:
            for variable in models[key].get_layer(layer).weights:
                assert np.array_equal(variable.numpy(), old[id(variable)])
        return str(error.value)

    yield check
    for name, model in models.items():  # at the end every single one
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before[name], strict=True))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CASES)
def test_one_fault_is_refused_by_name(name, fault, arrays, broken, refuse):
    if name.startswith("torch"):
        pytest.importorskip("torch", reason="needs torch, to write the file")
    _, network, faults, layer, poisoned = CASES[name]
    path = broken(name)
    faults[fault](path, arrays[network])
    text = refuse(network, path, poisoned if fault == "nan" else layer)
    assert "\n" not in text


@pytest.mark.parametrize("keep", CUTS)
@pytest.mark.parametrize("name", CASES)
def test_a_cut_file_is_named(name, keep, broken, refuse):
    if name.startswith("torch"):
        pytest.importorskip("torch", reason="needs torch, to write the file")
    path = broken(name)
    f.cut(index(path) if name == "tensorflow" else path, keep)
    refuse(CASES[name][1], path, f"{name}.broken")


def test_a_cut_shard_is_named(broken, refuse):
    path = broken("tensorflow")
    f.cut(shard(path), -200_000)  # behind the weights lies what an optimiser keeps
    refuse("v2", path, f"conv.*{shard(path).name}")


def test_a_layer_renamed_whole_is_refused_by_name(broken, refuse):
    path = broken("keras2")
    f.rename_layer(path, "/", "conv2_1", "conv2_x")
    refuse("v1", path, "conv2_x")
    path = broken("keras3")
    with f.h5py.File(path, "r+") as file:
        file["layers/conv2d_2/vars"].attrs["name"] = "conv2_x"
    refuse("v1", path, "conv2_x")


@pytest.mark.parametrize(("name", "fault"), [("caffe", "short"), ("keras2", "nan")])
def test_the_command_says_it_in_one_line(name, fault, arrays, broken, tmp_path):
    _, network, faults, _, poisoned = CASES[name]
    path = broken(name)
    faults[fault](path, arrays[network])
    command = [SSD, "transfer", path, "--out", "m.weights.h5"]
    quiet = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}  # else TensorFlow itself writes a line
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=quiet)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert (poisoned if fault == "nan" else "conv2_1") in line
    assert list(tmp_path.iterdir()) == []
