"""COCO JSON, YOLO text, CSV and lists of images beside VOC folders, told by one door."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from ssd.tools.data import main

from ssd.datasets.convert import convert
from ssd.datasets.labelled import LabelledImage, inside, read_list, select
from ssd.datasets.read import find_classes, find_format, read_images, read_split, split_names

FORMATS = ("voc", "coco", "yolo", "csv")


def facts(data, split):
    """Everything that must survive a change of layout."""
    return [
        (i.path.name, i.height, i.width, [(o.name, o.box_px) for o in i.objects])
        for i in read_images(data, split)
    ]


def coco(path: Path, boxes: list, **image) -> Path:
    """A COCO file of one image of 160x120 and rows of (category, x, y, width, height, iscrowd)."""
    rows = [
        {"id": n, "image_id": 7, "category_id": c, "bbox": box, "iscrowd": crowd, "area": 12.5}
        for n, (c, *box, crowd) in enumerate(boxes, start=1)
    ]
    image = {"id": 7, "file_name": "0.png", "width": 160, "height": 120} | image
    categories = [{"id": 3, "name": "red"}, {"id": 90, "name": "blue"}]
    path.write_text(json.dumps({"images": [image], "categories": categories, "annotations": rows}))
    return path


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("through", FORMATS)
def test_round_trips_are_exact(mini_voc, tmp_path, write_xml, through, to):
    write_xml(mini_voc / "Annotations/2.xml", 160, 120, [])  # a photo of background
    convert(mini_voc, through, tmp_path / "a")
    convert(tmp_path / "a", to, tmp_path / "b")
    for folder, kind in (("a", through), ("b", to)):
        assert find_format(tmp_path / folder) == kind
        assert set(split_names(tmp_path / folder)) == {"train", "val"}
        for split in ("train", "val", "all"):
            assert facts(tmp_path / folder, split) == facts(mini_voc, split)
    samples = [read_split(root, "train", ("red", "blue")) for root in (mini_voc, tmp_path / "b")]
    for one, other in zip(*samples, strict=True):
        assert (one.boxes == other.boxes).all()
        assert (one.labels == other.labels).all()
        assert one.path.read_bytes() == other.path.read_bytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
def test_whole_pixels_survive_division(tmp_path_factory, height, width, data):
    from ssd.datasets import yolo
    from ssd.datasets.labelled import LabelledObject

    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (x, y, data.draw(st.integers(x + 1, width)), data.draw(st.integers(y + 1, height)))
    image = LabelledImage("a", Path("a"), Path("a"), height, width)
    line = yolo._line(LabelledObject("red", box), ["red"], image)
    assert yolo._object(line, 1, Path("a"), {0: "red"}, height, width).box_px == box


def test_links_in_place_of_copies(mini_voc, tmp_path):
    result = CliRunner().invoke(
        main, ["convert", str(mini_voc), "--to", "yolo", "--out", str(tmp_path / "y"), "--link"]
    )
    assert result.output == f"train 3, val 1 images -> {tmp_path / 'y'}\n"
    assert (tmp_path / "y/images/0.png").is_symlink()
    assert len(read_split(tmp_path / "y", "train", ("red",))) == 3


def test_nothing_is_left_of_a_conversion_that_fails(mini_voc, tmp_path):
    (mini_voc / "JPEGImages/3.png").unlink()
    result = CliRunner().invoke(main, ["convert", str(mini_voc), "--to", "csv", "--out", str(tmp_path / "c")])
    assert result.exit_code == 1
    assert "3.jpg" in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mini"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c/mine").touch()
    with pytest.raises(FileExistsError, match="must be a new folder"):
        convert(mini_voc, "csv", tmp_path / "c")


def test_photos_of_one_name_get_names_of_their_own(mini_voc, tmp_path):
    for split in ("train", "val"):
        convert(mini_voc, "yolo", tmp_path / split, splits=(split,))
    root = tmp_path / "both"
    for split, photo in (("train", "0"), ("val", "3")):
        for kind, end in (("images", "png"), ("labels", "txt")):
            (root / kind / split).mkdir(parents=True)
            text = (tmp_path / split / kind / f"{photo}.{end}").read_bytes()
            (root / kind / split / f"same.{end}").write_bytes(text)
    (root / "classes.txt").write_text("red\n")
    assert split_names(root) == ("train", "val")
    convert(root, "voc", tmp_path / "voc")
    assert [i.image_id for i in read_images(tmp_path / "voc", "all")] == ["same", "val_same"]


def test_coco_boxes_crowd_and_unknown_classes(mini_voc):
    path = coco(mini_voc / "JPEGImages/boxes.json", [(3, 10, 20, 30, 40, 0), (90, 0, 0, 160, 120, 1)])
    assert find_format(path) == "coco"
    assert split_names(path) == ("boxes",)
    sample = read_split(path, "all", ("blue", "red"))[0]
    assert (sample.image_id, sample.height, sample.width) == ("7", 120, 160)
    assert np.allclose(sample.boxes, [[10 / 160, 20 / 120, 40 / 160, 60 / 120], [0, 0, 1, 1]])
    assert (sample.labels.tolist(), sample.difficult.tolist()) == ([1, 0], [False, True])
    assert sample.crowd.tolist() == [False, True]
    assert len(read_split(path, "all", ("red",))[0].boxes) == 1
    assert read_images(path, "all")[0].objects[0].area == 12.5


@pytest.mark.parametrize("place", ["", "images", "train2017", "images/train2017", "JPEGImages"])
def test_coco_photos_are_found_where_they_use_to_be(mini_voc, tmp_path, place):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / "0.png").write_bytes((mini_voc / "JPEGImages/0.png").read_bytes())
    file = coco(root / "annotations/instances_train2017.json", [])
    for data in (root, file):
        assert split_names(data) == ("train",)
        assert read_split(data, "train", ("red",))[0].path == root / place / "0.png"


def test_annotations_without_photos(mini_voc):
    path = coco(mini_voc / "a.json", [(3, 1, 1, 5, 5, 0)], file_name="gone.jpg")
    with pytest.raises(FileNotFoundError, match="image 7 of split all is not in"):
        read_split(path, "all", ("red",))
    assert len(read_split(path, "all", ("red",), photos=False)[0].boxes) == 1
    for photo in (mini_voc / "JPEGImages").iterdir():
        photo.unlink()
    assert len(read_split(mini_voc, "val", ("red", "blue"), photos=False)[0].boxes) == 1


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        ({"train": "images/train", "val": "images/val"}, ("train", "val")),
        ({"path": "../somewhere", "train": "../images/train", "val": "images/val"}, ("train", "val")),
        ({"path": "/data/mine", "train": ["images/train"]}, ("train",)),
        ({}, ("train", "val")),
    ],
)
def test_yolo_splits_of_data_yaml(mini_voc, tmp_path, layout, splits):
    root = tmp_path / "yolo"
    for i, split in enumerate(("train", "val")):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        (root / f"images/{split}/{i}.png").write_bytes((mini_voc / f"JPEGImages/{i}.png").read_bytes())
        (root / f"labels/{split}/{i}.txt").write_text(f"{i} 0.5 0.5 0.25 0.5\n")
    (root / "data.yaml").write_text(json.dumps(layout | {"names": {0: "red", 1: "blue"}, "nc": 2}))
    assert split_names(root) == split_names(root / "data.yaml") == splits
    assert facts(root, "train") == [("0.png", 120, 160, [("red", (60, 30, 100, 90))])]


def test_yolo_polygons_scores_and_photos_beside_labels(mini_voc, tmp_path):
    root = tmp_path / "flat"
    root.mkdir()
    for i, line in enumerate(("0 0.1 0.1 0.3 0.2 0.2 0.5", "1 0.5 0.5 0.25 0.5 0.87", "")):
        (root / f"{i}.png").write_bytes((mini_voc / f"JPEGImages/{i}.png").read_bytes())
        (root / f"{i}.txt").write_text(line)
    (root / "3.png").write_bytes((mini_voc / "JPEGImages/3.png").read_bytes())
    (root / "classes.txt").write_text("red\nblue\n")
    assert find_format(root) == "yolo"
    boxes = [objects for _, _, _, objects in facts(root, "all")]
    assert boxes == [[("red", (16, 12, 48, 60))], [("blue", (60, 30, 100, 90))], [], []]


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\n0.png,160,120,red,11,21,40,60\n",
        "xmax;ymax;xmin;ymin;class;filename;height;width\n40;60;11;21;red;0.png;120;160\n",
        "\ufeffImage_Name,Label,x1,y1,x2,y2,width,height,note\n0.png,red,11,21,40,60,160,120,hi\n",
    ],
)
def test_csv_columns_go_by_name(mini_voc, text):
    path = mini_voc / "JPEGImages/boxes.csv"
    path.write_text(text, "utf-8")
    assert facts(path, "all") == [("0.png", 120, 160, [("red", (10, 20, 40, 60))])]


def test_splits_may_be_files_of_ids_or_paths(mini_voc, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("2\n./JPEGImages/0.png\n/far/away/3.jpg\n")
    assert [s.image_id for s in read_split(mini_voc, str(path), ("red",))] == ["2", "0", "3"]
    convert(mini_voc, "coco", tmp_path / "c")
    assert [s.path.name for s in read_split(tmp_path / "c", str(path), ("red",))] == [
        "2.png",
        "0.png",
        "3.png",
    ]
    path.write_text("2\n9\n")
    with pytest.raises(FileNotFoundError, match=r"Received: '9' in .*list\.txt"):
        read_split(tmp_path / "c", str(path), ("red",))


def test_lists_keep_names_with_blanks_and_drop_second_columns(tmp_path):
    (tmp_path / "a.txt").write_text("2007_000032  1\n2007_000039 -1\n")
    assert read_list(tmp_path / "a.txt") == ["2007_000032", "2007_000039"]
    (tmp_path / "b.txt").write_text("my photo.jpg\nphoto 1\n")
    assert read_list(tmp_path / "b.txt") == ["my photo.jpg", "photo 1"]


def test_the_same_name_in_two_folders_goes_by_path():
    images = [LabelledImage("1", Path(f"/d/{part}/1.jpg"), Path("x"), 1, 1) for part in "ab"]
    assert select(images, ["b/1.jpg", "./a/1.jpg"], "l") == images[::-1]


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "C:\\x.jpg", "..\\x.jpg", "", "a\0"]
)
def test_paths_never_lead_out_of_the_folder(name):
    with pytest.raises(ValueError, match="must stay inside the data folder"):
        inside(Path("/data"), name, "a.json, image 1")
    assert inside(Path("/data"), "a/../b.jpg", "") == Path("/data/a/../b.jpg")


def faults_of(write):
    return {
        "a path that leads out": (
            lambda r: coco(r / "a.json", [], file_name="../../etc/passwd"),
            "must stay inside",
        ),
        "no JSON": (lambda r: write(r / "a.json", '{"images": ['), "must be JSON"),
        "deep JSON": (lambda r: write(r / "a.json", "[" * 100_000), "must be JSON"),
        "another JSON": (lambda r: write(r / "a.json", "[1, 2]"), "must be JSON with images"),
        "a box of words": (lambda r: coco(r / "a.json", [(3, "a", 1, 2, 3, 0)]), "four finite numbers"),
        "a box without area": (lambda r: coco(r / "a.json", [(3, 5, 5, 0, 3, 0)]), "x_min < x_max"),
        "NaN": (lambda r: coco(r / "a.json", [(3, float("nan"), 1, 2, 3, 0)]), "four finite numbers"),
        "no size": (lambda r: coco(r / "a.json", [], width=0), "must be positive"),
        "a missing column": (lambda r: write(r / "a.csv", "filename,class,xmin\n"), "column ymin"),
        "a CSV of words": (
            lambda r: write(r / "a.csv", "filename,class,xmin,ymin,xmax,ymax\n0.png,red,a,1,2,3\n"),
            "line 2",
        ),
        "a YAML bomb": (
            lambda r: write(r / "a.yaml", "names: !!python/object/apply:os.system [ls]"),
            "must be YAML",
        ),
        "no names": (lambda r: write(r / "a.yaml", "names: 3"), "names must be a list"),
        "bytes": (lambda r: (r / "a.csv").write_bytes(b"\xff\xfe\x00") and r / "a.csv", "UTF-8"),
    }


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", faults_of(write))
def test_damage_is_named_in_one_line(mini_voc, name):
    seed, words = faults_of(write)[name]
    path = seed(mini_voc / "JPEGImages")
    result = CliRunner().invoke(main, ["stats", str(path)])
    assert result.exit_code == 1
    assert result.exception.__class__ is SystemExit
    assert words in result.output
    assert "a." in result.output
    assert result.output.count("\n") == 1


def test_a_broken_yolo_line_is_named(mini_voc, tmp_path):
    convert(mini_voc, "yolo", tmp_path / "y")
    (tmp_path / "y/labels/0.txt").write_text("0 0.5 0.5 0.1\n")
    with pytest.raises(ValueError, match=r"0\.txt, line 1"):
        read_split(tmp_path / "y", "train", ("red",))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["a.json", "a.csv", "classes.txt", "a.txt", "data.yaml"]), st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_a_plain_error(tmp_path_factory, name, content):
    root = tmp_path_factory.mktemp("fuzz")
    (root / name).write_bytes(content)
    with contextlib.suppress(ValueError, OSError):
        find_classes(root / name if name in ("a.json", "a.csv") else root, "all")


def test_a_yaml_of_nested_aliases_is_refused_at_once(mini_voc):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    for key in ("names", "train"):
        tail = f"{key}: [*a11]" + ("" if key == "names" else "\nnames: [red]")
        path = write(mini_voc / "JPEGImages/a.yaml", "\n".join([*lines, tail]))
        with pytest.raises(ValueError, match=r"must be a .*a\.yaml"):
            read_images(path, "all")


def test_no_such_data_set_or_format(tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist"):
        read_images(tmp_path / "nothing", "all")
    with pytest.raises(ValueError, match=r"must be a folder in VOC .* Received"):
        read_images(tmp_path, "all")


def test_real_coco_file(shared):
    path = shared / "data/coco_mini/instances_train.json"
    assert split_names(path) == ("train",)
    images = read_images(path, "train")
    content = json.loads(path.read_text())
    assert len(images) == len(content["images"]) == 112
    assert sum(len(i.objects) for i in images) == len(content["annotations"]) == 1212
    assert sum(o.crowd for i in images for o in i.objects) == sum(
        a["iscrowd"] for a in content["annotations"]
    )
    # The same photos in VOC layout, whose corners were rounded: IoU of each pair near 1.
    voc = {s.path.name: s for s in read_split(path.parent, "train", ("person",))}
    for sample in read_split(path, "train", ("person",)):
        assert np.allclose(
            sample.boxes, voc[sample.path.name].boxes, atol=2.1 / min(sample.height, sample.width)
        )
