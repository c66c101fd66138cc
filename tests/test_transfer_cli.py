"""`ssd transfer`, `ssd models show FILE` and `ssd train --init` as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_files as w
import weight_files_hdf5 as h

from ssd.checkpoint import read_card
from ssd.cli import main

SSD = Path(sys.executable).with_name("ssd")


def ssd(*arguments, cwd=None, **environment):
    done = subprocess.run(
        [SSD, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=os.environ | environment
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def errors(done):
    """The lines of standard error that are ours: TensorFlow adds its own."""
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def test_a_model_of_other_classes_goes_all_the_way_to_a_picture(v1_file, samples, tmp_path):
    done = ssd("transfer", v1_file, "--classes", "cat,person,unicorn", "--out", "m.weights.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 classes kept, 1 new" in done.stdout
    assert "model -> m.weights.h5" in done.stdout
    card = read_card(tmp_path / "m.weights.h5")
    assert (card.spec, card.class_names) == ("ssd300_v1", ("cat", "person", "unicorn"))
    ledger = json.loads((tmp_path / "m.weights.h5.ledger.json").read_text())
    assert ledger["sums"]["sliced"] + ledger["sums"]["loaded"] == ledger["model"]["parameters"]
    again = ssd("transfer", v1_file, "--out", "m.weights.h5", cwd=tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in errors(again)[0]
    assert ssd("export", "m.weights.h5", "--out", "m", cwd=tmp_path).returncode == 0
    found = ssd("detect", samples / "chelsea.png", "--model", "m", "--save", "json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    shown = ssd("models", "show", tmp_path / "m.weights.h5")
    assert shown.returncode == 0
    assert "a detector: ssd300_v1 (its card), 4 outputs" in shown.stdout
    assert "  12  conv4_2  kernel 3x3x512x512  bias 512" in shown.stdout


def test_a_dry_run_prints_the_ledger_and_writes_nothing(v1_file, tmp_path):
    done = ssd(
        "transfer", v1_file, "--spec", "ssd300_v1", "--backbone", "inception_v3", "--offset", "8",
        "--from", "conv4_2", "--backbone-weights", "random", "--dry-run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["11", "conv4_1", "3x3x256x512", "-", "-", "-", "left:", "skipped", "on", "purpose,"] in [
        line[:10] for line in lines
    ]
    assert ["12", "conv4_2", "3x3x512x512", "->", "4", "conv4_2", "3x3x512x512", "loaded"] in lines
    assert "= 28,562,521 parameters" in done.stdout


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--spec", "ssd300"], 1, "7,308 anchors, ssd300_v1 (its heads)"),
        (["--spec", "ssd900"], 1, "spec must be one of ssd300, ssd300_coco, ssd300_v1"),
        (["--backbone", "resnet"], 1, "backbone must be one of"),
        (["--backbone", "inception_v3", "--backbone-weights", "random"], 1, "layer conv1_1 of the file"),
        (["--offset", "9", "--from", "conv4_2"], 1, "goes by offset 9"),
        (["--classes", "dog,dog"], 1, "class names must be unique"),
        (["--out", "m.txt"], 1, "a model file must end in .weights.h5"),
        (["--offset", "much"], 2, "must be a whole number or auto"),
    ],
)
def test_errors_are_one_line(options, status, message, v1_file, tmp_path, monkeypatch):
    # In this process: TensorFlow need not start for each.
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in options else ["--out", "m.weights.h5"]
    done = CliRunner().invoke(main, ["transfer", str(v1_file), *options, *out])
    assert done.exit_code == status
    assert isinstance(done.exception, SystemExit)
    assert message in done.stderr
    if status == 1:
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_a_known_name(v1_file, tmp_path):
    # A file of the name that the cache expects; its publisher states no checksum.
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "weights_SSD300.hdf5").symlink_to(v1_file)
    done = ssd("transfer", "voc-keras-v1", "--dry-run", SSD_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert "25,765,497 loaded" in done.stdout
    missing = ssd("transfer", "nothing", "--dry-run")
    assert missing.returncode == 1
    assert "weights must be a file or one of coco, " in errors(missing)[0]
    nowhere = ssd("train", tmp_path, "--init", "nothing", "--classes", "a")
    assert nowhere.returncode == 1
    assert len(errors(nowhere)) == 1


def test_only_what_is_needed_is_read(tmp_path):
    arrays = w.random_arrays(True)
    arrays["conv2_1"]["kernel"][:] = np.nan
    h.write_keras2(tmp_path / "a.h5", arrays)
    refused = ssd("transfer", tmp_path / "a.h5", "--dry-run")
    assert refused.returncode == 1
    assert "conv2_1/kernel:0 must be finite. Received: 73,728 NaN" in errors(refused)[0]
    from_4_2 = ssd("transfer", tmp_path / "a.h5", "--from", "conv4_2", "--dry-run")
    assert from_4_2.returncode == 0, from_4_2.stderr


def test_a_pipe_may_be_closed_early(v1_file):
    command = f"'{SSD}' models show '{v1_file}' | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Keras 2 HDF5, 25,765,497 parameters" in done.stdout
    assert done.stderr == ""


def test_help_tells_the_scheme():
    done = ssd("transfer", "--help")
    for text in (
        "--offset INTEGER|auto",
        "--from LAYER",
        "--classes",
        "--dry-run",
        "File index - model index",
    ):
        assert text in " ".join(done.stdout.split())
