"""The commands as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from ssd.detector import find_model
from ssd.images import load_image
from ssd.media import read_video, video_rate

SSD = Path(sys.executable).with_name("ssd")
ROOT = Path(__file__).parent.parent


def ssd(*arguments, cwd=None):
    done = subprocess.run([SSD, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_help_lists_every_command():
    done = ssd("--help")
    assert done.returncode == 0
    for path in (ROOT / "tools").glob("[!_]*.py"):
        assert path.stem in done.stdout


def test_main_job(samples, tmp_path):
    done = ssd("detect", samples, "--save", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "detections"
    assert {p.name for p in out.iterdir()} == {
        "astronaut.jpg", "camera.png", "chelsea.png", "carphone.mp4", "carphone.jsonl", "detections.json",
    }  # fmt: skip
    rows = {Path(r["source"]).name: r for r in json.loads((out / "detections.json").read_text())}
    assert [d["label"] for d in rows["chelsea.png"]["detections"]] == ["cat"]
    assert (rows["chelsea.png"]["width"], rows["chelsea.png"]["height"]) == (451, 300)
    assert load_image(out / "chelsea.png").shape == (300, 451, 3)
    assert (load_image(out / "chelsea.png") != load_image(samples / "chelsea.png")).any()
    frames = [json.loads(line) for line in (out / "carphone.jsonl").read_text().splitlines()]
    assert [f["frame"] for f in frames] == list(range(50))
    assert frames[25]["time_s"] == pytest.approx(25 * 1001 / 30000, abs=1e-3)
    assert len(list(read_video(out / "carphone.mp4"))) == 50
    assert video_rate(out / "carphone.mp4") == video_rate(samples / "carphone.mp4")
    assert "53 images" in done.stdout
    assert "images/s" in done.stdout


def test_the_tool_file_is_the_command(samples, tmp_path):
    command = [
        sys.executable,
        ROOT / "tools/detect.py",
        samples / "chelsea.png",
        "--no-draw",
        "--save",
        "csv",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "detections").iterdir()] == ["detections.csv"]


def unread(*arguments):
    """Run a command whose output nobody reads: the reader is gone before it starts."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run([SSD, *map(str, arguments)], stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)


def test_detection_goes_on_when_the_reader_of_its_lines_is_gone(samples, tmp_path):
    out = tmp_path / "out"
    done = unread("detect", samples, "--out", out, "--save", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads((out / "detections.json").read_text())) == 3
    assert {p.name for p in out.glob("*.[pjm][np][g4]")} == {
        "astronaut.jpg", "camera.png", "chelsea.png", "carphone.mp4",
    }  # fmt: skip


