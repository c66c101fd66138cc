"""`ssd models` as a user runs it."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import file_server
import pytest
from file_server import DATA, NOBODY, SHA256, names

from ssd.known import KNOWN

cache, server = file_server.cache, file_server.server  # fixtures
SSD = Path(sys.executable).with_name("ssd")


def ssd(*arguments, **environment):
    command = [SSD, "models", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_list_and_show(cache):
    listed = ssd("list")
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", *KNOWN]
    rows = json.loads(ssd("list", "--json").stdout)
    assert {row["name"]: row["address"] for row in rows} == {f.name: f.address for f in KNOWN.values()}
    shown = ssd("show", "coco").stdout
    assert KNOWN["coco"].sha256 in shown
    assert f"no; its place is {cache / KNOWN['coco'].file_name}" in shown
    cache.mkdir()
    (cache / KNOWN["coco"].file_name).write_bytes(b"damaged")
    (cache / KNOWN["voc"].file_name).write_bytes(b"unchecked")
    assert re.search(r"cached +damaged: .*must have the SHA-256", ssd("show", "coco").stdout)
    assert re.search(rf"cached +{cache / KNOWN['voc'].file_name}", ssd("show", "voc").stdout)


def test_fetch(server, cache, tmp_path):
    done = ssd("fetch", server.address, "--sha256", SHA256.upper(), "--to", tmp_path / "to")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'to/weights.bin'}\n"), done.stderr
    assert (tmp_path / "to/weights.bin").read_bytes() == DATA
    done = ssd("fetch", server.address)  # into the cache, where each address has its folder
    path = Path(done.stdout.strip())
    assert (path.read_bytes(), path.parent.parent, SHA256 in done.stderr) == (DATA, cache, True)
    source = tmp_path / "source"
    source.mkdir()
    (source / KNOWN["voc-keras-v1"].file_name).write_bytes(DATA)
    done = ssd("fetch", "voc-keras-v1", "--from", source)
    assert done.stdout == f"{cache / 'weights_SSD300.hdf5'}\n", done.stderr


def test_another_process_goes_on_where_one_was_killed(server, tmp_path):
    command = [SSD, "models", "fetch", server.address, "--sha256", SHA256, "--to", tmp_path / "to"]
    part = tmp_path / "to/weights.bin.part"
    server.hold = threading.Event()
    with subprocess.Popen(command) as first:
        until = time.monotonic() + 5
        while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
            time.sleep(0.01)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
            assert "waiting" in second.stderr.readline()
            first.kill()
            server.hold.set()
            second.communicate()
    assert (first.returncode, second.returncode) == (-9, 0)
    assert server.asked == [None, "bytes=262144-"]
    assert (tmp_path / "to/weights.bin").read_bytes() == DATA
    assert names(tmp_path / "to") == ["weights.bin"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "nothing"], "must be one of coco"),
        (["fetch", "nothing"], "must be one of coco"),
        (["fetch", "coco"], "ssd300_vgg16_coco.*put it at .*cache.*--from"),
        (["fetch", "coco", "--sha256", "0" * 64], "--sha256 must begin with b556d3b4"),
        (["fetch", "voc-keras-v1"], "by hand.*https://mega.nz.*cache"),
        (["fetch", "ftp://x.org/y"], "must begin with https"),
        (["fetch", f"{NOBODY}/x.bin", "--sha256", "xyz"], "sha256 must match"),
        (["fetch", f"{NOBODY}/x.bin"], "Connection refused"),
    ],
)
def test_errors_are_one_line(cache, arguments, text):
    # A proxy that is not there stands for a machine without network.
    done = ssd(*arguments, NO_PROXY="127.0.0.1", HTTPS_PROXY=NOBODY, HTTP_PROXY=NOBODY)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"error: .*{text}.*\n", done.stderr)
