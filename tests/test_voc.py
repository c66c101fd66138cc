import numpy as np
import pytest

from ssd.datasets.read import find_classes, read_split
from ssd.datasets.voc import annotation_xml, read_annotation
from ssd.records import Detections


def test_pixels_are_read_as_zero_based_exclusive(tmp_path, write_xml):
    path = write_xml(
        tmp_path / "a.xml", 100, 50, [("cat", (1, 1, 100, 50), True), ("dog", (11, 6, 20, 30), False)]
    )
    assert read_annotation(path) == (
        50,
        100,
        [("cat", [0, 0, 100, 50], True), ("dog", [10, 5, 20, 30], False)],
    )


def test_boxes_of_parts_are_no_objects(tmp_path, write_xml):
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax>"
    part = f"<part><name>head</name><bndbox>{corners}</bndbox></part>"
    path = write_xml(tmp_path / "a.xml", 100, 50, [("person", (11, 6, 20, 30), False)], extra=part)
    assert read_annotation(path)[2] == [("person", [10, 5, 20, 30], False)]


def test_round_trip(tmp_path):
    found = Detections([[0.1, 0.2, 0.5, 0.9]], [1], [0.75], ("a", "b"), height=200, width=300)
    (tmp_path / "a.xml").write_text(annotation_xml(found, "a.jpg"))
    height, width, objects = read_annotation(tmp_path / "a.xml")
    assert (height, width) == (200, 300)
    assert objects[0][0] == "b"
    assert np.allclose(objects[0][1], found.boxes_px[0], atol=0.01)


def test_read_split(mini_voc):
    samples = read_split(mini_voc, "train", ("blue", "red"))
    assert [s.image_id for s in samples] == ["0", "1", "2"]
    assert [s.labels.tolist() for s in samples] == [[1], [0], [1]]
    assert np.allclose(samples[0].boxes, [[20 / 160, 10 / 120, 80 / 160, 70 / 120]])
    only_blue = read_split(mini_voc, "train", ("blue",))
    assert [len(s.boxes) for s in only_blue] == [0, 1, 0]  # background images stay
    assert only_blue[0].boxes.shape == (0, 4)
    assert find_classes(mini_voc, "train") == ("blue", "red")


def test_errors_name_the_file(mini_voc, write_xml):
    with pytest.raises(FileNotFoundError, match=r"one of: train, val, all.* Received: 'test'"):
        read_split(mini_voc, "test", ("red",))
    xml = mini_voc / "Annotations/1.xml"
    write_xml(xml, 160, 120, [("blue", (10, 10, 9, 20), False)])
    with pytest.raises(ValueError, match=r"x_min < x_max.*1\.xml"):
        read_split(mini_voc, "train", ("blue", "red"))
    xml.write_text("<annotation>")
    with pytest.raises(ValueError, match=r"VOC XML.*1\.xml"):
        read_split(mini_voc, "train", ("blue", "red"))
    (mini_voc / "JPEGImages/2.png").unlink()
    write_xml(xml, 160, 120, [])
    with pytest.raises(FileNotFoundError, match="image 2 of split train"):
        read_split(mini_voc, "train", ("blue", "red"))


def test_entities_are_refused(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(ValueError, match="VOC XML"):
        read_annotation(tmp_path / "a.xml")


def test_real_annotations(shared):
    samples = read_split(
        shared / "data/voc_animals", "val", ("person", "cat", "dog", "horse", "sheep", "cow")
    )
    assert len(samples) == 322
    # The README of the data counts 138 persons, 102 cats, 111 dogs, 80 horses, 154 sheep, 77 cows.
    counts = np.bincount(np.concatenate([s.labels for s in samples]))
    assert counts.tolist() == [138, 102, 111, 80, 154, 77]
