"""ssd data stats, fit, split and augment, as a user runs them."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from ssd.tools.data import main

from ssd.anchors import make_anchors
from ssd.boxes import iou, to_centres
from ssd.datasets.ceiling import measure_ceiling
from ssd.datasets.doctor import check
from ssd.datasets.fit import _best_iou, propose_scales
from ssd.datasets.fit import fit as fit_data
from ssd.datasets.parts import deal
from ssd.datasets.read import read_images, read_split, split_names
from ssd.datasets.stats import count, summary
from ssd.images import load_image
from ssd.records import Sample
from ssd.spec import get_spec


def sample(boxes_px, labels=None, size=300, difficult=None):
    """Boxes in pixels of a square photo of 300x300."""
    boxes = np.float32(boxes_px).reshape(-1, 4) / size
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    hard = np.zeros(len(boxes), bool) if difficult is None else np.array(difficult)
    return Sample("a", None, size, size, boxes, labels, hard)


def squares(side, number=60, seed=0):
    """Images of one square each, somewhere."""
    corners = np.random.default_rng(seed).uniform(0, 300 - side, (number, 2))
    return [sample([[x, y, x + side, y + side]]) for x, y in corners]


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def tiny(tmp_path, write_xml):
    """Photos of 1200x900 with 24 objects of 20 to 40 pixels: 5 to 13 in the network's square."""
    root, rng = tmp_path / "tiny", np.random.default_rng(0)
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for i in range(12):
        cv2.imwrite(str(root / f"JPEGImages/{i}.jpg"), np.full((900, 1200, 3), 9 * i, np.uint8))
        x, y = rng.integers(1, 1100, 24), rng.integers(1, 850, 24)
        rows = [
            ("ant", (a, b, a + rng.integers(20, 40), b + rng.integers(20, 40)), False)
            for a, b in zip(x, y, strict=True)
        ]
        write_xml(root / f"Annotations/{i}.xml", 1200, 900, rows)
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{i}\n" for i in range(12)))
    return root


def test_ceiling_by_hand():
    spec = get_spec("ssd300")
    # conv4_3 has a square of 30 pixels around (4, 4) + 8k: IoU 1 there. A box of 20x20 in that place:
    # 400 / 900. One of 12x12: 144 / 900.
    boxes = [[85, 85, 115, 115], [90, 90, 110, 110], [94, 94, 106, 106]]
    found = measure_ceiling([sample([b], [i]) for i, b in enumerate(boxes)], spec, ("a", "b", "c"))
    assert found.by_class == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert (found.boxes, found.ceiling, found.bipartite) == (3, 0.3333, 0.6667)
    assert found.by_size == {"small": 0.3333, "medium": None, "large": None}
    # The bipartite step gives the last two an anchor each; the first has all that overlap it by half.
    anchors = make_anchors(spec)
    own = int((iou(np.float32(boxes[:1]) / 300, anchors) > 0.5).sum())
    assert own > 1
    assert found.anchors_per_box == round((own + 2) / 3, 2)


def test_sizes_are_measured_in_the_square():
    # 100x100 pixels of a photo of 1000x1000 are 30x30 in the square: small.
    found = measure_ceiling([sample([[0, 0, 100, 100]], size=1000)], get_spec("ssd300"), ("a",))
    assert [name for name, share in found.by_size.items() if share is not None] == ["small"]


def test_the_short_way_to_the_best_anchor_is_exact():
    spec, rng = get_spec("ssd300"), np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (400, 2, 2)), axis=1).reshape(400, 4).astype(np.float32)
    exact = iou(corners, make_anchors(spec)).max(1)
    short = np.max([_best_iou(m, to_centres(corners) * 300) for m in spec.feature_maps], axis=0)
    assert np.allclose(exact, short, atol=1e-4)


def test_proposed_scales_raise_the_ceiling_of_tiny_boxes(tiny, tmp_path):
    result = run("fit", tiny, "--json", tmp_path / "fit.json")
    assert result.exit_code == 0
    facts = json.loads((tmp_path / "fit.json").read_text())
    now, then = facts["ceiling"]["ceiling"], facts["proposed"]["ceiling"]["ceiling"]
    assert now < 0.05
    assert then > now + 0.4
    assert facts["proposed"]["min_size"][0] < 15 < facts["scales"]["min_size"][0] == 30
    assert any("the anchors do not fit" in flag for flag in facts["flags"])
    assert any("as the network sees them" in flag for flag in facts["flags"])
    assert "the anchors do not fit" in result.output


