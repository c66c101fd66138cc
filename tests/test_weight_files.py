"""The makers of weight files, checked by readers that are not this program's: NumPy, protobuf, PyTorch
and TensorFlow; those of HDF5 have a test of their own."""

import shutil

import numpy as np
import pytest
import weight_files as makers
import weight_files_torch as pth


@pytest.fixture(scope="module")
def arrays():
    """The second generation, 21 outputs."""
    return makers.random_arrays(v1=False)


@pytest.fixture
def folder(tmp_path):
    """An empty folder whose large files do not outlive the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def numbers(arrays):
    return sum(array.size for values in arrays.values() for array in values.values())


# 26.285 M and 35,641,826 are published; the others follow from the number of outputs of the heads.
@pytest.mark.parametrize(
    ("v1", "outputs", "total"),
    [(False, 21, 26_285_486), (True, 21, 25_765_497), (False, 81, 34_305_206), (False, 91, 35_641_826)],
)
def test_number_of_parameters(v1, outputs, total):
    assert numbers(makers.random_arrays(v1, outputs)) == total


def test_number_of_parameters_of_the_extractors():
    assert numbers(makers.random_vgg16(top=False)) == 14_714_688
    reduced = makers.random_reduced_vgg16()
    assert numbers({name: reduced[name] for name in reduced if name != "fc8"}) == 20_483_904
    top = makers.random_vgg16(width=8)
    assert [top[name]["kernel"].shape for name in ("fc6", "fc7", "fc8")] == [
        (7, 7, 64, 512),
        (512, 512),
        (512, 1000),
    ]


def test_the_seed_decides():
    first, second, other = (makers.random_vgg16(seed, width=2) for seed in (0, 0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name]["kernel"], second[name]["kernel"])
        assert not np.array_equal(first[name]["kernel"], other[name]["kernel"])


def caffe_message():
    """The class of a NetParameter, made of Caffe's field numbers by protobuf itself."""
    pytest.importorskip("google.protobuf", reason="needs protobuf, which comes with TensorFlow")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {"int": 5, "text": 9, "float": 2, "long": 3}
    messages = {
        "Shape": [("dim", 1, "long", True)],
        "Blob": [(n, i, "int", False) for i, n in enumerate(("num", "channels", "height", "width"), start=1)]
        + [("data", 5, "float", True), ("shape", 7, "Shape", False)],
        "Layer": [("name", 1, "text", False), ("type", 2, "text", False), ("blobs", 7, "Blob", True)],
        "V1Layer": [("name", 4, "text", False), ("type", 5, "int", False), ("blobs", 6, "Blob", True)],
        "Net": [("name", 1, "text", False), ("layers", 2, "V1Layer", True), ("layer", 100, "Layer", True)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="net.proto", package="check", syntax="proto2")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for label, number, kind, repeated in fields:
            field = message.field.add(name=label, number=number, label=3 if repeated else 1)
            field.type = kinds.get(kind, 11)
            if field.type == 11:
                field.type_name = f".check.{kind}"
            field.options.packed = kind in ("float", "long")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("check.Net"))


@pytest.mark.parametrize("legacy_shape", [False, True])
@pytest.mark.parametrize("v1_layers", [False, True])
def test_protobuf_reads_caffe(v1_layers, legacy_shape, arrays, folder):
    net = caffe_message()()
    kept = ("conv1_1", "conv4_3_norm", "conv8_2", "conv4_3_norm_mbox_conf")
    first = makers.random_arrays(v1=True)
    some = {name: arrays[name] for name in kept} | {name: first[name] for name in first if "pool6" in name}
    vgg = makers.random_vgg16(width=2)
    some |= {name: vgg[name] for name in ("fc6", "fc8")}
    makers.write_caffe(folder / "net.caffemodel", some, v1_layers, legacy_shape)
    net.ParseFromString((folder / "net.caffemodel").read_bytes())
    assert (len(net.layers) == 0) != v1_layers
    blobs = {}
    for layer in [*net.layers, *net.layer]:
        blobs[layer.name] = []
        for blob in layer.blobs:
            assert blob.HasField("shape") != legacy_shape
            shape = (blob.num, blob.channels, blob.height, blob.width) if legacy_shape else blob.shape.dim
            blobs[layer.name].append(np.array(blob.data, np.float32).reshape(tuple(shape)))
    with_blobs = [name for name in blobs if blobs[name]]
    assert with_blobs == [name.removesuffix("_flat") for name in some]
    assert {"data", "conv1_1_relu", "pool6_mbox_conf_flat", "mbox_loss"} <= set(blobs) - set(with_blobs)
    assert blobs["conv1_1"][0][7, 0, 2, 1] == arrays["conv1_1"]["kernel"][2, 1, 0, 7]
    np.testing.assert_array_equal(blobs["conv4_3_norm"][0].ravel(), arrays["conv4_3_norm"]["scale"])
    dense = first["pool6_mbox_conf_flat"]["kernel"]
    np.testing.assert_array_equal(blobs["pool6_mbox_conf"][0][:, :, 1, 1].T, dense)
    # Fully connected: the input is flattened channel, row, column.
    matrix = blobs["fc6"][0].reshape(128, 16, 7, 7)
    np.testing.assert_array_equal(matrix.transpose(2, 3, 1, 0), vgg["fc6"]["kernel"])
    sizes = [tuple(blob.shape) for blob in blobs["conv8_2"] + blobs["conv4_3_norm"]]
    if legacy_shape:
        assert sizes == [(256, 128, 3, 3), (1, 1, 1, 256), (1, 1, 1, 512)]
    else:
        assert sizes == [(256, 128, 3, 3), (256,), (512,)]


