"""ssd webcam: newest frames, streams that break off, and what a user sees."""

import json
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ssd.capture import Capture, is_stream
from ssd.live import Live
from ssd.media import Frame, VideoWriter, read_video
from ssd.records import Detections

SSD = Path(sys.executable).with_name("ssd")


class Fake:
    """Finds one cat in the middle, slowly if wanted; stands for a detector."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds, self.thresholds = seconds, []

    def __call__(self, image: np.ndarray, *, score_threshold: object = 0, **_: object) -> Detections:
        time.sleep(self.seconds)
        self.thresholds.append(float(np.min(score_threshold)))
        return Detections([(0.25, 0.25, 0.75, 0.75)], [0], [0.9], ("cat",), *image.shape[:2])


@pytest.fixture
def clip(tmp_path) -> Path:
    """Forty frames in two seconds; the grey level tells the number."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, Fraction(20)) as writer:
        for i in range(40):
            writer.write(Frame(np.full((64, 96, 3), 40 + 4 * i, np.uint8), i, i / 20))
    return path


class Mjpeg(ThreadingHTTPServer):
    """Sends pictures as a network camera does, and cuts each connection after some."""

    def __init__(self, cuts: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Camera)
        self.cuts, self.connections = cuts, 0
        self.picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class _Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site = self.server
        site.connections += 1
        if site.connections > len(site.cuts):
            return self.send_error(503)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _ in range(site.cuts[site.connections - 1]):
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
            self.wfile.write(b"Content-Length: %d\r\n\r\n" % len(site.picture))
            self.wfile.write(site.picture + b"\r\n")
            time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def camera():
    with Mjpeg([40, 40, 40]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_slow_detector_drops_frames_and_stays_at_the_newest(clip):
    with Capture(str(clip)) as capture:
        live = Live(capture, Fake(0.3), 0.5, {})
        frames = [view.frame for view in live.views(lambda: False) if view]
    assert 2 <= len(frames) <= 12
    assert live.tally.dropped == frames[-1].index + 1 - len(frames)
    assert all(frame.time_s == pytest.approx(frame.index / 20, abs=0.01) for frame in frames)
    assert all(int(f.image.mean()) == pytest.approx(40 + 4 * f.index, abs=4) for f in frames)


def test_a_clip_plays_at_its_own_clock_and_ends(clip):
    started = time.monotonic()
    with Capture(str(clip)) as capture:
        while not capture.ended:
            capture.newest(10**6, 0.05)
    assert capture.came == 40
    assert time.monotonic() - started >= 1.9  # not as fast as one reads


def test_a_stream_that_is_cut_is_reached_again(camera):
    told, url = [], f"http://127.0.0.1:{camera.server_port}/video"
    with Capture(url, told.append, pauses=(0.01, 0.02)) as capture:
        until = time.monotonic() + 60
        while not (camera.connections >= 5 and len(told) >= 6) and time.monotonic() < until:
            time.sleep(0.02)
        assert capture.came > 80  # of three connections
        assert not capture.ended
    assert "is lost" in told[0]
    assert "trying again in 0.01 s" in told[0]
    assert told[1].endswith("is back")
    assert "trying again in 0.02 s" in told[-1]  # nobody answers any more: pauses grow


class _Film(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """A film, the first time only its head and a part of its frames."""
        site = self.server
        site.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(site.film)))
        self.end_headers()
        self.wfile.write(site.film[: site.cut] if site.connections == 1 else site.film)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_a_film_over_http_that_is_cut_is_fetched_again_and_ends(clip, tmp_path):
    film = tmp_path / "head_first.mp4"
    with av.open(str(clip)) as source, av.open(str(film), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data, told = film.read_bytes(), []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Film) as server:
        server.film, server.cut, server.connections = data, len(data) * 3 // 4, 0
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Capture(f"http://127.0.0.1:{server.server_port}/film.mp4", told.append, (0.01,)) as capture:
            until = time.monotonic() + 60
            while not capture.ended and time.monotonic() < until:
                time.sleep(0.02)
        server.shutdown()
    assert capture.ended
    assert 40 <= capture.came < 80  # what came before the cut, then all
    assert server.connections == 2
    assert "is lost" in told[0]
    assert told[1].endswith("is back")
    assert len(told) == 2


