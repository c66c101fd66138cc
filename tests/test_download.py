"""What a network can do to a transfer, seen through `fetch`."""

import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import file_server
import pytest
from file_server import DATA, NOBODY, SHA256, names

from ssd import download
from ssd.known import KnownFile, fetch

cache, server, file = file_server.cache, file_server.server, file_server.file  # fixtures
QUICK = (0.0, 0.0, 0.0)


def test_a_cut_is_gone_on_with(server, file):
    server.cuts = [300_000, 200_000]
    assert fetch(file, pauses=QUICK).read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_call_goes_on(server, file, cache):
    server.cuts = [300_000, 0, 0, 0]
    with pytest.raises(ConnectionError, match=r"weights.bin, put it at .*cache.*--from"):
        fetch(file, pauses=QUICK)
    assert len(server.asked) == 4
    assert names(cache) == ["weights.bin.part", "weights.bin.part.json"]
    assert fetch(file).read_bytes() == DATA
    assert server.asked[-1] == "bytes=300000-"
    assert names(cache) == ["weights.bin"]


def test_all_bytes_but_no_check_yet(server, file, cache):
    server.cuts = [700_000, 0, 0, 0]
    with pytest.raises(ConnectionError):
        fetch(file, pauses=QUICK)
    (cache / "weights.bin.part").write_bytes(DATA)
    before = len(server.asked)
    assert fetch(file).read_bytes() == DATA
    assert len(server.asked) == before


def test_a_silent_server(server, file, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUTS", (1, 0.1))
    server.hold = threading.Event()
    with pytest.raises(ConnectionError, match="timed out"):
        fetch(file, pauses=(0.0,))
    server.hold.set()
    assert fetch(file).read_bytes() == DATA
    assert server.asked == [None, "bytes=262144-", "bytes=524288-"]  # whole pieces are kept


def test_pauses_grow_and_end(server, file, monkeypatch):
    slept = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    server.statuses = [503] * 9
    with pytest.raises(ConnectionError, match="503"):
        fetch(file)
    assert slept == [1, 4, 15]


def test_a_server_without_ranges_starts_anew(server, file):
    server.cuts, server.ranges = [300_000], False
    assert fetch(file, pauses=QUICK).read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("content_range", ["bytes 5-700000/700001", "bytes 300000-700000/800000", "?", None])
def test_a_server_that_goes_on_elsewhere_starts_anew(server, file, content_range):
    server.cuts, server.headers = [300_000], {"Content-Range": content_range}
    assert fetch(file, pauses=QUICK).read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", None]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_mark_nothing_is_gone_on_with(server, file, tag):
    server.cuts, server.tag = [300_000], tag
    assert fetch(file, pauses=QUICK).read_bytes() == DATA
    assert server.asked == [None, None]


def test_the_date_is_a_mark_too(server, file):
    server.tag = "Mon, 05 Jun 2017 00:00:00 GMT"
    server.cuts, server.headers = [300_000], {"ETag": None, "Last-Modified": server.tag}
    assert fetch(file, pauses=QUICK).read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("length", [1000, 700_001])
def test_a_file_that_changed_meanwhile_starts_anew(server, file, length):
    server.data, server.tag, server.cuts = bytes(length), '"old"', [length - 1, 0, 0, 0]
    with pytest.raises(ConnectionError):
        fetch(file, pauses=QUICK)
    server.data, server.tag = DATA, '"one"'
    assert fetch(file).read_bytes() == DATA


def test_a_part_beyond_the_end_starts_anew(server, file, cache):
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(DATA + b"more")
    note = {"address": server.address, "mark": server.tag, "size": None}
    (cache / "weights.bin.part.json").write_text(json.dumps(note))
    assert fetch(file).read_bytes() == DATA
    assert server.asked == ["bytes=700005-", None]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"address": "x", "mark": "\\"one\\"", "size": 9}'])
def test_a_part_of_unknown_origin_is_not_used(server, file, cache, note):
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(b"other")
    (cache / "weights.bin.part.json").write_text(note)
    assert fetch(file).read_bytes() == DATA
    assert server.asked == [None]


def test_wrong_length(server, file, cache):
    with pytest.raises(ValueError, match=r"must have 700000 bytes\. Received: 700001"):
        fetch(replace(file, size=700_000))
    server.headers = {"Content-Length": None}  # the end of the connection is the end of the file
    with pytest.raises(ValueError, match="at most 700000 bytes"):
        fetch(replace(file, size=700_000))
    server.cuts = [10]
    with pytest.raises(ValueError, match=r"must have 700001 bytes\. Received: 10"):
        fetch(replace(file, size=700_001))
    server.headers = {"Content-Length": str(5 << 30)}
    with pytest.raises(ValueError, match="at most 4294967296 bytes"):
        fetch(file)
    server.data, server.headers = b"", {}
    with pytest.raises(ValueError, match="must not be empty"):
        fetch(replace(file, sha256=None))
    assert names(cache) == []


def test_a_full_disk_is_seen_before(file, cache, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5))
    with pytest.raises(OSError, match=r"cache must have 700001 bytes free\. Received: 5"):
        fetch(file)


def test_not_found(server, file, cache):
    server.statuses = [404]
    with pytest.raises(ConnectionError, match="404 Not Found"):
        fetch(file, pauses=QUICK)
    assert server.asked == [None]  # asking again would not help
    assert names(cache) == []


def test_a_web_page_is_no_file(server, file):
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(ConnectionError, match="web page"):
        fetch(file)


def test_no_network(cache):
    file = KnownFile("mine", "weights.bin", f"{NOBODY}/weights.bin", sha256=SHA256)
    with pytest.raises(ConnectionError, match="Connection refused") as caught:
        fetch(file, pauses=(99, 99))  # without an answer there is no second try
    assert f"put it at {cache / 'weights.bin'}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_redirects(server, file, cache):
    server.redirects = ["/elsewhere.bin"]
    fetch(file).unlink()
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        server.redirects = [target]
        with pytest.raises(ValueError, match=f"must not lead to another scheme. Received: {target}"):
            fetch(file)
    server.redirects = [server.address] * 20
    with pytest.raises(ConnectionError, match="redirects"):
        fetch(file)


def test_no_way_back_from_https():
    response = SimpleNamespace(is_redirect=True, close=lambda: None)
    session = SimpleNamespace(get=lambda *_, **__: response, get_redirect_target=lambda _: "http://x.org/y")
    with pytest.raises(ValueError, match=r"another scheme\. Received: http://x.org/y"):
        download._follow(session, "https://x.org/y", {})


def test_nobody_sees_half_a_file(server, file, cache):
    """Two at once: one transfer, and the name appears when all of the file is there."""
    server.hold = threading.Event()
    said, paths = [], []
    threads = [threading.Thread(target=lambda: paths.append(fetch(file, say=said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 5
    while not (server.asked and said) and time.monotonic() < until:
        time.sleep(0.01)
    assert not (cache / "weights.bin").exists()
    server.hold.set()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [DATA, DATA]
    assert server.asked == [None]
    assert "waiting" in said[0]
    assert names(cache) == ["weights.bin"]