def test_scores_are_written_when_the_reader_of_the_table_is_gone(tmp_path, write_xml):
    write_xml(tmp_path / "Annotations/1.xml", 100, 100, [("cat", (1, 1, 50, 50), False)])
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("1\n")
    (tmp_path / "comp4_det_val_cat.txt").write_text("1 0.9 1 1 50 50\n")
    done = unread("evaluate", tmp_path, "--detections", tmp_path, "--json", tmp_path / "s.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "s.json").read_text())["voc07"]["mAP"] == 1


def test_nothing_is_overwritten_unless_told(samples, tmp_path):
    image = tmp_path / "chelsea.png"
    shutil.copy(samples / "chelsea.png", image)
    before = image.read_bytes()
    assert ssd("detect", image, "--out", tmp_path / "out").returncode == 0
    again = ssd("detect", image, "--out", tmp_path / "out")
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert ssd("detect", image, "--out", tmp_path / "out", "--overwrite").returncode == 0
    into_itself = ssd("detect", image, "--out", tmp_path, "--overwrite")
    assert into_itself.returncode == 1
    assert "must not replace an input" in into_itself.stderr
    assert image.read_bytes() == before
    for folder in ("detections", "detections-2"):  # without --out there is always a free folder
        assert ssd("detect", image, cwd=tmp_path).returncode == 0
        assert [p.name for p in (tmp_path / folder).iterdir()] == ["chelsea.png"]


def test_the_rest_goes_on_when_one_input_fails(samples, tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    (tmp_path / "b.mp4").write_text("text")
    shutil.copy(samples / "chelsea.png", tmp_path / "c.png")
    done = ssd("detect", tmp_path, "gone.jpg", "--out", tmp_path / "out", "--save", "json")
    assert done.returncode == 1
    for name in ("a.jpg", "b.mp4", "gone.jpg"):
        assert name in done.stderr
    assert len(json.loads((tmp_path / "out/detections.json").read_text())) == 1
    assert [p.name for p in (tmp_path / "out").glob("*.*4")] == []


def test_names_that_meet_get_numbers(samples, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        shutil.copy(samples / "chelsea.png", tmp_path / folder)
    assert ssd("detect", tmp_path / "x", tmp_path / "y", "--out", tmp_path / "out").returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["chelsea.png", "chelsea_2.png"]


def test_filters(samples, tmp_path):
    def labels(*options):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        done = ssd("detect", samples / "chelsea.png", "--no-draw", "--save", "json", "--out", out, *options)
        assert done.returncode == 0, done.stderr
        found = json.loads((out / "detections.json").read_text())[0]["detections"]
        return [d["label"] for d in found]

    assert labels() == labels("--batch", "3") == ["cat"]
    assert labels("--classes", "dog,person") == []
    assert len(labels("--score", "0", "--max", "3")) == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["detect"], "Missing argument"),
        (["detect", "x.jpg", "--score", "2"], "--score"),
        (["detect", "{sample}", "--classes", "unicorn"], "unicorn"),
        (["detect", "x.jpg", "--save", "gif"], "--save"),
        (["nothing"], "nothing"),
        (["evaluate", "/nowhere"], "nowhere"),
    ],
)
def test_usage_errors_have_status_2(samples, arguments, text):
    done = ssd(*(a.format(sample=samples / "chelsea.png") for a in arguments))
    assert done.returncode == 2
    assert text in done.stderr


def test_evaluate(samples, tmp_path, write_xml):
    root = tmp_path / "data"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, label, box in (
        ("chelsea.png", "cat", (101, 1, 400, 300)),
        ("camera.png", "person", (31, 66, 300, 512)),
    ):
        shutil.copy(samples / name, root / "JPEGImages")
        height, width = cv2.imread(str(samples / name)).shape[:2]
        write_xml(root / f"Annotations/{Path(name).stem}.xml", width, height, [(label, box, False)])
    (root / "ImageSets/Main/val.txt").write_text("chelsea\ncamera\n")
    done = ssd("evaluate", root, "--split", "val", "--json", tmp_path / "s.json", "--iou", "0.4")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["voc07"]["AP"]["cat"] == pytest.approx(1)
    assert scores["voc10"]["AP"]["person"] == pytest.approx(1)
    assert scores["voc07"]["AP"]["dog"] is None
    assert scores["voc07"]["mAP"] == pytest.approx(1)
    model = tmp_path / "model"
    shutil.copytree(find_model("default").parent, model)
    assert ssd("evaluate", root, "--model", model, "--store", "--iou", "0.4").returncode == 0
    stored = json.loads((model / "card.json").read_text())["scores"]["data/val"]
    assert stored["voc07"] == scores["voc07"]
    assert (stored["iou"], stored["images"]) == (0.4, 2)
    assert stored["intervals"] == scores["intervals"]
    missing = ssd("evaluate", root, "--split", "test")
    assert missing.returncode == 1
    assert "split must be one of: val" in missing.stderr


def test_a_clip_keeps_its_frames(shared, tmp_path):
    done = ssd("detect", shared / "data/videos/bikes.mp4", "--save", "json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "bikes.jsonl").read_text().splitlines()) == 250
    assert len(list(read_video(tmp_path / "bikes.mp4"))) == 250
    assert next(read_video(tmp_path / "bikes.mp4")).image.shape == (272, 640, 3)
