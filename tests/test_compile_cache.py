"""Compiled graphs on disk: the same boxes, never of another model, and no harm from a broken file."""

import os
import shutil

import numpy as np
import pytest

from ssd.cache import user_cache
from ssd.detector import Detector, find_model
from ssd.runtimes import openvino_cache, openvino_file
from ssd.runtimes.openvino_cache import KEEP, cache_file, cache_folder, read_cached, write_cached


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SSD_COMPILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch):
    """How often a graph was compiled."""
    calls, compile_graph = [], openvino_file._compile

    def count(*args):
        calls.append(args)
        return compile_graph(*args)

    monkeypatch.setattr(openvino_file, "_compile", count)
    return calls


def found(detector):
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return detector(picture, score_threshold=0.001).scores


def test_the_second_start_compiles_nothing_and_finds_the_same(folder, compiled):
    first = found(Detector.load("default"))
    assert (len(compiled), len(list(folder.iterdir()))) == (1, 1)
    assert np.array_equal(found(Detector.load("default")), first)
    many = Detector.load("default", threads=1, many=True)
    assert np.array_equal(found(many), first)
    assert len(compiled) == 1


def test_a_broken_file_is_made_again(folder, compiled):
    first = found(Detector.load("default"))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for count, broken in enumerate((b"", b"x", whole[: len(whole) // 2], bytes(flipped)), 2):
        path.write_bytes(broken)
        assert read_cached(path) is None
        detector = Detector.load("default")
        assert (len(compiled), read_cached(path) is None) == (count, False)
    assert np.array_equal(found(detector), first)
    write_cached(path, b"not of this OpenVINO", {"limits": None})
    Detector.load("default")
    assert len(compiled) == 6


def test_another_model_or_batch_never_takes_it(folder, compiled, tmp_path):
    Detector.load("default")
    Detector.load("default", batch=2)
    assert len(list(folder.iterdir())) == len(compiled) == 2
    copy = tmp_path / "copy"
    shutil.copytree(find_model("default").parent, copy)
    os.utime(copy / "model.bin", ns=(1, 1))
    Detector.load(copy)
    assert len(compiled) == 3


@pytest.mark.parametrize("off", ["off", "0"])
def test_it_can_be_turned_off(monkeypatch, compiled, off):
    monkeypatch.setenv("SSD_COMPILE_CACHE", off)
    monkeypatch.setattr(openvino_file, "write_cached", None)
    Detector.load("default")
    assert (cache_folder(), len(compiled)) == (None, 1)


def test_a_folder_that_cannot_be_written_does_no_harm(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSD_COMPILE_CACHE", str(tmp_path / "file"))
    assert len(found(Detector.load("default"))) > 0
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_round_trip_and_the_oldest_go(folder):
    paths = [cache_file([i]) for i in range(KEEP + 2)]
    for i, path in enumerate(paths):
        write_cached(path, b"\nblob\n" * i, {"limits": [0.01, 0.45, i]})
        os.utime(path, ns=(i, i))
    assert read_cached(paths[0]) is None
    blob, facts = read_cached(paths[-1])
    assert (bytes(blob), facts) == (b"\nblob\n" * (KEEP + 1), {"limits": [0.01, 0.45, KEEP + 1]})
    assert sorted(folder.iterdir()) == sorted(paths[-KEEP:])


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("SSD_COMPILE_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ssd/compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home/.cache/ssd"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert openvino_cache.cache_folder() == tmp_path / "local/ssd/Cache/compiled"
