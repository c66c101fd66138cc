import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.anchors import make_anchors  # noqa: E402
from ssd.card import ModelCard  # noqa: E402
from ssd.checkpoint import save_checkpoint  # noqa: E402
from ssd.model import DilatedConv2D, L2Normalize, build_model, set_precision  # noqa: E402
from ssd.spec import SPECS  # noqa: E402
from ssd.transfer.load import load_backbone, transfer  # noqa: E402


# Published: 26.285 M (OpenVINO's model zoo), torchvision's 35,641,826, and the printed summaries of
# public first-generation ports; num_classes here is without background.
@pytest.mark.parametrize(
    ("spec", "classes", "backbone", "parameters"),
    [
        ("ssd300", 20, "vgg16", 26_285_486),
        ("ssd300_coco", 80, "vgg16", 34_305_206),
        ("ssd300_coco", 90, "vgg16", 35_641_826),
        ("ssd300_v1", 20, "vgg16", 25_765_497),
        ("ssd300_v1", 20, "inception_v3", 28_562_521),
    ],
)
def test_parameters(spec, classes, backbone, parameters):
    model = build_model(SPECS[spec], classes, backbone)
    assert model.count_params() == parameters
    anchors = SPECS[spec].num_anchors
    assert [tuple(o.shape) for o in model.outputs] == [(None, anchors, classes + 1), (None, anchors, 4)]


def test_layers_stand_in_the_order_of_the_first_generations_file():
    # Positions in `layer_names` of weights_SSD300.hdf5 (66 layers, the last 14 without weights).
    names = [layer.name for layer in build_model(SPECS["ssd300_v1"], 20).layers]
    sources = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2"]
    positions = {11: "conv4_1", 12: "conv4_2", 19: "fc6", 25: "conv7_2", 27: "conv4_3_norm", 28: "conv8_2"}
    positions |= {45: "pool6_mbox_conf_flat", 51: "pool6_mbox_loc_flat"}
    for index, name in positions.items():
        assert names[index] == name
    assert [n for n in names if n.endswith("_mbox_conf")] == [f"{s}_mbox_conf" for s in sources]
    wrapped = [layer.name for layer in build_model(SPECS["ssd300_v1"], 20, "inception_v3").layers]
    assert wrapped[:5] == ["image", "extractor", "conv4_0", "conv4_1", "conv4_2"]


@pytest.mark.parametrize(
    ("backbone", "cut", "shape", "kernel"),
    [
        ("inception_v3", "mixed2", (35, 35, 288), (4, 4)),
        ("vgg16", "block3_pool", (37, 37, 256), (2, 2)),
        ("vgg16", "block4_pool", (18, 18, 512), (4, 4)),
    ],
)
def test_the_bridge_brings_any_cut_to_38_cells(backbone, cut, shape, kernel):
    model = build_model(SPECS["ssd300"], 2, backbone, cut)
    assert model.get_layer("extractor").output.shape[1:] == shape
    assert model.get_layer("conv4_0").kernel.shape[:2] == kernel
    assert model.get_layer("conv4_0").output.shape[1:] == (38, 38, 512)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="backbone must be one of vgg16, vgg16_bn, inception_v3"):
        build_model(SPECS["ssd300"], 2, "resnet")
    with pytest.raises(ValueError, match=r"cut must be a layer of vgg16.*'mixed2'"):
        build_model(SPECS["ssd300"], 2, "vgg16", "mixed2")
    with pytest.raises(ValueError, match="cut must leave a map"):
        build_model(SPECS["ssd300"], 2, "vgg16", "block1_pool")


def test_l2_normalize_by_hand():
    layer = L2Normalize(20.0)
    out = np.asarray(layer(np.array([[[[3.0, 4.0]]]], np.float32)))
    assert np.allclose(out, [[[[12, 16]]]])  # 20 * (3, 4) / 5
    assert np.isfinite(np.asarray(layer(np.zeros((1, 1, 1, 2), np.float32)))).all()


def test_the_fast_dilated_convolution_is_keras_own():
    import tensorflow as tf

    options = {"dilation_rate": 6, "padding": "same", "activation": "relu"}
    fast, plain = DilatedConv2D(8, 3, **options), keras.layers.Conv2D(8, 3, **options)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 19, 19, 4)).astype(np.float32))
    plain(x), fast(x)
    plain.set_weights(fast.get_weights())
    results = []
    for layer in (fast, plain):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer(x)
            loss = tf.reduce_sum(out * out)
        results.append([out, *tape.gradient(loss, [x, layer.kernel.value])])
    for ours, theirs in zip(*results, strict=True):
        assert np.abs(theirs).max() > 1
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_precision_rounds_what_is_computed_and_no_weight():
    model = build_model(SPECS["ssd300"], 2)
    x = np.random.default_rng(0).normal(0, 60, (1, 300, 300, 3)).astype(np.float32)
    exact = [np.asarray(out) for out in model(x)]
    set_precision(model, "bfloat16")
    rounded = model(x)
    assert [out.dtype for out in rounded] == ["float32", "float32"]
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    for a, b in zip(exact, rounded, strict=True):
        assert 1e-6 < np.abs(a - b).max() < 0.1 * np.abs(a).max()
    set_precision(model, "float32")
    assert all((a == np.asarray(b)).all() for a, b in zip(exact, model(x), strict=True))
    with pytest.raises(ValueError, match=r"one of float32, bfloat16\. Received: 'int8'"):
        set_precision(model, "int8")