def test_numpy_reads_chainer(arrays, folder):
    makers.write_chainer(folder / "ssd.npz", arrays)
    with np.load(folder / "ssd.npz") as file:
        read = dict(file)
    assert len(read) == 71
    assert sum(array.size for array in read.values()) == 26_285_486
    assert read["extractor/norm4/scale"].shape == (512,)
    assert read["extractor/conv1_1/W"][7, 0, 2, 1] == arrays["conv1_1"]["kernel"][2, 1, 2, 7]
    # Channel 5 of the file is the second anchor's dx, our channel 4; 6 is its dh, our 7.
    kernel, own = read["multibox/loc/1/W"], arrays["fc7_mbox_loc"]["kernel"]
    np.testing.assert_array_equal(kernel[[4, 5, 6, 7], :, 0, 2], own[0, 2][:, [5, 4, 7, 6]].T)
    np.testing.assert_array_equal(read["multibox/conf/5/b"], arrays["conv9_2_mbox_conf"]["bias"])
    np.testing.assert_array_equal(read["extractor/conv8_2/b"], arrays["conv6_2"]["bias"])


# Magic number of the old stream, and of a zip.
OLD, NEW = b"\x80\x02\x8a\nl\xfc\x9cF\xf9", b"PK\x03\x04"


@pytest.mark.parametrize(
    ("write", "options", "old", "first"),
    [
        (pth.write_ssd_pytorch, {}, True, "vgg.0"),
        (pth.write_ssd_pytorch, {"cuda": True}, True, "vgg.0"),
        (pth.write_ssd_pytorch, {"old": False}, False, "vgg.0"),
        (pth.write_lufficc, {}, False, "backbone.vgg.0"),
        (pth.write_torchvision, {}, False, "backbone.features.0"),
    ],
)
def test_torch_reads_its_files(write, options, old, first, arrays, folder):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    write(folder / "ssd.pth", arrays, **options)
    assert (folder / "ssd.pth").read_bytes().startswith(OLD if old else NEW)
    read = torch.load(folder / "ssd.pth", weights_only=True, map_location="cpu")
    state = read["model"] if "iteration" in read else read
    assert len(state) == 71
    assert sum(tensor.numel() for tensor in state.values()) == 26_285_486
    rgb = arrays["conv1_1"]["kernel"][:, :, ::-1].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(state[f"{first}.weight"].numpy(), rgb)
    (norm,) = [tensor for tensor in state.values() if tensor.shape == (512,) and tensor.mean() > 10]
    np.testing.assert_array_equal(norm.numpy(), arrays["conv4_3_norm"]["scale"])


def test_torch_reads_the_extractors(arrays, folder):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    pth.write_reducedfc(folder / "vgg.pth", arrays, rgb=False)
    read = torch.load(folder / "vgg.pth", weights_only=True)
    assert len(read) == 30
    assert sum(tensor.numel() for tensor in read.values()) == 20_483_904
    assert list(read)[-1] == "33.bias"
    assert read["0.weight"][7, 0, 2, 1] == arrays["conv1_1"]["kernel"][2, 1, 0, 7]
    pth.write_torchvision_vgg16(folder / "vgg.pth", makers.random_vgg16(width=4))
    read = torch.load(folder / "vgg.pth", weights_only=True)
    assert len(read) == 32
    assert [name for name in read if torch.isnan(read[name]).any()] == [
        f"classifier.{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias")
    ]


def test_tensorflow_reads_its_checkpoint(arrays, folder):
    tf = pytest.importorskip("tensorflow", reason="needs the extra 'train'")
    prefix = str(folder / "ssd_300_vgg.ckpt")
    makers.write_tf_checkpoint(prefix, arrays)
    shapes = dict(tf.train.list_variables(prefix))
    weights = [name for name in shapes if not name.endswith(("/Momentum", "global_step"))]
    assert (len(shapes), len(weights)) == (76, 71)
    assert sum(int(np.prod(shapes[name])) for name in weights) == 26_285_486
    assert shapes["global_step"] == []
    assert shapes["ssd_300_vgg/block8/conv3x3/weights"] == [3, 3, 256, 512]
    assert shapes["ssd_300_vgg/block11_box/conv_cls/biases"] == [84]
    read = tf.train.load_variable(prefix, "ssd_300_vgg/conv1/conv1_1/weights")
    np.testing.assert_array_equal(read, arrays["conv1_1"]["kernel"][:, :, ::-1])