def test_keys(clip, tmp_path):
    with Capture(str(clip)) as capture:
        live = Live(capture, Fake(), 0.5, {})
        view = next(view for view in live.views(lambda: False) if view)
        live.press("+", view, tmp_path)
        assert live.score == pytest.approx(0.55)
        live.press("-", view, tmp_path)
        assert live.press(" ", view, tmp_path) is None
        assert live.paused
        assert live.press("s", view, tmp_path / "out").startswith("saved")
        assert live.press("q", view, tmp_path) == "quit"
        assert live.press("x", view, tmp_path) is None
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_threshold_stays_in_its_range(clip):
    live = Live(Capture(str(clip)), Fake(), np.float32([0.2, 0.9]), {})
    for _ in range(30):
        live.change_score(0.05)
    assert live.score.tolist() == pytest.approx([0.95, 0.95])


def test_what_is_a_stream():
    assert [is_stream(s) for s in ("rtsp://a/b", "HTTP://a", "0", "clip.mp4", "file:///etc/passwd")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def webcam(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    own = {key: value for key, value in os.environ.items() if key not in names} | environment
    command = [SSD, "webcam", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=own, timeout=240)


def test_as_a_user_runs_it(samples, tmp_path):
    pytest.importorskip("supervision", reason="needs the extra track")
    record, out = tmp_path / "out.mp4", tmp_path / "out"
    done = webcam(
        samples / "carphone.mp4", "--no-window", "--record", record, "--save", "jsonl", "--out", out,
        "--track", "--count-zone", "0,0,176,144",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "dropped, latency" in done.stdout
    lines = [json.loads(line) for line in (out / "carphone.jsonl").read_text().splitlines()]
    assert len(list(read_video(record))) == len(lines) > 0
    assert lines[-1]["counts"]["zones"][0]["total"] == 1
    assert {row["track_id"] for line in lines for row in line["detections"]} == {1}
    again = webcam(samples / "carphone.mp4", "--no-window", "--record", record)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)


def test_a_window_without_a_screen_to_see(samples, tmp_path):
    pytest.importorskip("pygame", reason="needs the extra live")
    done = webcam(samples / "carphone.mp4", "--duration", "1", SDL_VIDEODRIVER="dummy")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["97", "--no-window"], "error: a camera must be there and not busy. Received: camera 97"),
        (["nope.mp4", "--no-window"], "error: a source must be"),
        (["http://127.0.0.1:9/x", "--no-window"], "error: a video must be readable"),
        (["0"], "error: a window needs a display; --no-window"),
        (["0", "--no-window", "--record", "a.txt"], "error: --record must end in"),
        (["0", "--no-window", "--count-line", "1,2,3"], "error: points must be"),
    ],
)
def test_refusals_are_one_line(arguments, text):
    pytest.importorskip("pygame", reason="needs the extra live")
    done = webcam(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(text)
    assert done.stdout == ""


def test_detect_tracks_a_video(samples, tmp_path):
    pytest.importorskip("supervision", reason="needs the extra track")
    clip = tmp_path / "short.mp4"
    with VideoWriter(clip, Fraction(25)) as writer:
        for frame, _ in zip(read_video(samples / "carphone.mp4"), range(6), strict=False):
            writer.write(frame)
    command = [SSD, "detect", clip, "--save", "json", "--out", tmp_path / "out", "--count-line", "1,1,50,1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "out/short.jsonl").read_text().splitlines()]
    assert [[row["track_id"] for row in line["detections"]] for line in lines] == [[1]] * 6
    assert "line 1: in 0 out 0" in done.stdout
