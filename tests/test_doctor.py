"""One seeded defect a fixture, each found once; the mended copy has it no more."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ssd.tools.data import main

from ssd.datasets.box_faults import turn_boxes
from ssd.datasets.class_faults import edit_distance
from ssd.datasets.convert import convert
from ssd.datasets.doctor import check
from ssd.datasets.labelled import LabelledImage, LabelledObject
from ssd.datasets.read import find_classes, read_images, read_split
from ssd.images import load_image

HEIGHT, WIDTH = 120, 160


@pytest.fixture
def healthy(tmp_path, write_xml) -> Path:
    """Eight photos of 160x120, six to train on; corners 1 and 160 occur, as in VOC."""
    root = tmp_path / "healthy"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for i in range(8):
        cells = np.random.default_rng(i).integers(0, 255, (5, 7, 3), dtype=np.uint8)
        image = cv2.resize(cells, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(image).save(root / f"JPEGImages/p{i}.jpg", quality=95)
        rows = [("horse", (1, 1, 60 + i, 50), False), ("sheep", (90, 65 + i, 160, 120), False)]
        write_xml(root / f"Annotations/p{i}.xml", WIDTH, HEIGHT, rows)
    (root / "ImageSets/Main/train.txt").write_text("".join(f"p{i}\n" for i in range(6)))
    (root / "ImageSets/Main/val.txt").write_text("p6\np7\n")
    (root / "ImageSets/Main/trainval.txt").write_text("".join(f"p{i}\n" for i in range(8)))
    return root


def relabel(root, old, new, name="p2", count=1):
    path = root / f"Annotations/{name}.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def every(root, change):
    """Pass all corners of all files through a function of four numbers."""
    for path in (root / "Annotations").glob("*.xml"):
        pattern = r"<xmin>(\d+)</xmin>\s*<ymin>(\d+)</ymin><xmax>(\d+)</xmax>\s*<ymax>(\d+)</ymax>"

        def put(found):
            values = change(*map(int, found.groups()))
            tags = zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True)
            return "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)

        path.write_text(re.sub(pattern, put, path.read_text()))


def seed_part_only(root):
    relabel(root, "<bndbox>", "<part><name>head</name><bndbox>")
    relabel(root, "</bndbox>", "</bndbox></part>")


def seed_part_as_object(root):
    corners = "<xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax>"
    head = f"<name>head</name><bndbox>{corners}</bndbox>"
    relabel(root, "</object>", f"<part>{head}</part></object><object>{head}</object>")


def seed_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "JPEGImages/p2.jpg"
    with Image.open(path) as image:
        image.save(path, quality=95, exif=exif)


def seed_truncated(root):
    path = root / "JPEGImages/p2.jpg"
    path.write_bytes(path.read_bytes()[:-400])


def seed_exact_twin(root):
    shutil.copyfile(root / "JPEGImages/p6.jpg", root / "JPEGImages/p2.jpg")


def seed_near_twin(root):
    image = load_image(root / "JPEGImages/p6.jpg")
    Image.fromarray(image).save(root / "JPEGImages/p2.jpg", quality=60)


def seed_listed_in_both(root):
    with open(root / "ImageSets/Main/val.txt", "a") as file:
        file.write("p2\n")


def seed_duplicate_box(root):
    text = (root / "Annotations/p2.xml").read_text()
    first = text[text.index("<object>") : text.index("</object>") + len("</object>")]
    relabel(root, "</annotation>", first + "</annotation>")


def seed_small_copy(root):
    image = cv2.resize(load_image(root / "JPEGImages/p2.jpg"), (80, 60))
    Image.fromarray(image).save(root / "JPEGImages/p2.jpg", quality=95)


# name -> kind that must be found, how to seed it, what the text must hold
SEEDS = {
    "part only": ("part_box", seed_part_only, "p2.xml"),
    "part as object": ("part_box", seed_part_as_object, "object 2 (head"),
    "a zero in VOC": ("zero_based", lambda r: relabel(r, "<xmin>1<", "<xmin>0<"), "1 of 16 boxes have a 0"),
    "all from 0": ("zero_based", lambda r: every(r, lambda *v: [x - 1 for x in v]), "8 of 16 boxes"),
    "columns of all": ("swapped_columns", lambda r: every(r, lambda a, b, c, d: (b, a, d, c)), "ymin, xmin"),
    "pairs of all": ("swapped_columns", lambda r: every(r, lambda a, b, c, d: (a, c, b, d)), "xmin, xmax"),
    "sides for corners": (
        "swapped_columns",
        lambda r: every(r, lambda a, b, c, d: (a, b, c - a, d - b)),
        "x, y, width, height",
    ),
    "columns of one": (
        "swapped_columns",
        lambda r: relabel(
            r, "<xmin>1</xmin>\n<ymin>1</ymin><xmax>62<", "<xmin>62</xmin>\n<ymin>1</ymin><xmax>1<"
        ),
        "xmin is above xmax",
    ),
    "no area": ("zero_area", lambda r: relabel(r, "<xmax>62<", "<xmax>1<"), "object 1"),
    "out of image": ("out_of_image", lambda r: relabel(r, "<xmax>160<", "<xmax>167<"), "reaches 7 pixels"),
    "misspelt": ("misspelt_class", lambda r: relabel(r, "horse", "hores"), "should be 'horse'"),
    "other case": ("misspelt_class", lambda r: relabel(r, "sheep", "Sheep"), "should be 'sheep'"),
    "no name": ("unreadable_label", lambda r: relabel(r, "horse", ""), "object 1 must have a <name>"),
    "turned": ("exif_rotation", seed_exif, "labels are for 160x120, but EXIF orientation 6 shows 120x160"),
    "wrong size": ("size_mismatch", lambda r: relabel(r, "<width>160", "<width>200"), "says 200x120"),
    "no size": ("size_mismatch", lambda r: relabel(r, "<width>160", "<width>0"), "says 0x120"),
    "smaller photo": ("size_mismatch", seed_small_copy, "the photo has 80x60"),
    "twin in val": ("twin_across_splits", seed_exact_twin, "(train) is the same file as p6.jpg (val)"),
    "near twin in val": ("near_twin_across_splits", seed_near_twin, "(train) looks like p6.jpg (val)"),
    "in both lists": ("twin_across_splits", seed_listed_in_both, "lists of val and train"),
    "cut photo": ("unreadable_image", seed_truncated, "p2.jpg: the photo cannot be read"),
    "no photo": ("missing_image", lambda r: (r / "JPEGImages/p2.jpg").unlink(), "p2.jpg"),
    "text for photo": ("unreadable_image", lambda r: (r / "JPEGImages/p2.jpg").write_text("hi"), "p2.jpg"),
    "no labels": ("missing_label", lambda r: (r / "Annotations/p2.xml").unlink(), "p2.xml"),
    "broken labels": ("unreadable_label", lambda r: relabel(r, "</object>", ""), "p2.xml"),
    "same box twice": ("duplicate_box", seed_duplicate_box, "object 3 (horse 0, 0, 62, 50; pixels from 0)"),
}


def test_a_healthy_data_set_gives_no_alarm(healthy):
    report = check([healthy])
    assert (report.faults, report.images, report.boxes, report.errors) == ([], 8, 16, 0)
    result = CliRunner().invoke(main, ["check", str(healthy), "--classes", "horse,sheep"])
    assert result.exit_code == 0
    assert result.output == "8 images, 16 boxes: 0 errors, 0 warnings, 0 notes\n"


@pytest.mark.parametrize("name", SEEDS)
def test_a_seeded_defect_is_found_once_and_mended(healthy, name, tmp_path):
    kind, seed, words = SEEDS[name]
    seed(healthy)
    before = {p: p.read_bytes() for p in healthy.rglob("*") if p.is_file()}
    arguments = ["check", str(healthy), "--fix", str(tmp_path / "mended"), "--json", str(tmp_path / "f.json")]
    result = CliRunner().invoke(main, arguments)
    found = json.loads((tmp_path / "f.json").read_text())["faults"]
    assert [fault["kind"] for fault in found] == [kind]
    assert words in f"{Path(found[0]['file']).name}: {found[0]['text']}"
    assert found[0]["remedy"] in result.output
    assert result.exit_code == (1 if found[0]["level"] == "error" else 0)
    assert before == {p: p.read_bytes() for p in healthy.rglob("*") if p.is_file()}
    if kind != "near_twin_across_splits":
        assert check([tmp_path / "mended"]).faults == []
    assert find_classes(tmp_path / "mended", "all") == ("horse", "sheep")


@pytest.mark.parametrize(
    "name",
    ["all from 0", "columns of all", "pairs of all", "sides for corners", "columns of one", "misspelt"],
)
def test_mending_brings_the_right_boxes_back(healthy, name, tmp_path):
    def labels(root):
        return [[(o.name, o.box_px) for o in image.objects] for image in read_images(root, "trainval")]

    right = labels(healthy)
    SEEDS[name][1](healthy)
    assert labels(healthy) != right
    CliRunner().invoke(main, ["check", str(healthy), "--fix", str(tmp_path / "mended")])
    assert labels(tmp_path / "mended") == right


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_opencv_turns_the_photo(tmp_path, orientation):
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[8:16, 16:48] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    seen = load_image(tmp_path / "a.png")
    image = LabelledImage("a", Path(), Path(), 40, 64, (LabelledObject("x", (16, 8, 48, 16)),))
    turned = turn_boxes(image, orientation, 40, 64)
    assert (turned.height, turned.width) == seen.shape[:2]
    ys, xs = np.nonzero(seen[..., 0])
    assert turned.objects[0].box_px == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_labels_that_know_the_rotation_are_left_alone(healthy):
    seed_exif(healthy)
    relabel(healthy, "<width>160</width><height>120", "<width>120</width><height>160")
    every(healthy, lambda *v: [min(x, 110) for x in v])
    assert check([healthy]).faults == []


def test_a_turn_that_keeps_the_size_is_a_warning(healthy):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = healthy / "JPEGImages/p2.jpg"
    with Image.open(path) as image:
        image.save(path, quality=95, exif=exif)
    assert [(f.kind, f.level) for f in check([healthy]).faults] == [("exif_unsure", "warning")]


def test_background_and_unlisted_photos_are_notes(healthy, write_xml):
    write_xml(healthy / "Annotations/p2.xml", WIDTH, HEIGHT, [])
    write_xml(healthy / "Annotations/p9.xml", WIDTH, HEIGHT, [])
    shutil.copyfile(healthy / "JPEGImages/p0.jpg", healthy / "JPEGImages/p9.jpg")
    faults = check([healthy]).faults
    assert [(f.kind, f.level) for f in faults] == [("background", "note"), ("unlisted", "note")]


def test_real_parts_are_a_note(healthy):
    corners = "<xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax>"
    relabel(healthy, "</object>", f"<part><name>head</name><bndbox>{corners}</bndbox></part></object>")
    assert [(f.kind, f.level) for f in check([healthy]).faults] == [("part_boxes", "note")]


def test_classes_beyond_the_list_are_named_once(healthy):
    faults = check([healthy], class_names=("horse", "cow")).faults
    assert [f.kind for f in faults] == ["unknown_class"]
    assert "class 'sheep' of 8 boxes" in faults[0].text


def test_names_that_are_all_real_are_not_misspelt(healthy):
    # "boat" beside many "goat", "car" beside many "cat", "player2" beside many "player1"
    for old, new in (("horse", "goat"), ("sheep", "player1")):
        for path in (healthy / "Annotations").glob("*.xml"):
            path.write_text(path.read_text().replace(old, new))
    relabel(healthy, "goat", "boat")
    relabel(healthy, "player1", "player2")
    assert check([healthy]).faults == []


def test_twins_across_two_data_sets_are_found(healthy, tmp_path):
    shutil.copytree(healthy, tmp_path / "other")
    kinds = [f.kind for f in check([healthy, tmp_path / "other"]).faults]
    assert kinds == ["twin"] * 8  # the lists are the same, so each twin lies in the same split


@pytest.mark.parametrize("to", ["coco", "yolo", "csv"])
def test_other_formats_are_examined_as_well(healthy, tmp_path, to):
    convert(healthy, to, tmp_path / to)
    assert check([tmp_path / to]).faults == []
    relabel(healthy, "<xmax>160<", "<xmax>167<")
    relabel(healthy, "horse", "hores", "p3")
    convert(healthy, to, tmp_path / f"{to}-faults")
    kinds = [f.kind for f in check([tmp_path / f"{to}-faults"]).faults]
    assert kinds == ["misspelt_class", "out_of_image"]


def test_a_number_without_a_name_is_an_unknown_class(healthy, tmp_path):
    convert(healthy, "yolo", tmp_path / "yolo")
    path = tmp_path / "yolo/labels/p2.txt"
    path.write_text(path.read_text().replace("1 ", "7 ", 1))
    faults = check([tmp_path / "yolo"]).faults
    assert [(f.kind, f.file) for f in faults] == [("unknown_class", path)]
    assert "class 'class 7' of 1 boxes (first: line 2) is not known" in faults[0].text


def test_coco_corners_from_1_are_found(healthy, tmp_path):
    convert(healthy, "coco", tmp_path / "coco")
    for path in (tmp_path / "coco/annotations").glob("*.json"):
        content = json.loads(path.read_text())
        for row in content["annotations"]:
            row["bbox"][0] += 1
            row["bbox"][1] += 1
        path.write_text(json.dumps(content))
    faults = check([tmp_path / "coco"]).faults
    assert [f.kind for f in faults] == ["one_based"]
    assert "8 of 16 boxes end one pixel beyond" in faults[0].text


def test_data_sets_without_photos(tmp_path, write_xml):
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("")
    (tmp_path / "Annotations").mkdir()
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert (result.exit_code, "must hold images" in result.output) == (1, True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("gone\n")
    write_xml(tmp_path / "Annotations/gone.xml", 9, 9, [("a", (1, 1, 9, 9), False)])
    assert [f.kind for f in check([tmp_path]).faults] == ["missing_image"]


def test_the_mended_copy_never_replaces_anything(healthy):
    result = CliRunner().invoke(main, ["check", str(healthy), "--fix", str(healthy)])
    assert result.exit_code == 1
    assert "must be a new folder" in result.output
    result = CliRunner().invoke(main, ["check", str(healthy), str(healthy), "--fix", "x"])
    assert result.exit_code == 2


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_a_distance(a, b):
    assert edit_distance(a, b) == edit_distance(b, a) <= max(len(a), len(b))
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance("horse", "hores") == 1
    assert edit_distance("kitten", "sitting") == 3


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("voc_animals", {"part_boxes": 1}),
        ("coco_mini", {}),
        ("coco_mini/instances_train.json", {}),
        # BloodImage_00037 and _00038 are two shots of one field; four raccoons are in train and val, two of
        # them as the same file.
        ("bccd", {"near_twin_across_splits": 1}),
        ("raccoon", {"twin_across_splits": 2, "near_twin_across_splits": 2, "twin": 2, "near_twin": 1}),
    ],
)
def test_no_false_alarm_on_real_data(shared, name, kinds):
    found = [fault.kind for fault in check([shared / "data" / name]).faults]
    assert {kind: found.count(kind) for kind in found} == kinds
    if name == "bccd":
        samples = read_split(shared / "data" / name, "train", ("RBC",))
        assert sum(len(s.boxes) for s in samples) == 2381  # as its README counts
