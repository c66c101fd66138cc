"""A signal in the middle of a run: playable videos, complete lines, valid results, nothing half done."""

import csv
import json
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ssd.media import Frame, VideoWriter, read_video

SSD = Path(sys.executable).with_name("ssd")
PATIENCE_S = 240  # on a machine that is busy with something else


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Far more frames than the network sees before the signal comes."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, Fraction(25)) as writer:
        for i in range(3000):
            writer.write(Frame(np.full((32, 32, 3), i % 256, np.uint8), i, i / 25))
    return path


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_video(clip, samples, tmp_path, number, status):
    out = tmp_path / "out"
    save = [part for kind in ("json", "csv", "coco") for part in ("--save", kind)]
    command = [SSD, "detect", samples / "chelsea.png", clip, samples / "camera.png", "--out", out, *save]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_lines(out / ".part-clip.jsonl", 3, process)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr.count("\n")) == (status, 1), stderr
    assert stderr.startswith("interrupted")
    assert not any(line.startswith("2 images,") for line in stdout.splitlines())  # frames count as well
    assert sorted(p.name for p in out.iterdir()) == [
        "chelsea.png", "clip.jsonl", "clip.mp4", "detections.coco.json", "detections.csv", "detections.json",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert 3 <= len(lines) < 3000
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert len(list(read_video(out / "clip.mp4"))) == len(lines)
    assert [Path(r["source"]).name for r in json.loads((out / "detections.json").read_text())] == [
        "chelsea.png"
    ]
    assert len(json.loads((out / "detections.coco.json").read_text())["images"]) == 1 + len(lines)
    with open(out / "detections.csv", newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {11}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_is_not_interrupted(tmp_path, number):
    """Extensions in the middle of theirs answer a KeyboardInterrupt by an ImportError, or stop for ever."""
    (tmp_path / "slow.py").write_text(
        "import time\nprint('begun', flush=True)\ntime.sleep(1)\nprint('done', flush=True)\n"
    )
    code = (
        "import importlib, time; from ssd.cli import run;"
        "run(lambda: (importlib.import_module('slow'), time.sleep(60)))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (stdout, stderr, process.returncode) == ("done\n", "interrupted\n", 130)


def test_what_an_interrupt_is_made_into_is_still_one(tmp_path):
    """TensorFlow, for one, calls Python from C++ and makes a RuntimeError of what comes back."""
    code = (
        "import time\nfrom ssd.cli import run\n"
        "def call():\n    try:\n        print('begun', flush=True)\n        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n        raise RuntimeError('from C++') from None\n"
        "run(call)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE_S)[1]
    assert (stderr, process.returncode) == ("interrupted\n", 130)


def wait_for_lines(path: Path, count: int, process: subprocess.Popen) -> None:
    until = time.monotonic() + PATIENCE_S
    while not path.exists() or path.read_text().count("\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def run_alone(program: str) -> None:
    """In a process of its own: a signal to the tests' would be heard by whatever else is loaded there."""
    head = "import os, signal\nfrom ssd.stop import stoppable\n"
    done = subprocess.run([sys.executable, "-c", head + program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_second_signal_does_not_wait():
    run_alone("""
seen, before = [], signal.getsignal(signal.SIGTERM)
try:
    with stoppable() as stop:
        for i in stop.before(range(10)):
            seen.append(i)
            if i == 4:
                os.kill(os.getpid(), signal.SIGINT)
        assert (seen, stop.status) == ([0, 1, 2, 3, 4], 130), (seen, stop.signal)
        os.kill(os.getpid(), signal.SIGTERM)
    print("went on")
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGTERM) == before
    print("done")
""")


def test_an_ignored_signal_stays_ignored():
    run_alone("""
signal.signal(signal.SIGINT, signal.SIG_IGN)
with stoppable() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.signal is None
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
print("done")
""")
