"""Which layer goes where, classes by name, generations, the ledger: on models without pictures."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_files as w  # noqa: E402

from ssd.card import ModelCard  # noqa: E402
from ssd.checkpoint import load_checkpoint, read_ledger, save_checkpoint  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.spec import SPECS, VOC_CLASSES  # noqa: E402
from ssd.transfer.ledger import ledger_from_json, ledger_to_json, ledger_to_text  # noqa: E402
from ssd.transfer.load import rehearse, transfer  # noqa: E402
from ssd.transfer.plan import Options  # noqa: E402
from ssd.transfer.target import choose_target  # noqa: E402
from ssd.transfer.write import save_model  # noqa: E402

HEADS = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2"]


@pytest.fixture(scope="module")
def model():
    return build_model(SPECS["ssd300_v1"], 20)


@pytest.fixture(scope="module")
def inception():
    return build_model(SPECS["ssd300_v1"], 20, "inception_v3")


CARD = ModelCard("m", "ssd300_v1", "vgg16", VOC_CLASSES)
WRAPPED = ModelCard("m", "ssd300_v1", "inception_v3", VOC_CLASSES)


def pairs(ledger):
    return {r.source["index"]: r.target["index"] for r in ledger.rows if r.source and r.target}


def test_article_0_by_offset_8(v1_file, inception):
    before = {layer.name: layer.get_weights() for layer in inception.layers}
    ledger = transfer(inception, WRAPPED, v1_file, Options(offset=8, first="conv4_2"))
    moved = pairs(ledger)
    # `for k in range(12, len(layer_names)): model.layers[k - 8].set_weights(f[layer_names[k]])`
    assert moved == {k: k - 8 for k in moved}
    assert sorted(moved) == [
        *(12, 13, 15, 16, 17, 19, 20, 21, 22, 23, 25, 26, 27, 28),
        *range(30, 40),
        *(45, 51),
    ]
    left = {r.source["index"]: r.why for r in ledger.rows if r.action == "left"}
    assert left == dict.fromkeys((1, 2, 4, 5, 7, 8, 9, 11), "skipped on purpose, before --from conv4_2")
    assert ledger.new == {"extractor", "conv4_0", "conv4_1"}
    for name in ("extractor", "conv4_0", "conv4_1"):
        layer = inception.get_layer(name)
        assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[name], strict=True))
    arrays = w.random_arrays(True)
    for name in ("conv4_2", "conv4_3_norm", "conv8_2", "pool6_mbox_conf_flat"):
        for own, given in zip(inception.get_layer(name).get_weights(), arrays[name].values(), strict=True):
            assert np.array_equal(own, given)


def test_sums_equal_the_parameter_counts(v1_file, inception):
    ledger = rehearse(inception, WRAPPED, v1_file, Options(offset=8, first="12"))
    sums = ledger.sums
    model_side = ("loaded", "converted", "sliced", "re-initialised")
    assert sum(sums[a] for a in model_side) == 28_562_521 == sums["model"]
    assert sums["left"] + sums["loaded"] == 25_765_497 == ledger.source["parameters"]
    assert sums["re-initialised"] == 993_056 + 2_359_808 + 2_359_808  # extractor, conv4_0, conv4_1
    assert ledger_from_json(ledger_to_json(ledger)) == ledger
    text = ledger_to_text(ledger)
    assert f"{sums['loaded']:,} loaded" in text
    line = next(row for row in text.splitlines() if row.startswith("12 "))
    assert line.split() == ["12", "conv4_2", "3x3x512x512", "->", "4", "conv4_2", "3x3x512x512", "loaded"]


def test_offset_auto_finds_8_and_says_how_sure(v1_file, inception):
    ledger = rehearse(inception, WRAPPED, v1_file, Options(offset="auto"))
    assert pairs(ledger) == {k: k - 8 for k in pairs(ledger)}
    assert min(pairs(ledger)) == 12
    remark = ledger.remarks[0]
    # 26 layers: from conv4_2 to the last head.
    assert remark.startswith(
        "offset 8 found: 26 layers in a row fit offset 8 (conv4_2 to pool6_mbox_loc_flat)"
    )
    assert "next best: " in remark


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # conv4_3 has the shape of conv4_2: only the name shows the slip.
        (Options(offset=7, first="conv4_2"), r"conv4_2 \(index 12\) goes by offset 7 to conv4_3 .*offset 8"),
        (Options(offset=8, first="conv4_1"), r"conv4_1 \(index 11\).*\(3, 3, 256, 512\).*\(3, 3, 512, 512\)"),
        (Options(offset=8, first="conv9_9"), "--from and --to must be a layer of the file"),
        (Options(offset=8, first="66"), "an index must be 0 to 65"),
        (Options(offset=8, first="conv8_2", last="conv4_2"), "--from must stand before --to"),
        (Options(by=("name",)), r"conv4_1 \(index 11\) does not fit conv4_1.*\(3, 3, 256, 512\)"),
        (Options(skip=("nothing*",)), "--skip must name layers"),
        (Options(by=("luck",)), "--by must be one of name, order"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options, message, v1_file, inception):
    before = inception.get_layer("conv4_2").get_weights()
    with pytest.raises(ValueError, match=message):
        transfer(inception, WRAPPED, v1_file, options)
    after = inception.get_layer("conv4_2").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_modes_mix_and_order_walks_both_lists(v1_file, model, inception):
    heads_by_offset = Options(offset=8, first="conv4_2", by=("name",), skip=("conv[123]_*", "conv4_1"))
    assert len(pairs(rehearse(inception, WRAPPED, v1_file, heads_by_offset))) == 26
    assert len(pairs(rehearse(model, CARD, v1_file, Options(by=("order",))))) == 34
    by_name = rehearse(model, CARD, v1_file, Options(by=("name",), skip=("*_mbox_*",)))
    assert {r.target["name"] for r in by_name.rows if r.action == "re-initialised"} == {
        *(f"{s}_mbox_{k}" for s in HEADS for k in ("conf", "loc")),
        *("pool6_mbox_conf_flat", "pool6_mbox_loc_flat"),
    }
    fine = rehearse(model, CARD, v1_file, Options(first="conv5_1", last="conv7_1"))
    assert sorted(pairs(fine)) == [15, 16, 17, 19, 20, 21, 22, 23]


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5", ".hdf5"])
@pytest.mark.parametrize("backbone", ["vgg16", "inception_v3"])
def test_what_is_written_is_read_again(suffix, backbone, v1_file, model, inception, tmp_path):
    own, card = (model, CARD) if backbone == "vgg16" else (inception, WRAPPED)
    options = Options() if backbone == "vgg16" else Options(offset=8, first="conv4_2")
    ledger = transfer(own, card, v1_file, options)
    before = own.get_weights()
    stored = save_model(tmp_path / f"m{suffix}", own, card, ledger)
    assert stored.result["file"] == f"m{suffix}"
    assert ledger_from_json((tmp_path / f"m{suffix}.ledger.json").read_text()) == stored
    assert {p.name for p in tmp_path.iterdir()} == {f"m{suffix}", f"m{suffix}.ledger.json"}
    own.set_weights([np.zeros_like(v) for v in before])
    again = transfer(own, card, tmp_path / f"m{suffix}")
    assert again.sums["loaded"] == own.count_params()
    assert all(np.array_equal(a, b) for a, b in zip(own.get_weights(), before, strict=True))
    target = choose_target(tmp_path / f"m{suffix}", Options(), "m")
    assert target == card
    if suffix == ".weights.h5":
        loaded, read = load_checkpoint(tmp_path / f"m{suffix}")
        assert read == card
        assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), before, strict=True))
    assert read_ledger(tmp_path / f"m{suffix}").new == ledger.new
    (tmp_path / f"m{suffix}").unlink()


def test_the_legacy_file_has_the_published_names(v1_file, model, tmp_path):
    import h5py

    ledger = transfer(model, CARD, v1_file)
    save_model(tmp_path / "m.hdf5", model, CARD, ledger)
    with h5py.File(v1_file) as old, h5py.File(tmp_path / "m.hdf5") as new:
        assert list(new.attrs["layer_names"]) == list(old.attrs["layer_names"])
        assert len(new.attrs["layer_names"]) == 66
        for name in old.attrs["layer_names"]:
            names = [list(f[name].attrs["weight_names"]) for f in (old, new)]
            assert names[0] == names[1]
            for weight in names[0]:
                assert np.array_equal(old[name][weight], new[name][weight])
    # Keras itself reads it, by the order of the layers with weights.
    model.set_weights([np.zeros_like(v) for v in model.get_weights()])
    model.load_weights(tmp_path / "m.hdf5")
    assert np.array_equal(model.get_layer("fc6").get_weights()[0], w.random_arrays(True)["fc6"]["kernel"])
    with pytest.raises(ValueError, match=r"a model file must end in \.weights\.h5, \.keras, \.h5, \.hdf5"):
        save_model(tmp_path / "m.txt", model, CARD, ledger)


def test_holes_are_no_backbones(inception, tmp_path):
    import h5py

    # One layer of the extractor lost: ImageNet's must not take its place unasked.
    save_checkpoint(tmp_path / "m.weights.h5", inception, WRAPPED)
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        del file["layers/extractor/layers/batch_normalization_25"]
    with pytest.raises(
        ValueError, match=r"extractor/batch_normalization\w* \(index 1\) of the model gets no w"
    ):
        rehearse(inception, WRAPPED, tmp_path / "m.weights.h5")
    # A backbone ends somewhere, but fc6 cannot be missing where conv6_2 is there.
    arrays = {k: v for k, v in w.random_arrays(False).items() if "mbox" not in k and k != "fc6"}
    w.write_caffe(tmp_path / "hole", arrays)
    card = ModelCard("m", "ssd300", "vgg16", VOC_CLASSES)
    with pytest.raises(ValueError, match=r"layer fc6 .* of the model gets no weights"):
        rehearse(build_model(SPECS["ssd300"], 20), card, tmp_path / "hole")
    for path in tmp_path.iterdir():
        path.unlink()


def test_two_layers_cannot_take_one_place(model, tmp_path):
    arrays = w.random_arrays(True)
    arrays["block5_conv1"] = arrays["conv5_1"]
    w.write_caffe(tmp_path / "two", arrays)
    with pytest.raises(ValueError, match=r"block5_conv1 .* is conv5_1, which another layer of the file took"):
        rehearse(model, CARD, tmp_path / "two")
    (tmp_path / "two").unlink()


def test_order_does_not_swap_layers_of_one_shape(model, tmp_path):
    arrays = w.random_arrays(True)
    names = list(arrays)
    i, j = names.index("conv5_1"), names.index("conv5_3")
    names[i], names[j] = names[j], names[i]
    w.write_caffe(tmp_path / "swapped", {name: arrays[name] for name in names})
    with pytest.raises(ValueError, match=r"conv5_3 .* goes by order to conv5_1 .*--by name"):
        rehearse(model, CARD, tmp_path / "swapped", Options(by=("order",)))
    assert len(pairs(rehearse(model, CARD, tmp_path / "swapped"))) == 34
    (tmp_path / "swapped").unlink()


def test_auto_offset_and_names_mix(v1_file):
    cut = build_model(SPECS["ssd300_v1"], 20, "vgg16", "block3_pool")
    card = ModelCard("m", "ssd300_v1", "vgg16", VOC_CLASSES, "block3_pool")
    options = Options(offset="auto", by=("name",), skip=("conv4_1",))
    ledger = rehearse(cut, card, v1_file, options)
    inside = {r.target["name"] for r in ledger.rows if r.source and r.target and "/" in r.target["name"]}
    assert len(inside) == 7  # conv1_1 to conv3_3, by name, inside the extractor
    assert ledger.new == {"conv4_0", "conv4_1"}


def test_what_is_told_goes_before_what_is_found(v1_file, model):
    told = rehearse(model, CARD, v1_file, Options(channel_order="RGB"))
    assert "channels taken as RGB, as told" in told.remarks
    first = next(r for r in told.rows if r.target and r.target["name"] == "conv1_1")
    assert first.how == ("RGB to BGR",)
    turned = rehearse(model, CARD, v1_file, Options(written_by="theano"))
    assert {r.how for r in turned.rows if r.target and r.target["name"] == "fc6"} == {
        ("turned by 180 degrees",)
    }


def test_one_hash_for_all_files_of_a_checkpoint(tmp_path):
    small = build_model(SPECS["ssd300"], 20)
    card = ModelCard("m", "ssd300", "vgg16", VOC_CLASSES)
    w.write_tf_checkpoint(tmp_path / "m.ckpt", w.random_arrays(False))
    names = ("m.ckpt", "m.ckpt.index", "m.ckpt.data-00000-of-00001")
    assert len({rehearse(small, card, tmp_path / name).source["sha256"] for name in names}) == 1
    for path in tmp_path.iterdir():
        path.unlink()
