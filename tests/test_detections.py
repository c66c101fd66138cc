"""Detections of other programs, and what is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest

from ssd.datasets.detections import read_detections
from ssd.datasets.labelled import LabelledImage
from ssd.records import Detections
from ssd.results import SINKS, Result

NAMES = ("cat", "dog")
IMAGES = [LabelledImage(str(i), Path(f"photos/p{i}.jpg"), Path("x.json"), 100, 200) for i in (7, 8)]
COCO = [
    {"image_id": 8, "category_id": 2, "bbox": [1.5, 2, 10, 20], "score": 0.25},
    {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5},
]


def read(path, **options):
    return read_detections(path, IMAGES, NAMES, **options)


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def comp4(folder, **lines):
    folder.mkdir(exist_ok=True)
    for name, text in lines.items():
        (folder / f"comp4_det_test_{name}.txt").write_text(text)
    return folder


def test_coco_results(tmp_path):
    found = read(write(tmp_path / "r.json", COCO))
    assert found.image.tolist() == [1, 0]
    assert found.labels.tolist() == [1, 0]
    assert found.boxes_px.tolist() == [[1.5, 2, 11.5, 22], [0, 0, 5, 5]]
    assert found.sides_px.tolist() == [[10, 20], [5, 5]]
    assert found.scores.tolist() == [0.25, 0.5]
    other = read(write(tmp_path / "r.json", COCO), category_names={1: "dog", 2: "cat"})
    assert other.labels.tolist() == [0, 1]
    assert len(read(write(tmp_path / "empty.json", "[]"))) == 0


def test_comp4_text(tmp_path):
    """1-based inclusive 11, 21, 30, 40 is 20 by 20 pixels; the order of lines is kept."""
    found = read(comp4(tmp_path / "d", cat="8 0.5 11 21 30 40\n\n7 0.5 1 1 2 2\n", dog=""))
    assert found.boxes_px.tolist() == [[10, 20, 30, 40], [0, 0, 2, 2]]
    assert found.image.tolist() == [1, 0]
    assert found.labels.tolist() == [0, 0]


def test_the_longest_name_is_the_class(tmp_path):
    folder = comp4(tmp_path / "d", red="7 0.1 1 1 2 2", light_red="7 0.9 1 1 2 2")
    found = read_detections(folder, IMAGES, ("red", "light_red"))
    assert dict(zip(found.labels.tolist(), found.scores.tolist(), strict=True)) == {0: 0.1, 1: 0.9}


@pytest.mark.parametrize("kind", ["json", "csv", "coco"])
def test_what_ssd_detect_saves_comes_back(tmp_path, kind):
    boxes = np.float32([[0.1, 0.2, 0.5, 0.6], [0, 0, 0.5, 1]])
    one = Detections(boxes, [1, 0], [0.75, 0.5], NAMES, 100, 200)
    none = Detections(boxes[:0], [], [], NAMES, 100, 200)
    sink = SINKS[kind](tmp_path)
    sink.add(Result("photos/p8.jpg", "p8", 0, 0, one))
    sink.add(Result("/elsewhere/p7.jpg", "p7", 0, 0, none))
    sink.close()
    (file,) = tmp_path.glob("detections*")
    found = read(file)
    assert found.image.tolist() == [1, 1]
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == [0.75, 0.5]
    assert found.boxes_px == pytest.approx(one.boxes_px, abs=0.005)
    if kind != "coco":
        assert len(read(tmp_path)) == 2  # the folder will do


def test_a_video(tmp_path):
    frames = [LabelledImage(f"clip_{i:06d}", Path(f"clip_{i:06d}.jpg"), Path("x"), 10, 10) for i in range(2)]
    row = {
        "source": "a/clip.mp4",
        "frame": 1,
        "detections": [{"label": "cat", "score": 1, "box_px": [0, 0, 1, 1]}],
    }
    found = read_detections(write(tmp_path / "clip.jsonl", json.dumps(row)), frames, NAMES)
    assert found.image.tolist() == [1]


def test_photos_of_one_name(tmp_path):
    images = [LabelledImage(f"{d}/1", Path(f"root/{d}/1.jpg"), Path("x"), 10, 10) for d in "ab"]
    row = {"source": "b/1.jpg", "detections": [{"label": "cat", "score": 1, "box_px": [0, 0, 1, 1]}]}
    assert read_detections(write(tmp_path / "d.json", [row]), images, NAMES).image.tolist() == [1]
    row["source"] = "1.jpg"
    with pytest.raises(ValueError, match=r"must be in the split. Received: '1.jpg'"):
        read_detections(write(tmp_path / "d.json", [row]), images, NAMES)


LINE = "7 0.5 1 1 20 20\n"
TEXT_FAULTS = {
    "8 high 1 1 2 2": r"a score must be a finite number. Received: 'high' in .*_cat.txt, line 2",
    "8 nan 1 1 2 2": r"finite number. Received: 'nan' in .*_cat.txt, line 2",
    "8 0.5 1 1 2": r"6 columns.*Received: 5 in .*_cat.txt, line 2",
    "8 0.5 1 one 2 2": r"four finite numbers.*'one'.*_cat.txt, line 2",
    "8 0.5 20 1 2 2": r"width and height of 0 or more. Received: -17 by 2 in .*_cat.txt, line 2",
    "9 0.5 1 1 2 2": r"must be in the split. Received: '9' in .*_cat.txt, line 2",
}


@pytest.mark.parametrize("line", TEXT_FAULTS)
def test_faults_of_text(tmp_path, line):
    with pytest.raises(ValueError, match=TEXT_FAULTS[line]):
        read(comp4(tmp_path / "d", cat=LINE + line, dog=""))


def test_faults_of_class_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"every class must have a file.*none for dog.*\*_dog.txt in"):
        read(comp4(tmp_path / "one", cat=LINE))
    with pytest.raises(ValueError, match=r"one of cat, dog.*comp4_det_test_cow.txt"):
        read(comp4(tmp_path / "more", cat=LINE, dog="", cow=LINE))
    assert len(read_detections(tmp_path / "more", IMAGES, ("cat",), other_classes=True)) == 1
    (tmp_path / "more/other_cat.txt").write_text("")
    with pytest.raises(ValueError, match="a class must have one file"):
        read(tmp_path / "more", other_classes=True)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"_CLASS\.txt a class"):
        read(tmp_path / "none")


JSON_FAULTS = [
    ({"score": "0.5x"}, r"a score must be a finite number. Received: '0.5x' in .*, line 3, entry 1"),
    ({"score": True}, "a score must be a finite number. Received: True"),
    ({"score": float("inf")}, "a score must be a finite number. Received: inf"),
    ({"bbox": [1, 2, -3, 4]}, r"width and height of 0 or more. Received: -3 by 4 in .*, line 3, entry 1"),
    ({"bbox": [1, 2, 3]}, r"four numbers. Received: \[1, 2, 3\] in .*, line 3"),
    ({"bbox": "1234"}, "a box must have four numbers"),
    ({"image_id": 99}, "must be in the split. Received: 99 in .*, line 3, entry 1"),
    ({"image_id": [7]}, r"must be in the split. Received: \[7\]"),
    (
        {"category_id": 5},
        "category_id must be of the data set. Received: 5, known 1 cat, 2 dog, in .*, line 3",
    ),
    ({"category_id": {}}, "must have image_id, category_id, bbox and score"),
]


@pytest.mark.parametrize("place", range(len(JSON_FAULTS)))
def test_faults_of_coco_results(tmp_path, place):
    fault, message = JSON_FAULTS[place]
    lines = ",\n".join(json.dumps(row) for row in (COCO[0], COCO[1] | fault))
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "r.json", f"[\n{lines}\n]"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "3",
        "[3]",
        '[{"image_id": 7}]',
        "[" * 100_000,
        '[{"detections": 3}]',
        '{"annotations": [1]}',
    ],
)
def test_json_that_is_something_else(tmp_path, text):
    with pytest.raises(ValueError, match=r"r\.json"):
        read(write(tmp_path / "r.json", text))


def test_faults_of_csv(tmp_path):
    head = "source,frame,time_s,width,height,label,score,xmin,ymin,xmax,ymax\n"
    row = "p7.jpg,0,0,200,100,cat,0.5,1,1,5,5\n"
    for text, message in (
        ("a,b\n", r"must have the column source.*d\.csv, line 1"),
        (head + row + "p7.jpg,0,0\n", r"11 columns.*d\.csv, line 3"),
        (head + row.replace("cat", "cow"), r"of a class that is scored: cat, dog.*'cow' in .*d\.csv, line 2"),
        (head + row.replace(",5,5", ",0,5"), r"Received: -1 by 4 in .*d\.csv, line 2"),
    ):
        with pytest.raises(ValueError, match=message):
            read(write(tmp_path / "d.csv", text))
    assert len(read(write(tmp_path / "d.csv", head + row.replace("cat", "cow")), other_classes=True)) == 0


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a file or folder"):
        read(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match=r"must be in one of \.json"):
        read(write(tmp_path / "a.pkl", "x"))
    with pytest.raises(ValueError, match="the only class that is scored"):
        read(write(tmp_path / "a_cat.txt", LINE))
    assert len(read_detections(write(tmp_path / "a_cat.txt", LINE), IMAGES, ("cat",))) == 1
