import csv
import json

import numpy as np
import pytest

from ssd.datasets.voc import read_annotation
from ssd.records import Detections
from ssd.results import SINKS, Result


def results():
    found = Detections([[0.1, 0.2, 0.5, 0.9]], [1], [0.75], ("a", "b"), height=100, width=200)
    empty = Detections([], [], [], ("a", "b"), height=10, width=20)
    clip = [Result("c.mp4", "c", i, i / 25, found if i else empty, of_video=True) for i in range(3)]
    return [Result("p/x.jpg", "x", 0, 0.0, found), Result("p/ü.jpg", "ü", 0, 0.0, empty), *clip]


@pytest.fixture
def written(tmp_path):
    for kind in SINKS:
        sink = SINKS[kind](tmp_path)
        for result in results():
            sink.add(result)
        sink.close()
    assert not list(tmp_path.rglob(".part-*"))
    return tmp_path


BOX = [20.0, 20.0, 100.0, 90.0]


def test_json(written):
    rows = json.loads((written / "detections.json").read_text("utf-8"))
    detection = {"label": "b", "score": 0.75, "box_px": BOX}
    head = {"frame": 0, "time_s": 0.0}
    assert rows == [
        {"source": "p/x.jpg", **head, "width": 200, "height": 100, "detections": [detection]},
        {"source": "p/ü.jpg", **head, "width": 20, "height": 10, "detections": []},
    ]
    lines = [json.loads(line) for line in (written / "c.jsonl").read_text("utf-8").splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert lines[2]["time_s"] == 0.08
    assert lines[1]["detections"] == [detection]


def test_csv(written):
    rows = list(csv.reader((written / "detections.csv").read_text("utf-8").splitlines()))
    assert rows[0] == [
        "source",
        "frame",
        "time_s",
        "width",
        "height",
        "label",
        "score",
        "xmin",
        "ymin",
        "xmax",
        "ymax",
    ]
    assert rows[1] == ["p/x.jpg", "0", "0.0", "200", "100", "b", "0.75", "20.0", "20.0", "100.0", "90.0"]
    assert len(rows) == 4  # a row a detection


def test_voc(written):
    assert read_annotation(written / "voc/x.xml") == (100, 200, [("b", BOX, False)])
    assert read_annotation(written / "voc/c_000000.xml")[2] == []


def test_coco(written):
    data = json.loads((written / "detections.coco.json").read_text("utf-8"))
    assert [c["name"] for c in data["categories"]] == ["a", "b"]
    assert len(data["images"]) == 5
    first = data["annotations"][0]
    assert (first["image_id"], first["category_id"], first["bbox"]) == (1, 2, [20.0, 20.0, 80.0, 70.0])
    assert first["area"] == 5600.0


def test_yolo(written):
    assert (written / "classes.txt").read_text() == "a\nb\n"
    numbers = (written / "labels/x.txt").read_text().split()
    assert numbers[0] == "1"
    assert np.allclose([float(v) for v in numbers[1:]], [0.3, 0.55, 0.4, 0.7, 0.75], atol=1e-6)
    assert (written / "labels/ü.txt").read_text() == ""


def test_nothing_found_and_nothing_seen_is_valid_json(tmp_path):
    empty = Detections([], [], [], ("a",), height=10, width=20)
    for name, results in (("none", []), ("one", [Result("x.jpg", "x", 0, 0.0, empty)])):
        (tmp_path / name).mkdir()
        for kind in ("coco", "json"):
            sink = SINKS[kind](tmp_path / name)
            for result in results:
                sink.add(result)
            sink.close()
        data = json.loads((tmp_path / name / "detections.coco.json").read_text())
        assert (len(data["images"]), data["annotations"]) == (len(results), [])
    assert [p.name for p in (tmp_path / "none").iterdir()] == ["detections.coco.json"]


def test_lines_are_on_the_disk_as_soon_as_they_are_added(tmp_path):
    """What a run that is killed leaves ends with a whole line."""
    sink = SINKS["json"](tmp_path)
    for result in results()[2:4]:
        sink.add(result)
    lines = (tmp_path / ".part-c.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["frame"] for line in lines] == [0, 1]
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["c.jsonl"]
