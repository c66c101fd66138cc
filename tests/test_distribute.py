"""Several devices and processes train as one does, and so does JAX; through the command line.

A tiny network takes SSD300's place, but for one test. The recipe has what could go wrong with N devices:
a plain gradient, a clipped one, averaged weights, a decision by val_loss, and features on disk.
"""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")

import tiny_train
from conftest import make_mini_voc

from ssd.card import ModelCard
from ssd.checkpoint import save_checkpoint
from ssd.distribute import Devices
from ssd.model import build_model
from ssd.recipe import read_recipe
from ssd.run import Settings
from ssd.spec import SPECS
from ssd.train import train

SCRIPT = Path(tiny_train.__file__)
RECIPE = """
[[stages]]
layers = "bridge"
precision = "float32"
epochs = 2
optimizer = "sgd"
schedule = "constant"
learning_rate = 1e-3
clip_norm = 0.0
weight_decay = 5e-4
ema = 0.5

[[stages]]
layers = "heads"
precision = "float32"
epochs = 1
schedule = "plateau"
clip_norm = 0.5
cache_views = 1
"""
LOSSES = ("loss", "confidence_loss", "location_loss", "matched_acc", "val_loss", "val_acc")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, write_xml):
    """A folder: the data `mini`, a recipe, what one process makes of it (`one`), and what of that was on disk
    after the first epoch (`begun`)."""
    folder = tmp_path_factory.mktemp("trained")
    mini = make_mini_voc(folder / "mini", write_xml)
    (mini / "ImageSets/Main/train.txt").write_text("0\n1\n2\n3\n")  # two full batches of two
    (folder / "recipe.toml").write_text(RECIPE)
    settings = Settings(
        (str(mini),),
        ("blue", "red"),
        read_recipe(folder / "recipe.toml")[1],
        backbone_weights="random",
        batch_size=2,
        front="f32",
        save_every=1,
    )

    def say(line):
        if line.startswith("epoch 1:"):
            shutil.copytree(folder / "one", folder / "begun")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssd.start.build_model", tiny_train.tiny_model)
        train(settings, folder / "one", say)
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """Copies of both runs, which a test may change."""
    return [shutil.copytree(trained / name, tmp_path / name) for name in ("one", "begun")]


def command(trained, runs, *options):
    """The same training into another folder."""
    options = ["--batch-size", "2", "--front", "f32", "--save-every", "1", *options]
    options += ["--recipe", trained / "recipe.toml", "--backbone-weights", "random"]
    return [trained / "mini", "--out", runs[0].parent / "several", *options]


def start(script, options, **environment):
    environment = os.environ | environment
    return subprocess.Popen(
        [sys.executable, *script, *map(str, options)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(processes):
    """Wait for all, and stop those that are left if one fails."""
    try:
        outputs = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return [out for out, _ in outputs]


def workers(options):
    """Two processes that know each other by TF_CONFIG; what they said."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    hosts = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    configs = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": i}} for i in range(2)]
    return finish([start([SCRIPT], options, TF_CONFIG=json.dumps(config)) for config in configs])


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return np.array([[float(row[key]) for key in LOSSES] for row in csv.DictReader(file)])


def same_run(one, other, tolerance):
    """Every loss of every epoch, every weight and every number of the optimiser."""
    assert len(history(one)) == 3
    assert history(other) == pytest.approx(history(one), rel=tolerance)
    with np.load(one / "state.npz") as first, np.load(other / "state.npz") as second:
        assert first.files == second.files
        for key in set(first.files) - {"meta"}:
            scale = np.abs(first[key]).max()
            assert second[key] == pytest.approx(first[key], rel=tolerance, abs=float(tolerance * scale)), key


def test_two_devices_train_as_one(trained, runs):
    finish([start([SCRIPT], command(trained, runs, "--devices", "2"))])
    same_run(runs[0], runs[0].parent / "several", 1e-5)


def test_two_processes_train_as_one(trained, runs):
    chief, other = workers(command(trained, runs))
    same_run(runs[0], runs[0].parent / "several", 1e-5)
    assert "epoch 3" in chief
    assert "epoch" not in other  # the first alone speaks, and writes


def test_two_processes_go_on_with_a_run(runs):
    workers(["--resume", runs[1]])
    same_run(*runs, 1e-5)


def test_jax_goes_on_with_a_run_of_tensorflow(runs):
    pytest.importorskip("jax", reason="needs jax, of the extra 'dev'")
    # Without compiled features on disk the views of stage 2 are fresh: it is left out.
    for run in runs:
        settings = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(settings | {"stages": settings["stages"][:1]}))
    (said,) = finish([start([SCRIPT], ["--resume", runs[1]], KERAS_BACKEND="jax")])
    assert "on KERAS_BACKEND=jax frozen layers run in Keras" in said
    assert history(runs[1]) == pytest.approx(history(runs[0])[:2], rel=1e-3)


def test_jax_trains_the_real_network_with_the_same_loss(mini_voc, tmp_path):
    pytest.importorskip("jax", reason="needs jax, of the extra 'dev'")
    (mini_voc / "ImageSets/Main/train.txt").write_text("0\n1\n")
    save_checkpoint(
        tmp_path / "start.weights.h5",
        build_model(SPECS["ssd300"], 2),
        ModelCard("start", "ssd300", "vgg16", ("blue", "red")),
    )
    options = [
        mini_voc,
        "--stages",
        "fc6+heads:1",
        "--precision",
        "float32",
        "--init",
        tmp_path / "start.weights.h5",
    ]
    options += ["--front", "keras", "--batch-size", "1", "--out"]
    script = ["-m", "ssd.tools.train"]
    for backend in ("tensorflow", "jax"):
        finish([start(script, [*options, tmp_path / backend], KERAS_BACKEND=backend)])
    assert history(tmp_path / "jax") == pytest.approx(history(tmp_path / "tensorflow"), rel=1e-3)


def test_what_devices_refuse(monkeypatch):
    alone = Devices()
    assert (alone.count, alone.is_chief, alone.from_chief(lambda: [1])) == (1, True, [1])
    monkeypatch.setattr(Devices, "count", 2)
    alone.check(4, 9)
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of the 2 devices. Received: 3"):
        alone.check(3, 9)
    with pytest.raises(ValueError, match=r"must be full on 2 devices. Received: batch_size 4 and 3 training"):
        alone.check(4, 3)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_a_wrong_tf_config_is_named(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG must look like"):
        Devices()
