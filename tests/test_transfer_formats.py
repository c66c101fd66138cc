"""Every format: a file in its real layout goes in, and the network answers as an independent one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")
pytest.importorskip("torch", reason="needs torch, for the independent network and its files")

import weight_files as w  # noqa: E402
import weight_files_hdf5 as h  # noqa: E402
import weight_files_torch as t  # noqa: E402
from reference import reference  # noqa: E402

from ssd.card import ModelCard  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.spec import COCO_CLASSES, SPECS, VOC_CLASSES  # noqa: E402
from ssd.transfer.load import describe, load_backbone, transfer  # noqa: E402
from ssd.transfer.plan import Options  # noqa: E402
from ssd.transfer.read import open_weights  # noqa: E402
from ssd.transfer.target import choose_target  # noqa: E402


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """One picture as the network is fed: BGR minus mean."""
    return np.random.default_rng(0).uniform(-120, 130, (1, 300, 300, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def case(image: np.ndarray) -> Callable:
    """Model, arrays and the answer of the independent network for a generation; built once."""
    made = {}

    def make(v1: bool, outputs: int = 21) -> tuple:
        if (v1, outputs) not in made:
            spec = SPECS["ssd300_v1" if v1 else "ssd300" if outputs == 21 else "ssd300_coco"]
            arrays = w.random_arrays(v1, outputs)
            model = build_model(spec, min(outputs - 1, 80))
            made[v1, outputs] = model, arrays, reference(arrays, image, v1=v1)
        return made[v1, outputs]

    return make


def differs(model: keras.Model, image: np.ndarray, expected: tuple) -> float:
    """Largest difference of the two outputs, relative to the largest number of each."""
    outputs = [np.asarray(out) for out in model(image)]
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(outputs, expected, strict=True))


def wipe(model: keras.Model) -> None:
    """Zeros everywhere, so that nothing can be left over from the test before."""
    model.set_weights([np.zeros_like(v) for v in model.get_weights()])


V1 = {
    "keras1-tf": (lambda p, a: h.write_keras1(p, a), "Keras 1 HDF5"),
    "keras1-th-theano": (lambda p, a: h.write_keras1(p, a, "th", "theano"), "Keras 1 HDF5"),
    "keras1-tf-theano": (lambda p, a: h.write_keras1(p, a, "tf", "theano"), "Keras 1 HDF5"),
    "keras1-th-whole": (lambda p, a: h.write_keras1(p, a, "th", whole=True), "Keras 1 HDF5"),
    "keras2": (lambda p, a: h.write_keras2(p, a), "Keras 2 HDF5"),
    "keras2-theano": (lambda p, a: h.write_keras2(p, a, "theano"), "Keras 2 HDF5"),
    "keras2-whole": (lambda p, a: h.write_keras2(p, a, whole=True), "Keras 2 HDF5"),
    "keras3-legacy": (lambda p, a: h.write_keras2(p, a, keras3=True), "Keras 3 HDF5"),
    "caffe-v1-network": (lambda p, a: w.write_caffe(p, a), "Caffe (V2 layers)"),
    "keras3-v1-network": (lambda p, a: h.write_keras3_weights(p, a), "Keras 3 weights"),
}
V2 = {
    "pierluigi": (lambda p, a: h.write_pierluigi(p, a), "Keras 2 HDF5"),
    "pierluigi-checkpoint": (lambda p, a: h.write_pierluigi_checkpoint(p, a), "Keras 2 HDF5"),
    "keras3": (lambda p, a: h.write_keras3_weights(p, a), "Keras 3 weights"),
    "caffe": (lambda p, a: w.write_caffe(p, a), "Caffe (V2 layers)"),
    "caffe-old-layers": (lambda p, a: w.write_caffe(p, a, v1_layers=True), "Caffe (V1 layers)"),
    "caffe-old-shapes": (lambda p, a: w.write_caffe(p, a, legacy_shape=True), "Caffe (V2 layers)"),
    "chainer": (lambda p, a: w.write_chainer(p, a), "Chainer npz"),
    "ssd.pytorch-2017": (lambda p, a: t.write_ssd_pytorch(p, a, old=True, cuda=True), "PyTorch stream"),
    "ssd.pytorch": (lambda p, a: t.write_ssd_pytorch(p, a, old=False), "PyTorch zip"),
    "lufficc": (lambda p, a: t.write_lufficc(p, a), "PyTorch zip"),
    "tensorflow": (lambda p, a: w.write_tf_checkpoint(p, a), "TensorFlow checkpoint"),
}


@pytest.mark.parametrize(
    ("v1", "name"),
    [(True, name) for name in V1] + [(False, name) for name in V2],
)
def test_forward_pass_equals_the_independent_one(v1, name, case, image, tmp_path):
    write, kind = (V1 if v1 else V2)[name]
    model, arrays, expected = case(v1)
    path = tmp_path / "weights"  # no suffix: the content tells
    write(path, arrays)
    with open_weights(path) as file:
        assert file.format == kind
        assert file.size == sum(array.size for layer in arrays.values() for array in layer.values()) + (
            # Caffe's heads on pool6 are 3x3 convolutions of which one tap matters.
            8 * (126 + 24) * 256 if name == "caffe-v1-network" else 0
        )
    wipe(model)
    card = ModelCard("m", "ssd300_v1" if v1 else "ssd300", "vgg16", VOC_CLASSES)
    ledger = transfer(model, card, path, Options(source_spec=card.spec))
    assert differs(model, image, expected) < 1e-4
    assert ledger.sums["re-initialised"] == 0
    assert ledger.new == set()
    for leftover in tmp_path.iterdir():
        leftover.unlink()


def test_torchvision_of_91_classes(case, image, tmp_path):
    model, arrays, (logits, deltas) = case(False, 91)
    t.write_torchvision(tmp_path / "coco.pth", arrays)
    card = choose_target(tmp_path / "coco.pth", Options(), "m")
    assert (card.spec, card.clip, card.class_names) == ("ssd300_coco", "sides", COCO_CLASSES)
    wipe(model)
    ledger = transfer(model, card, tmp_path / "coco.pth")
    gaps = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # COCO ids without a class
    kept = [i for i in range(91) if i not in gaps]
    assert differs(model, image, (logits[..., kept], deltas)) < 1e-4
    # 8,732 anchors on six maps; ten columns less for each of their 30 kinds of anchor.
    assert {row.action for row in ledger.rows} == {"loaded", "converted", "sliced"}


@pytest.mark.parametrize("names", [True, False])  # False: before Keras 3.6
def test_keras_archive(names, case, image, tmp_path):
    model, arrays, expected = case(True)
    h.write_keras3_weights(tmp_path / "w.h5", arrays, names=names)
    h.write_keras_zip(tmp_path / "m.keras", tmp_path / "w.h5", v1=True)
    with open_weights(tmp_path / "m.keras") as file:
        assert file.ordered
        assert [layer.name for layer in file.layers][12] == "conv4_2"
    wipe(model)
    transfer(model, ModelCard("m", "ssd300_v1", "vgg16", VOC_CLASSES), tmp_path / "m.keras")
    assert differs(model, image, expected) < 1e-4


VGG = {
    "keras0-theano": (lambda p, a: h.write_keras0(p, a), "BGR"),
    "keras1-notop": (lambda p, a: h.write_keras_vgg16_notop(p, a), "BGR"),
    "torchvision-features": (lambda p, a: t.write_torchvision_vgg16(p, a), "RGB"),
}


@pytest.mark.parametrize("name", VGG)
def test_backbones_go_into_the_detector(name, case, tmp_path):
    model, _, _ = case(False)
    arrays = w.random_vgg16(top=name != "keras1-notop")
    VGG[name][0](tmp_path / "vgg", arrays)
    wipe(model)
    loaded = load_backbone(model, "vgg16", tmp_path / "vgg")
    convolutions = [name for name in arrays if name.startswith("conv")]
    assert [name for name in loaded if name.startswith("conv")] == convolutions
    for layer in convolutions:
        for own, given in zip(model.get_layer(layer).get_weights(), arrays[layer].values(), strict=True):
            assert np.array_equal(own, given)


def test_full_vgg16_is_subsampled_as_ssd_does(case, tmp_path):
    model, _, _ = case(False)
    arrays = w.random_vgg16(top=True)
    w.write_caffe(tmp_path / "vgg.caffemodel", arrays)
    assert load_backbone(model, "vgg16", tmp_path / "vgg.caffemodel")[-2:] == ["fc6", "fc7"]
    kernel, bias = model.get_layer("fc6").get_weights()
    # Taps 0, 3 and 6 of 7; every fourth of 4096.
    assert np.array_equal(kernel[1, 2, :, 5], arrays["fc6"]["kernel"][3, 6, :, 20])
    assert np.array_equal(bias, arrays["fc6"]["bias"][::4])
    assert np.array_equal(
        model.get_layer("fc7").get_weights()[0][0, 0], arrays["fc7"]["kernel"].reshape(4096, 4096)[::4, ::4]
    )


def test_reduced_vgg16_fills_fc6_and_fc7(case, tmp_path):
    model, _, _ = case(False)
    arrays = w.random_reduced_vgg16()
    t.write_reducedfc(tmp_path / "vgg16_reducedfc.pth", arrays, rgb=True)
    assert load_backbone(model, "vgg16", tmp_path / "vgg16_reducedfc.pth")[-2:] == ["fc6", "fc7"]
    assert np.array_equal(model.get_layer("fc6").get_weights()[0], arrays["fc6"]["kernel"])
    assert np.array_equal(model.get_layer("conv1_1").get_weights()[0], arrays["conv1_1"]["kernel"])


@pytest.mark.parametrize(
    ("write", "stored", "order", "flipped", "torch_file"),
    [
        (lambda p, a: h.write_keras2(p, a), "BGR", "BGR", False, False),
        (lambda p, a: h.write_keras2(p, a), "RGB", "RGB", False, False),
        (lambda p, a: h.write_keras2(p, a, "theano"), "BGR", "BGR", True, False),
        (lambda p, a: h.write_keras1(p, a, "th", "theano"), "RGB", "RGB", True, False),
        # The same file with Theano's turn but without its mark: only the kernel itself can tell.
        (lambda p, a: h.write_keras1(p, a, "tf", "tensorflow"), "turned", "BGR", True, False),
        (lambda p, a: w.write_caffe(p, a), "RGB", "RGB", False, False),
        (lambda p, a: t.write_ssd_pytorch(p, a, rgb=True), "RGB", "BGR", False, True),
    ],
)
def test_order_and_turn_are_read_off_a_kernel(write, stored, order, flipped, torch_file, tmp_path, imagenet):
    arrays = w.random_arrays(v1=not torch_file)
    kernel = imagenet
    if stored == "RGB":
        kernel = kernel[:, :, ::-1]
    if stored == "turned":
        kernel = kernel[::-1, ::-1]
    arrays["conv1_1"]["kernel"] = np.ascontiguousarray(kernel)
    write(tmp_path / "w", arrays)
    with open_weights(tmp_path / "w") as file:
        assert (file.channel_order, file.flipped) == (order, flipped)


@pytest.fixture(scope="module")
def imagenet() -> np.ndarray:
    """conv1_1 of the default model, as the embedded OpenVINO file has it: BGR."""
    import openvino

    from ssd.detector import find_model

    model = openvino.Core().read_model(find_model("default"))
    first = next(op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution")
    scaled = first.input_value(1).get_node()
    scale = scaled.input_value(1).get_node().data.astype(np.float32)
    kernel = scaled.input_value(0).get_node().input_value(0).get_node().data.astype(np.float32) * scale
    return kernel.transpose(2, 3, 1, 0)


def test_the_stored_kernel_is_that_of_the_default_model(imagenet):
    """Both were rounded to -63 to 63, each by a scale of its own, so they are within a step of each other."""
    stored = np.load(Path(__file__).parent.parent / "ssd/transfer/conv1_1.npy").astype(np.float32)
    step = np.maximum(np.abs(stored).max((0, 1, 2)), np.abs(imagenet).max((0, 1, 2))) / 63
    assert (np.abs(stored - imagenet) <= step).all()


def test_imagenets_own_files_agree_with_the_stored_kernel(shared):
    with open_weights(shared / "weights/vgg16_imagenet_notop.weights.h5") as file:
        assert (file.channel_order, file.flipped, file.notes) == ("BGR", False, ())


def test_inception_goes_in_by_order_of_its_kinds(shared, tmp_path):
    model = build_model(SPECS["ssd300"], 2, "inception_v3")
    path = shared / "weights/inception_v3_imagenet_notop.weights.h5"
    assert load_backbone(model, "inception_v3", path) == ["extractor"]
    # As a legacy file with other numbers in its names, the way Keras 2 counted.
    source = keras.applications.InceptionV3(include_top=False, weights=str(path), input_shape=(299, 299, 3))
    write_legacy(tmp_path / "inception.h5", source)
    again = build_model(SPECS["ssd300"], 2, "inception_v3")
    load_backbone(again, "inception_v3", tmp_path / "inception.h5")
    first, second = (m.get_layer("extractor").get_weights() for m in (model, again))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len([s for s in describe(model) if s.name.startswith("extractor/")]) == 52


def write_legacy(path: Path, model: keras.Model) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        names = [f"{layer.name.rstrip('0123456789_')}_{i + 1}" for i, layer in enumerate(model.layers)]
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for name, layer in zip(names, model.layers, strict=True):
            group = file.create_group(name)
            weights = [f"{name}/{v.name}:0" for v in layer.weights]
            group.attrs["weight_names"] = np.array([x.encode() for x in weights], "S80")
            for key, variable in zip(weights, layer.weights, strict=True):
                group[key] = np.asarray(variable)
