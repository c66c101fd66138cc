"""ssd serve: the API, its limits, 200 hostile requests, and what is left behind."""

import csv
import io
import json
import socket
import struct
import subprocess
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from serving import SSD, serving

from ssd.media import VideoWriter, read_video
from ssd.serve.limits import Limits, RefusalError, open_picture, video_format

PATIENCE_S = 240


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve"), "--max-video-megabytes", "1", "--queue", "64") as service:
        yield service


def png_head(width: int, height: int) -> bytes:
    """A PNG of any size by its head, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_the_same_json_as_ssd_detect(service, samples, tmp_path):
    command = [SSD, "detect", samples / "astronaut.jpg", "--save", "json", "--no-draw", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    (expected,) = json.loads((tmp_path / "detections.json").read_text())
    status, found = service.json("POST", "/v1/detect", (samples / "astronaut.jpg").read_bytes())
    assert status == 200
    assert found | {"source": ""} == expected | {"source": ""}


def test_a_form_csv_and_a_picture(service, samples):
    data = (samples / "chelsea.png").read_bytes()
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../etc/cat.png"\r\n\r\n' + data
    kind = {"Content_Type": "multipart/form-data; boundary=x"}
    status, text = service.ask("POST", "/v1/detect?format=csv", form + b"\r\n--x--\r\n", **kind)
    (row,) = csv.DictReader(io.StringIO(text.decode()))
    assert (status, row["source"], row["label"]) == (200, "cat.png", "cat")
    status, picture = service.ask("POST", "/v1/detect?format=jpg", data)
    drawn = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert (status, drawn.shape) == (200, (300, 451, 3))


def test_parameters(service, samples):
    data = (samples / "chelsea.png").read_bytes()
    assert service.json("POST", "/v1/detect?classes=dog", data)[1]["detections"] == []
    assert len(service.json("POST", "/v1/detect?score=0.001", data)[1]["detections"]) > 3
    assert len(service.json("POST", "/v1/detect?score=0.001&max=3", data)[1]["detections"]) == 3
    for query in ("score=2", "score=x", "max=0", "format=exe", "classes=unicorn"):
        status, answer = service.json("POST", f"/v1/detect?{query}", data)
        assert (status, list(answer)) == (422, ["error"]), query


def test_facts(service):
    assert service.json("GET", "/v1/health") == (200, {"status": "ok"})
    status, model = service.json("GET", "/v1/model")
    assert (status, model["class_names"][0]) == (200, "person")
    assert "/v1/detect" in service.json("GET", "/openapi.json")[1]["paths"]
    text = service.ask("GET", "/metrics")[1].decode()
    assert 'ssd_requests_total{method="GET",route="/v1/health",status="200"}' in text
    status, names = service.json("GET", "/v1/samples")
    assert "chelsea.png" in names
    assert service.ask("GET", "/v1/samples/chelsea.png")[1][1:4] == b"PNG"


def test_pages_need_nothing_from_elsewhere(service):
    for path in ("/", "/page.css", "/page.js", "/docs", "/docs.js"):
        status, text = service.ask("GET", path)
        assert status == 200, path
        assert b"https://" not in text
        assert b"//" not in text.replace(b"http://127.0.0.1:8300", b"").replace(b"// ", b""), path


def test_a_video_comes_back(service, samples, tmp_path):
    clip = tmp_path / "short.mp4"
    with VideoWriter(clip, Fraction(25)) as writer:
        for frame, _ in zip(read_video(samples / "carphone.mp4"), range(8), strict=False):
            writer.write(frame)
    status, job = service.json("POST", "/v1/videos?score=0.4", clip.read_bytes())
    assert (status, job["total"]) == (202, 8)
    place, until = f"/v1/videos/{job['id']}", time.monotonic() + PATIENCE_S
    assert service.ask("GET", f"{place}/result.mp4")[0] == 409
    while job["state"] in ("waiting", "running") and time.monotonic() < until:
        time.sleep(0.1)
        job = service.json("GET", place)[1]
    assert (job["state"], job["frames"], job["reason"]) == ("done", 8, None)
    status, video = service.ask("GET", f"{place}/result.mp4")
    assert (status, video[4:8], b"avc1" in video) == (200, b"ftyp", True)
    lines = service.ask("GET", f"{place}/result.jsonl")[1].decode().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(8))
    (folder,) = next(service.folder.glob("ssd-serve-*")).iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["result.jsonl", "result.mp4"]  # no upload any more
    assert service.json("DELETE", place)[0] == 200
    assert not folder.exists()
    assert service.json("GET", place)[0] == 404


def test_other_sites_and_names_are_refused(service, samples):
    assert service.json("GET", "/v1/model", Host="evil.example")[0] == 403
    assert service.json("GET", "/v1/model", Origin="http://evil.example")[0] == 403
    own = {"Host": f"localhost:{service.port}", "Origin": f"http://localhost:{service.port}"}
    assert service.json("GET", "/v1/model", **own)[0] == 200


def endless(service, path: str, chunked: bool) -> int:
    """The status of a body that never ends, sent until the service has had enough."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as line:
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 99999999999"
        line.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (path.encode(), length))
        piece = bytes(1 << 20)
        piece = b"100000\r\n" + piece + b"\r\n" if chunked else piece
        try:
            for _ in range(40):
                line.sendall(piece)
        except OSError:
            pass  # it has hung up
        try:
            return int(line.recv(100).split()[1])
        except (OSError, IndexError):
            return 413  # it has hung up so hard that its answer is lost; the connection is gone at least


