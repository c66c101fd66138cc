"""ssd evaluate as a user runs it."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from ssd.tools.evaluate import main

from ssd.detector import find_model


@pytest.fixture
def run():
    """Run the command; an exception that is no exit is a traceback to the user."""

    def run(*args):
        done = CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)
        return done.exit_code, done.output

    return run


@pytest.fixture
def data(tmp_path, write_xml):
    """Two annotated images without photos, a cat and a dog, and perfect comp4 text of them."""
    root = tmp_path / "data"
    write_xml(root / "Annotations/1.xml", 100, 100, [("cat", (1, 1, 50, 50), False)])
    write_xml(
        root / "Annotations/2.xml",
        100,
        100,
        [("dog", (1, 1, 50, 50), False), ("cat", (60, 60, 90, 90), True)],
    )
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("1\n2\n")
    found = tmp_path / "found"
    found.mkdir()
    (found / "comp4_det_test_cat.txt").write_text("1 0.9 1 1 50 50\n2 0.8 60 60 90 90\n")
    (found / "comp4_det_test_dog.txt").write_text("2 0.7 1 1 50 50\n")
    return root, found


def test_annotations_alone(run, data, tmp_path):
    root, found = data
    out, page = tmp_path / "s.json", tmp_path / "r.html"
    status, text = run(
        root,
        "--split",
        "test",
        "--detections",
        found,
        "--json",
        out,
        "--report",
        page,
        "--target-precision",
        "0.9",
    )
    assert status == 0, text
    scores = json.loads(out.read_text())
    assert scores["voc07"] == {
        "mAP": pytest.approx(1),
        "AP": {"cat": pytest.approx(1), "dog": pytest.approx(1)},
    }
    assert list(scores["coco"]) == "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
    assert scores["coco"]["AP"] == pytest.approx(1)
    assert scores["intervals"]["voc10"]["mAP"] == [1, 1]
    assert scores["operating_points"]["classes"]["dog"]["threshold"] == 0.7
    html = page.read_text()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert html.count("<img") >= 5
    status, text = run("--compare", out, out, "--json", tmp_path / "c.json", "--bootstrap", "50")
    assert status == 0, text
    assert json.loads((tmp_path / "c.json").read_text())["voc07"]["mAP"]["interval"] == [0, 0]


FAULTS = {
    "class file": ("cat", None, "comp4_det_test", "found"),
    "id": ("cat", "9 0.5 1 1 2 2", "'9'", "comp4_det_test_cat.txt, line 1"),
    "score": ("dog", "2 much 1 1 2 2", "'much'", "comp4_det_test_dog.txt, line 1"),
    "width": ("dog", "2 0.5 30 1 2 2", "-27 by 2", "comp4_det_test_dog.txt, line 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(run, data, tmp_path, fault):
    root, found = data
    name, line, *words = FAULTS[fault]
    file = found / f"comp4_det_test_{name}.txt"
    if line is None:
        file.unlink()
        words = ["none for cat", "*_cat.txt"]
    else:
        file.write_text(line)
    out = tmp_path / "s.json"
    status, text = run(root, "--split", "test", "--detections", found, "--json", out)
    assert status == 1
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert all(word in text for word in words), text
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["DATA", "--detections", "/nowhere"],
        ["DATA", "--detections", "FOUND", "--model", "default"],
        ["DATA", "--detections", "FOUND", "--store"],
        ["DATA", "--classes", "cat"],
        ["DATA", "--iou", "0"],
        ["DATA", "--target-precision", "2"],
        ["DATA", "--least-score", "0.5"],
        ["DATA", "--compare", "a.json", "b.json"],
        ["--compare", "a.json"],
    ],
)
def test_wrong_options_give_status_2(run, data, options):
    places = {"DATA": data[0], "FOUND": data[1]}
    assert run(*(places.get(o, o) for o in options))[0] == 2


def test_other_faults_give_status_1(run, data, tmp_path):
    root, found = data
    (tmp_path / "x.json").write_text("{}")
    for options, word in (
        ((root, "--split", "none", "--detections", found), "split must be one of"),
        ((root, "--split", "test", "--detections", found, "--classes", "cow"), "Received: cow"),
        (("--compare", tmp_path / "x.json", tmp_path / "x.json"), "x.json"),
        (("--compare", tmp_path / "no.json", tmp_path / "x.json"), "no.json"),
    ):
        status, text = run(*options)
        assert (status, word in text) == (1, True), text


def test_published_numbers_of_padilla(run, shared, tmp_path):
    folder, out = shared / "data/eval_reference/padilla_coco_sample", tmp_path / "s.json"
    options = "--split", "all", "--detections", folder / "dets.json", "--json", out, "--bootstrap", "0"
    assert run(folder / "gts.json", *options)[0] == 0
    scores, expected = json.loads(out.read_text())["coco"], json.loads((folder / "expected.json").read_text())
    words = {"s": "small", "m": "medium", "l": "large"}
    for key, value in scores.items():
        published = expected[key if key in expected else key[:2] + words[key[2:]]]
        assert round(value, 6) == published, key


def test_label_det_of_voc2007(run, shared, tmp_path, write_xml):
    """All 14,976 boxes of VOC2007 test as detections: 1 for every class, through files of text."""
    import gzip

    folder, out, root = shared / "data/eval_reference", tmp_path / "s.json", tmp_path / "voc"
    truth = json.loads(gzip.decompress((folder / "voc_groundtruth/voc2007.json.gz").read_bytes()))
    ids = sorted(k for k, v in truth.items() if v["split"] == "test")
    for key in ids:
        rows = [(o[0], o[1:5], o[5]) for o in truth[key]["objects"]]
        write_xml(root / f"Annotations/{key}.xml", truth[key]["w"], truth[key]["h"], rows)
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("\n".join(ids))
    options = "--detections", folder / "voc2007_test/label_det", "--json", out, "--bootstrap", "0"
    status, text = run(root, "--split", "test", *options)
    assert status == 0, text
    scores = json.loads(out.read_text())
    assert len(scores["voc07"]["AP"]) == 20
    assert {round(v, 4) for v in scores["voc07"]["AP"].values()} == {1.0}


def test_thresholds_go_into_the_card_and_ssd_detect_takes_them(run, samples, tmp_path, write_xml):
    from dataclasses import replace

    from ssd.card import card_from_json
    from ssd.detector import Detector
    from ssd.images import load_image

    root, model = tmp_path / "data", tmp_path / "model"
    (root / "JPEGImages").mkdir(parents=True)
    shutil.copy(samples / "chelsea.png", root / "JPEGImages")
    write_xml(root / "Annotations/chelsea.xml", 451, 300, [("cat", (101, 1, 400, 300), False)])
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/val.txt").write_text("chelsea\n")
    shutil.copytree(find_model("default").parent, model)
    options = "--model", model, "--iou", "0.4", "--target-precision", "0.5", "--bootstrap", "0"
    status, text = run(root, *options)
    assert status == 0, text
    assert "thresholds -> " in text
    card = card_from_json((model / "card.json").read_text())
    assert list(card.thresholds) == ["cat"]
    detector, image = Detector.load(model), load_image(samples / "chelsea.png")
    limits = detector.operating_point(0.5)
    assert np.flatnonzero(limits != 0.5).tolist() == [1]  # cat
    found = detector(image, score_threshold=limits)
    scores = found.scores[found.labels == 1]
    assert scores.min() == np.float32(card.thresholds["cat"])  # exactly it still passes
    assert all(s >= 0.5 for s in found.scores[found.labels != 1])
    assert Detector(replace(card, thresholds={}), detector.network).operating_point(0.5) == 0.5
    shipped = Detector.load("default")
    assert np.isclose(shipped.operating_point(0), [*shipped.card.thresholds.values()]).all()
    assert min(shipped.card.thresholds.values()) >= 0.5


@pytest.mark.parametrize("layout", ["voc", "coco", "yolo", "csv"])
def test_every_layout_gives_the_same(run, mini_voc, tmp_path, layout):
    """Detections of ssd detect's JSON, by file name; two boxes of four are right."""
    from ssd.datasets.convert import convert

    data = mini_voc
    if layout != "voc":
        convert(mini_voc, layout, tmp_path / "other")
        data = tmp_path / "other"
    box = [20, 10, 80, 70]
    rows = [
        ("0.png", "red", box, 0.9),
        ("1.png", "blue", [0, 0, 9, 9], 0.8),
        ("2.png", "red", [50, 30, 110, 90], 0.7),
    ]
    images = [
        {"source": name, "detections": [{"label": label, "score": score, "box_px": corners}]}
        for name, label, corners, score in rows
    ]
    (tmp_path / "d.json").write_text(json.dumps(images))
    out = tmp_path / "s.json"
    options = "--split", "train", "--detections", tmp_path / "d.json", "--json", out, "--bootstrap", "10"
    status, text = run(data, *options)
    assert status == 0, text
    scores = json.loads(out.read_text())
    assert scores["voc07"]["AP"] == {"blue": 0, "red": pytest.approx(1)}
    assert scores["voc10"]["mAP"] == pytest.approx(0.5)
    assert scores["coco"]["AP50"] == pytest.approx(0.5)


def test_no_detections_and_no_boxes_that_count(run, data, tmp_path):
    """A difficult box alone asks for nothing, an empty list finds nothing: no value, and a whole page."""
    root, _ = data
    (tmp_path / "none.json").write_text("[]")
    (root / "ImageSets/Main/hard.txt").write_text("2\n")
    out, page = tmp_path / "s.json", tmp_path / "r.html"
    options = "--split", "hard", "--classes", "cat", "--detections", tmp_path / "none.json"
    status, text = run(root, *options, "--json", out, "--report", page, "--target-precision", "0.5")
    assert status == 0, text
    scores = json.loads(out.read_text())
    assert scores["voc07"] == {"mAP": None, "AP": {"cat": None}}
    assert set(scores["coco"].values()) == {None}
    assert "no threshold reaches it" in page.read_text()
    status, text = run(root, "--split", "test", "--detections", tmp_path / "none.json", "--json", out)
    assert (status, json.loads(out.read_text())["voc10"]["mAP"]) == (0, 0)