def test_batch_normalisation_behind_every_convolution_but_the_heads():
    plain, model = (build_model(SPECS["ssd300"], 2, name) for name in ("vgg16", "vgg16_bn"))
    channels = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 1024  # VGG16, fc6, fc7
    channels += 256 + 512 + 3 * (128 + 256)  # conv6 to conv9
    assert model.count_params() == plain.count_params() + 4 * channels
    assert model.get_layer("conv1_1").activation is keras.activations.linear
    assert model.get_layer("fc6_bn").output.shape == (None, 19, 19, 1024)
    with pytest.raises(ValueError, match="cut must be None for vgg16_bn"):
        build_model(SPECS["ssd300"], 2, "vgg16_bn", "block3_pool")


def test_a_normalised_detector_goes_into_another_of_its_kind(tmp_path, shared):
    card = ModelCard("m", "ssd300", "vgg16_bn", ("cat", "dog"))
    first = build_model(SPECS["ssd300"], 2, "vgg16_bn")
    first.get_layer("fc6_bn").moving_mean.assign(np.arange(1024, dtype=np.float32))
    save_checkpoint(tmp_path / "a.weights.h5", first, card)
    second = build_model(SPECS["ssd300"], 2, "vgg16_bn")
    ledger = transfer(second, card, tmp_path / "a.weights.h5")
    assert not ledger.new
    assert all((a == b).all() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    # The plain VGG16 fills the convolutions; normalisation starts new.
    loaded = load_backbone(second, "vgg16_bn", shared / "weights/vgg16_imagenet_notop.weights.h5")
    assert len(loaded) == 13
    assert "conv1_1_bn" not in loaded


def test_rows_of_the_output_belong_to_the_anchors_in_their_order():
    # Only the head of the coarsest map speaks: its 4 anchors are the last rows, in order.
    model = build_model(SPECS["ssd300"], 1)
    for layer in model.layers:
        if "_mbox_" in layer.name and layer.weights:
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    head = model.get_layer("conv9_2_mbox_loc")
    kernel, bias = head.get_weights()
    head.set_weights([kernel, np.arange(16, dtype=np.float32)])
    deltas = np.asarray(model(np.zeros((1, 300, 300, 3), np.float32))[1])[0]
    assert deltas[-4:].tolist() == np.arange(16).reshape(4, 4).tolist()
    assert not deltas[:-4].any()
    assert len(deltas) == len(make_anchors(SPECS["ssd300"]))
    assert bias.shape == (16,)


def test_vgg16_weights_go_to_the_layers_of_their_names(shared):
    path = shared / "weights/vgg16_imagenet_notop.weights.h5"
    model = build_model(SPECS["ssd300"], 2)
    loaded = load_backbone(model, "vgg16", path)
    assert len(loaded) == 13
    source = keras.applications.VGG16(include_top=False, weights=str(path), input_shape=(300, 300, 3))
    x = np.random.default_rng(0).uniform(-100, 100, (1, 300, 300, 3)).astype(np.float32)
    ours = keras.Model(model.input, model.get_layer("conv3_3").output)(x)
    theirs = keras.Model(source.input, source.get_layer("block3_conv3").output)(x)
    assert np.allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-2)


def test_inception_weights_fill_the_cut_network(shared):
    path = shared / "weights/inception_v3_imagenet_notop.weights.h5"
    model = build_model(SPECS["ssd300"], 2, "inception_v3")
    assert load_backbone(model, "inception_v3", path) == ["extractor"]
    source = keras.applications.InceptionV3(include_top=False, weights=str(path), input_shape=(300, 300, 3))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 300, 300, 3)).astype(np.float32)
    ours = model.get_layer("extractor")(x, training=False)
    theirs = keras.Model(source.input, source.get_layer("mixed2").output)(x, training=False)
    assert np.allclose(np.asarray(ours), np.asarray(theirs), atol=1e-4)


def test_weights_that_do_not_fit_are_named(tmp_path):
    (tmp_path / "a.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"a weight file must be one of: .*a\.weights\.h5"):
        load_backbone(build_model(SPECS["ssd300"], 2), "vgg16", tmp_path / "a.weights.h5")