def cut_off(service, path: str) -> int:
    """A client that goes away in the middle of its body."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as line:
        line.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc" % path.encode()
        )
    return 400


def hostile(samples) -> list:
    """One round of requests that nobody means well."""
    jpeg, png = (samples / "astronaut.jpg").read_bytes(), (samples / "chelsea.png").read_bytes()
    clip = (samples / "carphone.mp4").read_bytes()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(1 << 22))
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    form = {"Content_Type": "multipart/form-data; boundary=x"}
    detect = [
        jpeg[:2000], jpeg[:-20000], png[:500], png[: len(png) // 2], png_head(60000, 60000),
        png_head(1, 2**31 - 1), png_head(200, 200), b"", b"x", bomb.getvalue(), playlist, svg, b"/etc/passwd",
        bytes(100_000), b"GIF89a\xff\xff\xff\xff", b"BM" + bytes(60), clip, b"RIFF\xff\xff\xff\x7fWEBPVP8 ",
    ]  # fmt: skip
    calls = [lambda s, b=body: s.json("POST", "/v1/detect", b)[0] for body in detect]
    videos = [
        jpeg,
        b"",
        playlist,
        clip[:3000],
        clip[:40],
        bytes(2 << 20),
        b"ffconcat version 1.0\nfile /etc/passwd",
    ]
    calls += [lambda s, b=body: s.json("POST", "/v1/videos", b)[0] for body in videos]
    calls += [
        lambda s, b=body: s.json("POST", "/v1/detect", b, **form)[0] for body in (b"", b"--x--", b"junk")
    ]
    calls += [
        lambda s: s.json("POST", "/v1/detect", jpeg, Content_Encoding="gzip")[0],
        lambda s: s.json("POST", "/v1/detect", b"--y", Content_Type="multipart/form-data")[0],
        lambda s: s.json("GET", "/v1/samples/..%2f..%2fpyproject.toml")[0],
        lambda s: s.json("GET", "/v1/videos/..%2f..%2fetc%2fpasswd/result.mp4")[0],
        lambda s: s.json("PUT", "/v1/detect", jpeg)[0],
        lambda s: s.json("GET", "/" + "a" * 5000)[0],
        lambda s: endless(s, "/v1/detect", True),
        lambda s: endless(s, "/v1/detect", False),
        lambda s: endless(s, "/v1/videos", True),
        lambda s: cut_off(s, "/v1/detect"),
        lambda s: cut_off(s, "/v1/videos"),
        lambda s: s.json("POST", "/v1/detect?score=nan", jpeg)[0],
    ]
    return calls


def test_200_hostile_requests(service, samples):
    calls = hostile(samples) * 5
    assert len(calls) >= 200
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda call: call(service), calls))
    wrong = [(i % (len(calls) // 5), status) for i, status in enumerate(statuses) if not 400 <= status < 500]
    assert not wrong
    assert service.json("POST", "/v1/detect", (samples / "chelsea.png").read_bytes())[0] == 200
    until = time.monotonic() + 10
    while (left := list(service.folder.glob("*/*"))) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []
    assert [p.name[:10] for p in service.folder.iterdir()] == ["ssd-serve-"]
    assert "Traceback" not in (service.folder.parent / "stderr.txt").read_text()


def test_a_full_queue_is_429_and_nothing_is_left_at_the_end(samples, tmp_path):
    data = (samples / "astronaut.jpg").read_bytes()
    with serving(tmp_path, "--queue", "1") as service, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: service.json("POST", "/v1/detect", data), range(48)))
        statuses = {status for status, _ in answers}
        assert statuses == {200, 429}
        assert {a["error"] for s, a in answers if s == 429} == {"all is busy; try again in a moment"}
        assert list(service.folder.iterdir()) != []
        service.json("POST", "/v1/videos", (samples / "carphone.mp4").read_bytes())
    assert list(service.folder.iterdir()) == []


def test_a_token_is_needed_and_asked_for(samples, tmp_path):
    token = "a secret that is long"
    with serving(tmp_path, "--token", token) as service:
        assert service.json("GET", "/v1/health")[0] == 200
        assert service.ask("GET", "/")[0] == 200
        for path in ("/v1/model", "/metrics", "/openapi.json", "/v1/samples/chelsea.png"):
            assert service.json("GET", path)[0] == 401, path
        assert service.json("GET", "/v1/model", Authorization="Bearer wrong")[0] == 401
        assert service.json("GET", "/v1/model", Authorization=f"Bearer {token}")[0] == 200
        data = (samples / "chelsea.png").read_bytes()
        assert service.json("POST", "/v1/detect", data, Authorization=f"Bearer {token}")[0] == 200


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--host", "0.0.0.0"], 2, "error: --host beyond this computer needs a --token"),
        (["--host", "::"], 2, "error: --host beyond this computer needs a --token"),
        (["--token", "short"], 2, "error: --token must have 16 characters"),
        (["--model", "nope"], 1, "error: model must be"),
    ],
)
def test_refusals_to_start(options, status, text):
    done = subprocess.run(
        [SSD, "serve", "--port", "0", *options], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert done.stderr.startswith(text)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([SSD, "serve", "--port", port], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "in use" in done.stderr


def test_pixels_are_counted_before_decoding(monkeypatch):
    monkeypatch.setattr("ssd.serve.limits.decode_image", None)  # would fail if it were called
    with pytest.raises(RefusalError, match="may have 40000000 pixels") as refused:
        open_picture(png_head(8000, 6000), Limits())
    assert refused.value.status == 413


def test_only_containers_that_refer_to_nothing():
    assert video_format(b"\0\0\0\x20ftypisom") == "mov"
    for head in (b"#EXTM3U", b"ffconcat version", b"", b"RIFF\0\0\0\0WAVE"):
        with pytest.raises(RefusalError, match="must be MP4"):
            video_format(head)
