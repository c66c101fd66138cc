"""Known files: the table, names, checksums, the cache."""

import hashlib
from dataclasses import replace
from pathlib import Path

import file_server
import pytest
from file_server import DATA, SHA256, names

from ssd.known import KNOWN, KnownFile, cache_folder, check, fetch, find_known, from_address, resolve
from ssd.spec import SPECS

cache, server, file = file_server.cache, file_server.server, file_server.file  # fixtures


def test_table():
    for name, file in KNOWN.items():
        assert name == file.name == find_known(name).name
        assert file.by_hand or file.address.startswith("https://"), name
        assert (file.spec is None) == (file.classes is None) == (file.clip is None), name
        assert file.spec is None or file.spec in SPECS, name
        assert file.classes in (None, "voc", "coco", "coco91"), name
        assert file.channel_order in (None, "RGB", "BGR"), name
        assert file.clip in (None, "none", "corners", "centres", "sides"), name
        assert not file.score or "published" in file.score, name
        assert file.format, name
        assert file.licence, name
    assert len({file.file_name for file in KNOWN.values()}) == len(KNOWN)
    assert len({file.address for file in KNOWN.values()}) == len(KNOWN)
    assert KNOWN["coco"].sha256.startswith("b556d3b4")  # as the publisher's file name says
    assert (KNOWN["voc"].spec, KNOWN["voc-keras-v1"].spec) == ("ssd300", "ssd300_v1")
    # Trained on COCO and then on VOC: the classes of one, the box sizes of the other.
    assert {f.spec for name, f in KNOWN.items() if name.endswith("-ft")} == {"ssd300_coco"}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"sha256": "B556D3B4"}, "sha256 must match"),
        ({"sha256": "b556"}, "sha256 must match"),
        ({"md5": "0" * 31}, "md5 must match"),
        ({"file_name": "../x"}, "no path"),
        ({"file_name": ".."}, "no path"),
    ],
)
def test_a_wrong_entry_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        KnownFile(**{"name": "x", "file_name": "x", "address": "https://x/x"} | values)


def test_names_and_addresses(cache, monkeypatch):
    with pytest.raises(ValueError, match=r"one of coco, voc, .*Received: 'nothing'"):
        find_known("nothing")
    assert from_address("https://x.org/a/b%20c.pth?raw=1").file_name == "b c.pth"
    for address in ("ftp://x/y", "file:///etc/passwd", "https:///y", "https://x.org/", "https://x/..%2f.."):
        with pytest.raises(ValueError, match="Received"):
            from_address(address)
    assert cache_folder() == cache
    monkeypatch.delenv("SSD_CACHE")
    assert (cache_folder().name, "ssd" in cache_folder().parts) == ("models", True)


def test_whole_file(server, file, cache):
    shown = []

    def track(pieces, text, total):
        shown.append((text, total))
        yield from pieces

    path = fetch(file, track=track)
    assert path == cache / "weights.bin"
    assert path.read_bytes() == DATA
    assert names(cache) == ["weights.bin"]
    assert shown == [("weights.bin", 3)]
    assert fetch(file) == path
    assert server.asked == [None]  # it was there the second time


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_wrong_checksum(server, file, cache, kind):
    server.data = DATA[:-1] + b"x"
    expected = getattr(hashlib, kind)(DATA).hexdigest()
    received = getattr(hashlib, kind)(server.data).hexdigest()
    with pytest.raises(ValueError, match=rf"weights\.bin must have .* {expected}\. Received: {received}"):
        fetch(replace(file, **{"sha256": None, "md5": None} | {kind: expected}))
    assert names(cache) == []


def test_leading_digits_of_a_checksum(file):
    path = fetch(replace(file, sha256=SHA256[:8]))
    check(path, file)
    with pytest.raises(ValueError, match="must have the SHA-256 00000000"):
        check(path, replace(file, sha256="0" * 8))
    with pytest.raises(ValueError, match=r"must have 5 bytes\. Received: 700001"):
        check(path, replace(file, size=5))


def test_a_file_without_checksum_says_what_it_is(file):
    said = []
    fetch(replace(file, sha256=None), say=said.append)
    assert len(said) == 1
    assert SHA256 in said[0]


def test_from_a_folder(file, tmp_path, cache):
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(FileNotFoundError, match=r"must hold weights\.bin"):
        fetch(file, source=source)
    (source / "weights.bin").write_bytes(b"wrong")
    with pytest.raises(ValueError, match=f"must have the SHA-256 {SHA256}"):
        fetch(file, source=source)
    assert names(cache) == []
    (source / "weights.bin").write_bytes(DATA)
    by_hand = replace(file, by_hand=True, address="https://x.org/page")
    with pytest.raises(
        ValueError, match=r"by hand\. Get it from https://x.org/page; put it at .*weights.bin"
    ):
        fetch(by_hand)
    assert fetch(by_hand, source=source).read_bytes() == DATA
    assert names(source) == ["weights.bin"]


def test_a_damaged_file_is_replaced_in_the_cache_only(server, file, tmp_path):
    said = []
    path = fetch(file)
    path.write_bytes(b"damaged")
    assert fetch(file, say=said.append).read_bytes() == DATA
    assert "fetched again" in said[0]
    own = tmp_path / "own"
    own.mkdir()
    (own / "weights.bin").write_bytes(b"precious")
    for one in (file, replace(file, sha256=None)):
        with pytest.raises(ValueError, match=r"own.weights\.bin must"):
            fetch(one, own)
    assert (own / "weights.bin").read_bytes() == b"precious"
    path.write_bytes(b"damaged")
    server.statuses = [404]
    with pytest.raises(ConnectionError):
        fetch(file)
    assert path.read_bytes() == b"damaged"


def test_resolve(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(KNOWN, "mine", file)
    own = tmp_path / "own.h5"
    own.touch()
    assert resolve(own) == own
    (tmp_path / "tf.ckpt.index").touch()
    assert resolve("tf.ckpt") == Path("tf.ckpt")
    (tmp_path / "mine").mkdir()  # a folder of that name hides no known file
    assert resolve("mine").read_bytes() == DATA
    with pytest.raises(ValueError, match=r"weights must be a file or one of coco, .*Received: 'gone.h5'"):
        resolve("gone.h5")
    (tmp_path / "voc").touch()
    assert resolve("voc") == Path("voc")