def test_scales_that_fit_are_kept():
    spec = get_spec("ssd300")
    assert propose_scales(squares(150), spec) is spec
    facts = fit_data(squares(150), spec, ("a",))
    assert (facts["proposed"], facts["flags"], facts["ceiling"]["ceiling"]) == (None, [], 1.0)


@pytest.mark.parametrize("name", ["ssd300", "ssd300_v1"])
def test_a_proposal_is_a_spec_of_the_same_shape(name):
    spec = get_spec(name)
    better = propose_scales(squares(14, 200), spec)
    assert better.num_anchors == spec.num_anchors
    assert [m.max_size is None for m in better.feature_maps] == [
        m.max_size is None for m in spec.feature_maps
    ]
    mins = [m.min_size for m in better.feature_maps]
    assert mins == sorted(mins)
    ceilings = [measure_ceiling(squares(14, 200), s, ("a",)).ceiling for s in (spec, better)]
    assert ceilings[1] > ceilings[0] + 0.3


def test_nothing_to_fit():
    facts = fit_data([sample([])], get_spec("ssd300"), ("a",))
    assert (facts["ceiling"]["ceiling"], facts["flags"]) == (None, ["there are no boxes"])
    assert measure_ceiling([sample([[0, 0, 9, 9]], difficult=[True])], get_spec("ssd300"), ("a",)).boxes == 0


def test_counts_by_hand():
    samples = [
        sample([[0, 0, 30, 30], [0, 0, 60, 120]], [0, 1], difficult=[False, True]),
        sample([[0, 0, 200, 100]], [1]),
        sample([]),
    ]
    facts = summary(count(samples, ("a", "b")))
    assert (facts["images"], facts["boxes"], facts["difficult"], facts["background"]) == (3, 3, 1, 1)
    a, b = facts["classes"]["a"], facts["classes"]["b"]
    assert (a["boxes"], a["images"], a["small"], a["medium"], a["large"]) == (1, 1, 1, 0, 0)
    assert (b["boxes"], b["images"], b["small"], b["medium"], b["large"]) == (2, 2, 0, 1, 1)
    assert b["aspect"][1] == 1.25  # the middle of 0.5 and 2
    assert a["side"] == [30.0, 30.0, 30.0]


def test_stats_draw_their_charts(mini_voc, tmp_path):
    result = run("stats", mini_voc, "--out", tmp_path / "charts", "--json", tmp_path / "s.json")
    assert result.exit_code == 0
    for name in ("classes", "sizes", "shapes", "objects"):
        assert load_image(tmp_path / f"charts/{name}.png").std() > 5
    assert json.loads((tmp_path / "s.json").read_text())["classes"]["red"]["boxes"] == 2
    assert "4 images (0 without a box), 4 boxes" in result.output


def rare_classes(number=100):
    """Labels of images: one in two common, one in ten rare, two photos of the rarest."""
    from pathlib import Path

    from ssd.datasets.labelled import LabelledImage, LabelledObject

    images = []
    for i in range(number):
        names = ["common"] * (i % 2) + ["rare"] * (i % 10 == 0) + ["rarest"] * (i in (3, 40))
        objects = tuple(LabelledObject(name, (0, 0, 9, 9)) for name in names)
        images.append(LabelledImage(str(i), Path(f"{i}.jpg"), Path(f"{i}.xml"), 10, 10, objects))
    return images


@pytest.mark.parametrize("seed", range(5))
def test_every_class_comes_into_every_part(seed):
    images = rare_classes()
    owner = deal(images, np.arange(100), {"train": 0.8, "val": 0.2}, seed)
    assert owner.count("val") == pytest.approx(20, abs=2)
    for name, total in (("common", 50), ("rare", 10), ("rarest", 2)):
        in_val = sum(
            o == "val" and any(x.name == name for x in i.objects) for i, o in zip(images, owner, strict=True)
        )
        assert 1 <= in_val <= max(1, round(0.2 * total) + 1)


def test_groups_stay_together():
    group = np.arange(100) // 4
    owner = deal(rare_classes(), group, {"a": 0.5, "b": 0.5}, 1)
    assert all(len({owner[i] for i in np.flatnonzero(group == g)}) == 1 for g in range(25))
    assert owner.count("a") == pytest.approx(50, abs=4)


