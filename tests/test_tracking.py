"""Ids that stay with their objects, and what crosses lines and zones."""

import csv
import json

import numpy as np
import pytest

from ssd.counting import Counts, Line, Zone, parse_points
from ssd.draw import draw
from ssd.records import Detections
from ssd.results import SINKS, Result

CLASSES = ("cat", "dog")


def found(*rows: tuple, width: int = 200, height: int = 100) -> Detections:
    """Rows of centre x, centre y, label, score, each 40 pixels wide and 30 high."""
    boxes = [
        ((x - 20) / width, (y - 15) / height, (x + 20) / width, (y + 15) / height) for x, y, _, _ in rows
    ]
    return Detections(boxes, [r[2] for r in rows], [r[3] for r in rows], CLASSES, height, width)


def tracked(*rows: tuple) -> Detections:
    """Rows of centre x, centre y, id."""
    some = found(*((x, y, 0, 0.9) for x, y, _ in rows))
    return Detections(some.boxes, some.labels, some.scores, CLASSES, 100, 200, [r[2] for r in rows])


@pytest.fixture
def tracker():
    pytest.importorskip("supervision", reason="needs the extra track")
    from ssd.tracking import Tracker

    return Tracker(0.5)


def test_two_that_cross_keep_their_ids(tracker):
    ids = []
    for i in range(21):
        rows = tracker.update(found((40 + 6 * i, 40, 0, 0.9), (160 - 6 * i, 65, 0, 0.8)), i / 10)
        ids.append(dict(zip(rows.ids, rows.boxes_px[:, 0], strict=True)))
    assert all(set(row) == {1, 2} for row in ids)
    first, last = ids[0], ids[-1]
    assert (first[1] < first[2], last[1] > last[2]) == (True, True)


def test_an_object_that_is_hidden_for_a_second_keeps_its_id(tracker):
    for i in range(40):
        rows = [] if 15 <= i < 25 else [(40 + 3 * i, 50, 0, 0.9)]
        last = tracker.update(found(*rows), i / 10)
    assert last.ids == [1]


def test_one_that_is_away_for_long_gets_another(tracker):
    for i in range(60):
        last = tracker.update(found(*([] if 10 <= i < 45 else [(100, 50, 0, 0.9)])), i / 10)
    assert last.ids == [2]


def test_weak_boxes_keep_an_id_alive_and_are_not_shown(tracker):
    counts = []
    for i in range(30):
        rows = tracker.update(found((100, 50, 0, 0.35 if 5 <= i < 29 else 0.9)), i)
        counts.append(len(rows))
    assert counts == [1] * 5 + [0] * 24 + [1]
    assert rows.ids == [1]
    assert tracker.finding_threshold == pytest.approx(0.2)


def test_classes_are_followed_apart(tracker):
    for i in range(5):
        rows = tracker.update(found((100, 50, 0, 0.9), (101, 50, 1, 0.9)), i / 10)
    assert dict(zip(rows.names, rows.ids, strict=True)).keys() == {"cat", "dog"}
    assert sorted(rows.ids) == [1, 2]


def test_a_threshold_a_class():
    pytest.importorskip("supervision", reason="needs the extra track")
    from ssd.tracking import Tracker

    rows = Tracker(np.float32([0.3, 0.8])).update(found((40, 50, 0, 0.4), (150, 50, 1, 0.7)), 0)
    assert (rows.names, rows.ids) == (["cat"], [1])


def test_no_detections(tracker):
    assert tracker.update(found(), 0).track_ids.shape == (0,)


def test_a_line_counts_each_way_once():
    line = Line(parse_points("100,0,100,100"))  # down: right of it is the left half of the picture
    for x in (60, 90, 99.5, 100.5, 99.5, 110, 150):
        line.update(tracked((x, 50, 1), (200 - x, 20, 2)))
    assert line.update(tracked()) == {"in": 1, "out": 1}


def test_one_that_passes_beside_the_line_does_not_count():
    line = Line(parse_points("100,0,100,40"))
    for x in (60, 140):
        line.update(tracked((x, 80, 1)))
    assert line.counts == {"in": 0, "out": 0}


def test_a_zone_counts_now_and_so_far():
    zone = Zone(parse_points("0,0,100,100"))
    assert zone.update(tracked((50, 50, 1), (60, 50, 2), (150, 50, 3))) == {"inside": 2, "total": 2}
    assert zone.update(tracked((50, 50, 3), (50, 50, 0))) == {"inside": 1, "total": 3}
    triangle = Zone(parse_points("0,0,200,0,0,100"))
    assert triangle.update(tracked((30, 20, 1), (170, 80, 2)))["inside"] == 1


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3", "1,2,3,x", "1,2,3,inf", "nan,2,3,4"])
def test_points_that_are_none(text):
    with pytest.raises(ValueError, match=r"points must be x1,y1,x2,y2,\.\.\. in pixels"):
        parse_points(text)


def test_lines_and_zones_without_extent():
    with pytest.raises(ValueError, match="two different points"):
        Line(parse_points("5,5,5,5"))
    with pytest.raises(ValueError, match="an area"):
        Zone(parse_points("5,5,5,9"))


def test_counts_are_drawn_and_told():
    counts = Counts([parse_points("100,0,100,100")], [parse_points("0,0,50,50")])
    assert counts.update(tracked((30, 30, 1))) == {
        "lines": [{"in": 0, "out": 0}],
        "zones": [{"inside": 1, "total": 1}],
    }
    assert counts.text() == "line 1: in 0 out 0; zone 1: 1 inside, 1 so far"
    plain = np.zeros((100, 200, 3), np.uint8)
    assert (counts.draw(plain) != plain).any()
    assert Counts().update(tracked()) is None


def test_ids_in_every_format(tmp_path):
    some = tracked((30, 30, 7), (100, 60, 0))
    for kind, sink in SINKS.items():
        (tmp_path / kind).mkdir()
        one = sink(tmp_path / kind)
        one.add(Result("clip.mp4", "clip", 3, 0.3, some, True, {"lines": [{"in": 1, "out": 0}]}))
        one.close()
    line = json.loads((tmp_path / "json/clip.jsonl").read_text())
    assert [row["track_id"] for row in line["detections"]] == [7, None]
    assert line["counts"] == {"lines": [{"in": 1, "out": 0}]}
    with open(tmp_path / "csv/detections.csv", newline="") as file:
        assert [row["track_id"] for row in csv.DictReader(file)] == ["7", ""]
    coco = json.loads((tmp_path / "coco/detections.coco.json").read_text())
    assert [row["track_id"] for row in coco["annotations"]] == [7, None]
    assert (tmp_path / "voc/voc/clip_000003.xml").read_text().count("<track_id>7</track_id>") == 1
    rows = (tmp_path / "yolo/labels/clip_000003.txt").read_text().splitlines()
    assert [len(row.split()) for row in rows] == [7, 6]
    assert rows[0].endswith(" 7")


def test_an_id_is_drawn():
    image = np.zeros((100, 200, 3), np.uint8)
    assert (draw(image, tracked((60, 50, 1))) != draw(image, tracked((60, 50, 0)))).any()


def test_ids_are_filtered_with_their_boxes():
    some = tracked((30, 30, 7), (100, 60, 8))
    assert some[np.array([False, True])].ids == [8]
    with pytest.raises(ValueError, match="equally long"):
        Detections(some.boxes, some.labels, some.scores, CLASSES, 100, 200, [1])
