"""The classifier's network: published parameter counts, the input stage, the words of a stage."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.classify.network import build_classifier, layer_groups, probabilities, split_top  # noqa: E402
from ssd.classify.spec import (  # noqa: E402
    Network,
    parse_augment,
    parse_input_stage,
    parse_size,
    parse_top,
)
from ssd.stages import choose_layers, freeze_all_but  # noqa: E402

TINY = {"image_size": (32, 32), "cut": "conv2_1", "top": "gap:8"}
ARTICLE_1 = Network(image_size=(32, 32), input_stage="noise:0.01,upsample:2", dropout=0.75)


def published(network: Network, outputs: int) -> int:
    """Parameters, counted on a model without memory for them."""
    with keras.StatelessScope(initialize_variables=False):
        return build_classifier(network, outputs).count_params()


def test_vgg16_from_scratch_has_the_parameters_of_article_4():
    network = Network(image_size=(32, 32), top="flatten:4096,4096")
    assert published(network, 10) == 33_638_218
    small = build_classifier(Network(image_size=(32, 32), top="flatten:4,4"), 10)
    names = [layer.name for layer in small.layers if layer.weights]
    assert names[:3] == ["conv1_1", "conv1_2", "conv2_1"]
    assert names[-4:] == ["conv5_3", "fc6", "fc7", "fc8"]


def test_vgg16_is_the_original_of_1000_classes():
    assert published(Network(top="flatten:4096,4096"), 1000) == 138_357_544


def test_input_stage_in_front_of_vgg16_has_the_parameters_of_article_1():
    model = build_classifier(ARTICLE_1, 10)
    assert model.count_params() == 15_241_802
    groups = layer_groups(model)
    assert sum(model.get_layer(n).count_params() for n in groups["extractor"]) == 14_714_688
    assert sum(model.get_layer(n).count_params() for n in groups["top"]) == 527_114


def test_the_depths_of_article_1():
    """model.layers[1:n] with n = 1, 10, 15, 18, 20 behind noise and up-sampling."""
    model = build_classifier(ARTICLE_1, 10)
    ends = {10: "conv3_1", 15: "conv4_2", 18: "conv5_1", 20: "conv5_3"}
    extractor = [layer.name for layer in model.layers if layer.name.startswith("conv")]
    for depth, last in ends.items():
        frozen = choose_layers(model, f"1:{depth}", set())
        assert frozen == set(extractor[: extractor.index(last) + 1])
    trained, frozen = freeze_all_but(model, layer_groups(model)["top"])
    assert (trained, frozen) == (527_114, 14_714_688)


@pytest.mark.parametrize("size", [(32, 32), (20, 45), (3, 3)])
def test_any_size_goes_in(size):
    model = build_classifier(Network(image_size=size, input_stage="resize:32x48", top="flatten"), 3)
    assert model(np.zeros((2, *size, 3), np.float32)).shape == (2, 3)
    assert model.get_layer("pool5").output.shape[1:] == (1, 2, 512)


def test_batch_norm_stands_behind_every_convolution():
    model = build_classifier(Network(backbone="vgg16_bn", image_size=(32, 32)), 10)
    names = [layer.name for layer in model.layers]
    convs = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convs) == 13
    for name in convs:
        assert names[names.index(name) + 1 :][:2] == [f"{name}_bn", f"{name}_relu"]


@pytest.mark.parametrize("conv", ["conv:3x3x16", "conv:1x5x6"])
def test_a_convolution_in_front_starts_as_identity(conv):
    plain = build_classifier(Network(**TINY), 4)
    fronted = build_classifier(Network(**TINY, input_stage=f"noise:0.5,{conv}"), 4)
    for layer in (layer for layer in plain.layers if layer.weights):
        fronted.get_layer(layer.name).set_weights(layer.get_weights())
    x = np.random.default_rng(0).normal(scale=60, size=(2, 32, 32, 3)).astype(np.float32)
    assert np.allclose(plain(x), fronted(x, training=False), rtol=1e-5, atol=1e-4)
    assert layer_groups(fronted)["input"] == {"input2_conv", "input2_projection"}
    # And it can learn: the channels that are not heard yet have a gradient.
    y = fronted.get_layer("input2_projection")
    assert np.any(np.asarray(y.get_weights()[0]))


def test_noise_is_there_in_training_alone():
    model = build_classifier(Network(**TINY, input_stage="noise:0.1"), 4)
    noise = model.get_layer("input1_noise")
    assert noise.stddev == pytest.approx(25.5)
    x = np.zeros((1, 32, 32, 3), np.float32)
    assert np.array_equal(noise(x, training=False), x)
    assert np.std(noise(x, training=True)) == pytest.approx(25.5, rel=0.1)


def test_a_top_behind_its_map_equals_the_whole():
    model = build_classifier(Network(**TINY | {"cut": "pool2", "top": "flatten:8,4"}), 4)
    base, top = split_top(model)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    assert base.output.shape[1:] == (8, 8, 128)
    assert np.allclose(top(base(x)), model(x), atol=1e-5)


def test_inception_is_one_layer_called_extractor():
    network = Network("inception_v3", "mixed0", (75, 80), top="gap")
    model = build_classifier(network, 3)
    assert [layer.name for layer in model.layers if layer.weights] == ["extractor", "fc8"]
    assert layer_groups(model)["extractor"] == {"extractor"}


def test_probabilities():
    assert probabilities(np.array([[0.0, np.log(3)]])).tolist() == [[0.25, 0.75]]
    assert probabilities(np.array([[np.log(3)], [0.0]]))[:, 1].tolist() == pytest.approx([0.75, 0.5])
    assert probabilities(np.zeros((0, 3))).shape == (0, 3)


def test_lists_are_read():
    assert parse_input_stage("noise:0.01, upsample:2,resize:5x7,conv:3x3x16") == (
        ("noise", (0.01,)), ("upsample", (2.0,)), ("resize", (5, 7)), ("conv", (3.0, 3.0, 16.0)),
    )  # fmt: skip
    assert parse_input_stage("") == ()
    assert parse_top("flatten:4096,4096") == ("flatten", (4096, 4096))
    assert parse_top("gap") == ("gap", ())
    assert parse_augment("mirror,shift:0.1") == {"mirror": 1.0, "shift": 0.1}
    assert parse_augment("none") == {}
    assert parse_size("224") == (224, 224)
    assert parse_size("160x224") == (160, 224)


@pytest.mark.parametrize("text", ["noise", "noise:2", "upsample:0", "resize:0", "conv:3x3", "conv:3x3x4",
                                  "conv:2x3x8", "blur:3", "upsample:999"])  # fmt: skip
def test_a_wrong_input_stage_is_named(text):
    with pytest.raises(ValueError, match=f"input stage|noise must.*Received: '{text}'"):
        Network(input_stage=text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backbone": "resnet"}, "backbone must be one of vgg16"),
        ({"top": "flatten:1,2,3"}, "a top must look like"),
        ({"top": "max:3"}, "a top must look like"),
        ({"dropout": 1.0}, "dropout must be a share"),
        ({"output": "tanh"}, "softmax or sigmoid"),
        ({"image_size": (0, 3)}, "image size must be"),
        ({"scale": 0.0}, "scale must be above 0"),
    ],
)
def test_wrong_fields_are_named(values, words):
    with pytest.raises(ValueError, match=words):
        Network(**values)
    with pytest.raises(ValueError, match=r"sigmoid must have 2 classes\. Received: 3"):
        Network(output="sigmoid").outputs(("a", "b", "c"))


def test_a_cut_that_is_no_map_is_refused():
    with pytest.raises(ValueError, match=r"cut must be one of conv1_1, .*pool5\. Received: 'pool9'"):
        build_classifier(Network(cut="pool9"), 2)