def test_a_split_replaces_nothing_and_keeps_twins_in_one_part(mini_voc):
    photo = mini_voc / "JPEGImages"
    (photo / "0.png").write_bytes((photo / "3.png").read_bytes())  # val 3 is train 0
    assert [f.kind for f in check([mini_voc]).faults] == ["twin_across_splits"]
    before = (mini_voc / "ImageSets/Main/train.txt").read_text()
    result = run("split", mini_voc, "--parts", "train:0.5,val:0.5")
    assert result.exit_code == 1
    assert "there already: train" in result.output
    assert (mini_voc / "ImageSets/Main/train.txt").read_text() == before
    result = run("split", mini_voc, "--parts", "train:0.5,val:0.5", "--overwrite")
    assert result.exit_code == 0
    assert [f.kind for f in check([mini_voc]).faults] == ["twin"]
    ids = [i.image_id for name in ("train", "val") for i in read_images(mini_voc, name)]
    assert sorted(ids) == ["0", "1", "2", "3"]
    again = run("split", mini_voc, "--parts", "train:0.5,val:0.5", "--overwrite")
    assert again.output == result.output


@pytest.mark.parametrize("to", ["coco", "yolo", "csv"])
def test_new_lists_are_splits_in_every_format(mini_voc, tmp_path, to):
    assert run("convert", mini_voc, "--to", to, "--out", tmp_path / to).exit_code == 0
    assert run("split", tmp_path / to, "--parts", "mine:0.5,yours:0.5").exit_code == 0
    assert {"mine", "yours"} <= set(split_names(tmp_path / to))
    both = [s.path.name for name in ("mine", "yours") for s in read_split(tmp_path / to, name, ("red",))]
    assert sorted(both) == ["0.png", "1.png", "2.png", "3.png"]
    file = next((tmp_path / to).rglob("*train.json" if to == "coco" else "train.csv"), None)
    if file:
        assert run("split", file, "--parts", "a:0.4,b:0.6").exit_code == 0
        assert len(read_split(file, "a", ("red",))) + len(read_split(file, "b", ("red",))) == 3


def test_photos_of_a_test_split_are_never_dealt(mini_voc):
    (mini_voc / "ImageSets/Main/test.txt").write_text("3\n")
    assert run("split", mini_voc, "--parts", "a:0.5,b:0.5").exit_code == 0
    ids = [i.image_id for name in ("a", "b") for i in read_images(mini_voc, name)]
    assert sorted(ids) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("parts", "status", "words"),
    [
        ("train:0.5,val:0.4", 1, "sum to 1"),
        ("train:1", 1, "two or more"),
        ("../x:0.5,val:0.5", 1, "letters and digits"),
        ("all:0.5,val:0.5", 1, "not 'all'"),
        ("train", 2, "NAME:SHARE"),
        ("a:0.5,a:0.5", 2, "names of their own"),
    ],
)
def test_parts_that_cannot_be(mini_voc, parts, status, words):
    result = run("split", mini_voc, "--parts", parts, "--overwrite")
    assert (result.exit_code, words in result.output) == (status, True)


def test_a_page_of_views(mini_voc, tmp_path):
    pytest.importorskip("albumentations", reason="needs the extra 'train'")
    assert run("augment", mini_voc, "--out", tmp_path / "p.png", "--images", 2, "--views", 3).exit_code == 0
    page = load_image(tmp_path / "p.png")
    assert page.shape == (2 * 300 + 6, 4 * 300 + 3 * 6, 3)  # the photo and three views, gaps of 6
    result = run("augment", mini_voc, "--out", tmp_path / "p.html", "--views", 2)
    assert result.output == f"3 photos, 2 views of each -> {tmp_path / 'p.html'}\n"
    text = (tmp_path / "p.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 9
    assert "http" not in text  # self-contained
    result = run("augment", mini_voc, "--out", tmp_path / "p.xyz")
    assert (result.exit_code, "known suffix" in result.output) == (1, True)


def test_the_ceiling_of_real_data(shared):
    # Platelets are what SSD300's own scales cannot reach on bccd.
    names = ("Platelets", "RBC", "WBC")
    samples = read_split(shared / "data/bccd", "train", names)[::4]
    facts = fit_data(samples, get_spec("ssd300"), names)
    assert facts["ceiling"]["by_class"]["Platelets"] < 0.6
    assert facts["ceiling"]["by_class"]["RBC"] > 0.99
    assert facts["proposed"]["ceiling"]["by_class"]["Platelets"] > 0.9
