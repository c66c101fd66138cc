"""Classes by name, and generations of anchors: what the heads of a file tell and how they are carried."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_files as w  # noqa: E402

from ssd.card import ModelCard  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.spec import COCO_CLASSES, SPECS, VOC_CLASSES  # noqa: E402
from ssd.transfer.classes import known_columns, map_classes, parse_classes, read_synonyms  # noqa: E402
from ssd.transfer.load import rehearse, transfer  # noqa: E402
from ssd.transfer.plan import Options  # noqa: E402
from ssd.transfer.target import choose_target  # noqa: E402

HEADS = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2"]


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    """A Caffe SSD300 of 81 outputs."""
    path = tmp_path_factory.mktemp("coco") / "coco.caffemodel"
    w.write_caffe(path, w.random_arrays(False, 81))
    yield path
    path.unlink()


def pairs(ledger):
    return {r.source["index"]: r.target["index"] for r in ledger.rows if r.source and r.target}


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
    assert rehearse(small, card, voc).remarks == (
        "scales of ssd300 assumed: its heads have VOC's 21 outputs",
        "the classes of the file are taken for those of every file with 21 outputs",
    )
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


def test_classes_are_told_and_checked(v1_file, tmp_path):
    own = ModelCard("m", "ssd300_v1", "vgg16", ("cat", "unicorn"))
    remarks = rehearse(build_model(SPECS["ssd300_v1"], 2), own, v1_file).remarks
    assert "classes kept: cat; new: unicorn; 19 of the file dropped" in remarks
    assert len(parse_classes(",".join(COCO_CLASSES))) == 80
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert parse_classes(str(tmp_path / "names.txt")) == ("cat", "dog")
    with pytest.raises(FileNotFoundError, match=r"a file of class names must exist. Received: 'none\.txt'"):
        parse_classes("none.txt")
    with pytest.raises(ValueError, match="background is no class"):
        parse_classes("background,dog")
