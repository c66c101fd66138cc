"""Which layer goes where, classes by name, generations, the ledger: on models without pictures."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_files as w  # noqa: E402
import weight_files_hdf5 as h  # noqa: E402

from ssd.card import ModelCard  # noqa: E402
from ssd.checkpoint import load_checkpoint, read_ledger  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.spec import COCO_CLASSES, SPECS, VOC_CLASSES  # noqa: E402
from ssd.transfer.classes import known_columns, map_classes, parse_classes, read_synonyms  # noqa: E402
from ssd.transfer.ledger import ledger_from_json, ledger_to_json, ledger_to_text  # noqa: E402
from ssd.transfer.load import rehearse, transfer  # noqa: E402
from ssd.transfer.plan import Options  # noqa: E402
from ssd.transfer.target import choose_target  # noqa: E402
from ssd.transfer.write import save_model  # noqa: E402

HEADS = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2"]


@pytest.fixture(scope="module")
def v1_file(tmp_path_factory):
    """weights_SSD300.hdf5 in its real layout, random numbers."""
    path = tmp_path_factory.mktemp("v1") / "weights_SSD300.hdf5"
    h.write_keras2(path, w.random_arrays(True))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    """A Caffe SSD300 of 81 outputs."""
    path = tmp_path_factory.mktemp("coco") / "coco.caffemodel"
    w.write_caffe(path, w.random_arrays(False, 81))
    yield path
    path.unlink()


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
    (remark,) = ledger.remarks
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


def test_classes_map_by_name_and_synonym():
    found = map_classes(known_columns(81), VOC_CLASSES)
    assert found.new == ()
    by_name = dict(zip(VOC_CLASSES, found.columns[1:], strict=True))
    names = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}
    names |= {"pottedplant": "potted plant", "diningtable": "dining table", "dog": "dog"}
    for voc, coco in names.items():
        assert by_name[voc] == 1 + COCO_CLASSES.index(coco)
    own = map_classes(known_columns(21), ("Dog", "wolf"), (("wolf", "cat"),))
    assert own.columns == (0, 1 + VOC_CLASSES.index("dog"), 1 + VOC_CLASSES.index("cat"))
    with pytest.raises(ValueError, match="'motorbike' and 'motorcycle', both 'motorbike'"):
        map_classes(known_columns(21), ("motorbike", "motorcycle"))
    assert map_classes(known_columns(91), ("toothbrush",)).columns == (0, 90)
    assert parse_classes("voc") == VOC_CLASSES


def test_new_classes_start_as_asked_by_hand():
    # Two anchors of background, a, b; wanted: b, new. One number of input.
    kernel = np.array([[0.0, 1, 3, 10, 20, 40]], np.float32)
    columns = ("__background__", "a", "b")
    mean = map_classes(columns, ("b", "new")).apply(kernel)
    assert mean.tolist() == [[0, 3, 2, 10, 40, 30]]
    assert map_classes(columns, ("b", "new"), start="zeros").apply(kernel).tolist() == [[0, 3, 0, 10, 40, 0]]
    random = map_classes(columns, ("b", "new"), start="random", seed=1)
    assert random.apply(kernel)[0, [0, 1, 3, 4]].tolist() == [0, 3, 10, 40]
    assert np.abs(random.apply(kernel)[0, [2, 5]]).max() < 0.05
    assert np.array_equal(random.apply(kernel), random.apply(kernel))
    with pytest.raises(ValueError, match="new classes must start as mean, random, zeros"):
        map_classes(columns, ("b",), start="luck")


def test_synonyms_of_a_file(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("# mine\nwolf, dog  # nearly\n\ndonkey,horse,mule\n")
    assert read_synonyms(path) == (("wolf", "dog"), ("donkey", "horse", "mule"))
    path.write_text("wolf\n")
    with pytest.raises(ValueError, match=r"synonyms.txt line 1"):
        read_synonyms(path)


@pytest.mark.parametrize("names", [VOC_CLASSES, ("zebra", "unicorn", "cat")])
def test_logits_of_carried_classes_stay(names, coco_file):
    whole = build_model(SPECS["ssd300_coco"], 80)
    transfer(whole, ModelCard("m", "ssd300_coco", "vgg16", COCO_CLASSES), coco_file)
    part = build_model(SPECS["ssd300_coco"], len(names))
    ledger = transfer(part, ModelCard("m", "ssd300_coco", "vgg16", names), coco_file)
    image = np.random.default_rng(0).uniform(-120, 130, (1, 300, 300, 3)).astype(np.float32)
    before, deltas = (np.asarray(out) for out in whole(image))
    after, same = (np.asarray(out) for out in part(image))
    found = map_classes(known_columns(81), names)
    kept = [(j, c) for j, c in enumerate(found.columns) if c >= 0]
    assert len(kept) == 1 + len(names) - len(found.new)
    for j, column in kept:
        assert np.abs(after[..., j] - before[..., column]).max() < 1e-5 * np.abs(before).max()
    assert np.array_equal(deltas, same)
    conf = {f"{s}_mbox_conf" for s in (*HEADS, "conv9_2")}
    assert ledger.new == (conf if found.new else set())
    sliced = [r for r in ledger.rows if r.action == "sliced"]
    assert {r.target["name"] for r in sliced} == conf
    assert sliced[0].fresh == sliced[0].parameters * len(found.new) // (1 + len(names))


def test_crossed_generations_are_refused_with_the_remedy(v1_file, coco_file, tmp_path):
    small = build_model(SPECS["ssd300"], 20)
    card = ModelCard("m", "ssd300", "vgg16", VOC_CLASSES)
    with pytest.raises(
        ValueError, match=r"8,732, ssd300. Received: a file with 7,308 anchors.*--spec ssd300_v1"
    ):
        rehearse(small, card, v1_file, Options(skip=("conv9_*",)))
    with pytest.raises(
        ValueError, match=r"ssd300_coco \(its heads have COCO's 81 outputs\).*--source-spec ssd300"
    ):
        rehearse(small, card, coco_file)
    rehearse(small, card, coco_file, Options(source_spec="ssd300"))
    with pytest.raises(ValueError, match="--source-spec must have the file's anchors"):
        rehearse(small, card, coco_file, Options(source_spec="ssd300_v1"))
    # Leaving out what the generations disagree on is allowed: the rest is the same network.
    rest = Options(last="conv7_2")
    assert len(pairs(rehearse(small, card, v1_file, rest))) == 19
    # 21 outputs tell no scales: the name of the file is the only clue, and --spec goes before it.
    voc = tmp_path / "VGG_VOC0712_SSD_300x300_ft_iter_120000.caffemodel"
    w.write_caffe(voc, w.random_arrays(False))
    assert choose_target(voc, Options(), "m").spec == "ssd300_coco"
    assert "probably trained with the scales of ssd300_coco" in rehearse(small, card, voc).remarks[0]
    voc = voc.rename(tmp_path / "VGG_VOC0712_SSD_300x300_iter_120000.caffemodel")
    assert choose_target(voc, Options(), "m").spec == "ssd300"
    assert rehearse(small, card, voc).remarks == ()
    voc.unlink()


def test_heads_that_miss_or_disagree_are_named(tmp_path):
    arrays = w.random_arrays(False)
    card = ModelCard("m", "ssd300", "vgg16", VOC_CLASSES)
    whole = dict(arrays)
    del arrays["conv7_2_mbox_loc"]
    w.write_caffe(tmp_path / "a", arrays)
    with pytest.raises(ValueError, match=r"heads must be complete.*without conv7_2_mbox_loc"):
        choose_target(tmp_path / "a", Options(), "m")
    head = whole["fc7_mbox_conf"]
    whole["fc7_mbox_conf"] = {k: v[..., :120] for k, v in head.items()}
    w.write_caffe(tmp_path / "a", whole)
    with pytest.raises(ValueError, match=r"heads must agree on the count of classes.*fc7_mbox_conf 120"):
        rehearse(build_model(SPECS["ssd300"], 20), card, tmp_path / "a")
    (tmp_path / "a").unlink()


def test_own_classes_of_a_stranger_must_be_told(tmp_path):
    w.write_caffe(tmp_path / "own", w.random_arrays(False, 4))
    with pytest.raises(ValueError, match="--spec must be given"):
        choose_target(tmp_path / "own", Options(), "m")
    with pytest.raises(ValueError, match=r"--classes must be given.*3 classes of unknown names"):
        choose_target(tmp_path / "own", Options(), "m", "ssd300")
    with pytest.raises(ValueError, match=r"source classes must be 3, as the heads say\. Received: 2"):
        choose_target(tmp_path / "own", Options(source_classes="a,b"), "m", "ssd300")
    card = choose_target(tmp_path / "own", Options(source_classes="a,b,c"), "m", "ssd300", classes="c,a")
    ledger = rehearse(
        build_model(SPECS["ssd300"], 2), card, tmp_path / "own", Options(source_classes="a,b,c")
    )
    assert {r.how for r in ledger.rows if r.action == "sliced"} == {("OIHW to HWIO", "2 classes kept, 0 new")}
    (tmp_path / "own").unlink()


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
