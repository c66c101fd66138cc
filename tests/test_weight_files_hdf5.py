"""The makers of Keras' files, checked by Keras and h5py; the reference network by the program's own."""

import json
import shutil
import zipfile

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the extra 'train'")
keras = pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_files as makers  # noqa: E402
import weight_files_hdf5 as hdf5  # noqa: E402
from reference import reference  # noqa: E402

from ssd.model import build_model  # noqa: E402
from ssd.spec import SPECS  # noqa: E402

GENERATIONS = [False, True]


@pytest.fixture(scope="module")
def arrays():
    """v1 or not -> arrays."""
    return {v1: makers.random_arrays(v1) for v1 in GENERATIONS}


@pytest.fixture(scope="module")
def models():
    """v1 or not -> this program's network."""
    return {v1: build_model(SPECS["ssd300_v1" if v1 else "ssd300"], 20) for v1 in GENERATIONS}


@pytest.fixture
def folder(tmp_path):
    """An empty folder whose large files do not outlive the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def fill(model, arrays):
    """None: zeros, so that a file must bring every number."""
    for layer in model.layers:
        if layer.weights:
            new = arrays[layer.name].values() if arrays else [0 * w for w in layer.get_weights()]
            layer.set_weights(list(new))


def holds(model, arrays):
    """Every layer with weights has exactly those arrays."""
    layers = [layer for layer in model.layers if layer.weights]
    assert {layer.name for layer in layers} == set(arrays)
    for layer in layers:
        for own, array in zip(layer.get_weights(), arrays[layer.name].values(), strict=True):
            np.testing.assert_array_equal(own, array)
    return True


@pytest.mark.parametrize("v1", GENERATIONS)
def test_the_reference_and_the_program_are_the_same_network(v1, arrays, models):
    pytest.importorskip("torch", reason="needs PyTorch")
    noise = np.random.default_rng(1).uniform(0, 255, (2, 300, 300, 3))
    images = (noise - [104, 117, 123]).astype(np.float32)
    fill(models[v1], arrays[v1])
    for expected, got in zip(
        reference(arrays[v1], images, v1), models[v1].predict(images, verbose=0), strict=True
    ):
        assert expected.shape == got.shape
        assert 0.3 < expected.std() < 3
        assert np.abs(expected - got).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("v1", "write", "options"),
    [
        (True, hdf5.write_keras1, {}),
        (True, hdf5.write_keras2, {}),
        (True, hdf5.write_keras2, {"keras3": True}),
        (False, hdf5.write_keras2, {"whole": True}),
        (False, hdf5.write_pierluigi, {}),
        (False, hdf5.write_pierluigi_checkpoint, {}),
    ],
)
def test_keras_reads_the_old_layouts_by_name(v1, write, options, arrays, models, folder):
    path = folder / "weights.h5"
    write(path, arrays[v1], **options)
    fill(models[v1], None)
    models[v1].load_weights(path, by_name=True)
    assert holds(models[v1], arrays[v1])


@pytest.mark.parametrize("v1", GENERATIONS)
@pytest.mark.parametrize("names", [True, False])
def test_keras_reads_its_own_layout(v1, names, arrays, models, folder):
    assert hdf5.project_layers(v1) == [(layer.name, type(layer).__name__) for layer in models[v1].layers]
    path = folder / "ssd.weights.h5"
    hdf5.write_keras3_weights(path, arrays[v1], names)
    fill(models[v1], None)
    models[v1].load_weights(path)
    assert holds(models[v1], arrays[v1])


@pytest.mark.parametrize("v1", GENERATIONS)
def test_keras_reads_a_zip(v1, arrays, models, folder):
    path = folder / "ssd.keras"
    hdf5.write_keras3_weights(folder / "inner.h5", arrays[v1])
    hdf5.write_keras_zip(path, folder / "inner.h5", v1)
    fill(models[v1], None)
    models[v1].load_weights(path)
    assert holds(models[v1], arrays[v1])
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))["config"]
    assert [row["name"] for row in config["layers"]] == [layer.name for layer in models[v1].layers]


def test_the_hand_made_layout_is_the_one_keras_writes(arrays, models, folder):
    def listing(path):
        rows = {}
        with h5py.File(path) as file:
            file.visititems(lambda n, x: rows.update({n: (getattr(x, "shape", None), dict(x.attrs))}))
        return rows

    models[True].save_weights(folder / "keras.weights.h5")
    hdf5.write_keras3_weights(folder / "own.weights.h5", arrays[True])
    assert listing(folder / "own.weights.h5") == listing(folder / "keras.weights.h5")


def test_keras_reads_vgg16_without_top(folder):
    path, vgg = folder / "notop.h5", makers.random_vgg16(top=False)
    hdf5.write_keras_vgg16_notop(path, vgg)
    with h5py.File(path) as file:
        assert len(file.attrs["layer_names"]) == 18
        assert list(file.attrs) == ["layer_names"]
        assert file["block1_conv1/block1_conv1_W_1:0"].shape == (3, 3, 3, 64)
    model = keras.applications.VGG16(include_top=False, weights=str(path))
    np.testing.assert_array_equal(model.get_layer("block5_conv3").get_weights()[1], vgg["conv5_3"]["bias"])


def test_names_of_the_layers_in_the_old_layouts(arrays, folder):
    path = folder / "weights.h5"

    def names():
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            return [n.decode() if isinstance(n, bytes) else n for n in root.attrs["layer_names"]]

    hdf5.write_keras1(path, arrays[True], "th", "theano", whole=True)
    positions = {0: "input_1", 24: "zeropadding2d_1", 25: "conv7_2", 27: "conv4_3_norm", 28: "conv8_2"}
    positions |= {29: "pool6", 30: "conv4_3_norm_mbox_conf", 39: "conv8_2_mbox_loc", 65: "predictions"}
    positions |= {45: "pool6_mbox_conf_flat", 51: "pool6_mbox_loc_flat", 53: "pool6_reshaped"}
    assert len(names()) == 66
    assert {i: names()[i] for i in positions} == positions
    with h5py.File(path) as file:
        turned = file["model_weights/conv2_1/conv2_1_W"][:]
        assert len(file["model_weights/pool6"].attrs["weight_names"]) == 0
        config = json.loads(file.attrs["model_config"])
    assert config["config"]["layers"][1]["config"]["dim_ordering"] == "th"
    np.testing.assert_array_equal(turned[5, 4, 0, 2], arrays[True]["conv2_1"]["kernel"][2, 0, 4, 5])

    hdf5.write_pierluigi_checkpoint(path, arrays[False], whole=True)
    positions = {3: "input_channel_swap", 21: "pool5", 33: "conv4_3_norm", 34: "conv9_2", 75: "predictions"}
    positions |= {35: "conv4_3_norm_mbox_conf", 41: "conv4_3_norm_mbox_loc", 46: "conv9_2_mbox_loc"}
    assert len(names()) == 76
    assert {i: names()[i] for i in positions} == positions

    hdf5.write_pierluigi(path, arrays[False])
    assert len(names()) == 36
    assert names()[23:26] == ["conv4_3_norm", "conv4_3_norm_mbox_loc", "conv4_3_norm_mbox_conf"]
    with h5py.File(path) as file:
        assert file["conv4_3_norm/conv4_3_norm/weights_0:0"].shape == (512,)


def test_keras0_numbers_its_layers(folder):
    vgg = makers.random_vgg16(width=8)
    hdf5.write_keras0(folder / "vgg16.h5", vgg)
    pixels = np.random.default_rng(0).normal(size=(7, 7, 64)).astype(np.float32)
    with h5py.File(folder / "vgg16.h5") as file:
        assert file.attrs["nb_layers"] == 37
        with_weights = [i for i in range(37) if file[f"layer_{i}"].attrs["nb_params"]]
        first, dense = file["layer_1/param_0"][:], file["layer_32/param_0"][:]
    assert with_weights == [1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29, 32, 34, 36]
    assert first[5, 2, 0, 1] == vgg["conv1_1"]["kernel"][2, 1, 2, 5]
    expected = np.einsum("ijk,ijko->o", pixels, vgg["fc6"]["kernel"])
    np.testing.assert_allclose(pixels.transpose(2, 0, 1).ravel() @ dense, expected, rtol=1e-3, atol=1e-4)
