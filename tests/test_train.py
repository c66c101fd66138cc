"""The whole training street on four tiny pictures, and resuming it after a kill."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.backend import keras
from ssd.batches import Batches
from ssd.card import ModelCard
from ssd.checkpoint import load_checkpoint, read_card, save_checkpoint
from ssd.cli import main
from ssd.features import FeatureCache, split_model
from ssd.history import TIMES
from ssd.model import build_model
from ssd.run import RunFolder, Settings, read_settings
from ssd.sizes import factors_of_sizes
from ssd.spec import SPECS
from ssd.stages import Stage, choose_layers, freeze_all_but, parse_stages
from ssd.start import start_from_imagenet
from ssd.train import plan_stages, train

SSD = Path(sys.executable).with_name("ssd")


@pytest.fixture(scope="module")
def model():
    return build_model(SPECS["ssd300"], 2)


@pytest.fixture(scope="module")
def wrapped():
    return build_model(SPECS["ssd300_v1"], 2, "inception_v3")


def test_parse_stages():
    stages = parse_stages("bridge:10,bridge+conv[45]_*:2", [5e-4, 1e-4], [3])
    assert stages == (Stage("bridge", 10, 5e-4, 3), Stage("bridge+conv[45]_*", 2, 1e-4, 3))
    for text in ("bridge", "bridge:0", ":3", "all:x", ""):
        with pytest.raises(ValueError, match="bridge:10,all:20"):
            parse_stages(text, [1e-3], [0])
    with pytest.raises(ValueError, match="one a stage"):
        parse_stages("all:1", [1e-3, 1e-4], [0])


def test_choose_layers(model, wrapped):
    new = {"fc6", "fc7"}
    assert choose_layers(model, "bridge", new) == new
    assert choose_layers(model, "bridge+conv5_*", new) == new | {"conv5_1", "conv5_2", "conv5_3"}
    assert len(choose_layers(model, "heads", new)) == 12
    assert len(choose_layers(model, "all", new)) == 36
    # Detector weights are all there: the bridge is the two layers behind the cut extractor.
    assert choose_layers(wrapped, "bridge", set()) == {"conv4_0", "conv4_1"}
    with pytest.raises(ValueError, match=r"Received: 'conv77_\*'"):
        choose_layers(model, "conv77_*", new)


def test_counts_of_the_bridge_stage(wrapped):
    trained, frozen = freeze_all_but(wrapped, {"conv4_0", "conv4_1"})
    # 288*4*4*512 + 512 and 512*3*3*512 + 512, twice 2,359,808 by coincidence.
    assert trained == 2 * 2_359_808
    assert trained + frozen == wrapped.count_params()
    freeze_all_but(wrapped, {layer.name for layer in wrapped.layers})


def test_a_first_stage_that_leaves_random_layers_is_refused(model):
    with pytest.raises(ValueError, match=r"leaves out conv4_3_norm, fc6"):
        plan_stages(model, (Stage("heads", 1),), {"fc6", "conv4_3_norm"})


def test_a_small_fc6_is_trained_on_with_small_steps(model):
    # Its start is He's divided by the size of pool5; Adam's full steps would undo such a kernel.
    fc6 = model.get_layer("fc6")
    kernel, bias = fc6.get_weights()
    he = kernel * np.sqrt(2 / 4608) / np.sqrt(np.mean(np.square(kernel)))  # 3 x 3 x 512 inputs
    try:
        for size, factor in ((1, 1), (11.5, 1 / 11.5), (0.5, 1)):
            fc6.set_weights([he / size, bias])
            assert factors_of_sizes(model)["fc6"] == pytest.approx(factor, rel=1e-4)
    finally:
        fc6.set_weights([kernel, bias])


@pytest.mark.parametrize(
    "trainable", [{"fc7"}, {"conv4_3_norm", "fc6"}, {"conv3_1"}, {"fc7_mbox_conf", "conv4_3_norm_mbox_conf"}]
)
def test_front_and_back_make_the_whole(model, trainable):
    front, back = split_model(model, trainable)
    assert not {layer.name for layer in front.layers} & trainable
    x = np.random.default_rng(0).normal(size=(1, 300, 300, 3)).astype(np.float32)
    whole, parts = model(x), back(front(x))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(whole, parts, strict=True))


def test_there_is_no_front_before_the_first_layer(model, wrapped):
    assert split_model(model, {"conv1_1"})[0] is None
    front, _ = split_model(wrapped, {"conv4_0", "conv4_1"})
    assert [tuple(o.shape) for o in front.outputs] == [(None, 35, 35, 288)]


def test_feature_cache(tmp_path):
    def view(i):
        return [np.full((2, 2, 3), i, np.float32)], np.float32([[0, 0, 1, i / 10]]), np.array([i])

    cache = FeatureCache(tmp_path, [(2, 2, 3)], 4, {"seed": 1})
    assert cache.missing() == [0, 1, 2, 3]
    assert cache.size_bytes == 4 * 12 * 2
    assert list(cache.fill(view, [0, 2])) == [0, 2]
    again = FeatureCache(tmp_path, [(2, 2, 3)], 4, {"seed": 1})
    assert again.missing() == [1, 3]
    maps, boxes, labels = again[2]
    assert (maps[0] == 2).all()
    assert np.allclose(boxes, [[0, 0, 1, 0.2]])
    assert labels.tolist() == [2]
    with pytest.raises(ValueError, match="same pictures and weights"):
        FeatureCache(tmp_path, [(2, 2, 3)], 4, {"seed": 2})


def test_batches_take_every_sample_once_an_epoch():
    seen = []

    def get(i):
        seen.append(i)
        return np.zeros((300, 300, 3), np.float32), np.zeros((0, 4), np.float32), np.zeros(0, int)

    batches = Batches(get, 5, SPECS["ssd300"], 2, seed=0, views_per_sample=2)
    orders = []
    for epoch in range(3):
        batches.start_epoch(epoch)
        for k in range(len(batches)):
            inputs, (classes, boxes) = batches[k]
        orders.append(seen.copy())
        seen.clear()
    assert inputs.shape == (1, 300, 300, 3)  # the rest of five
    assert classes.shape == (1, 8732)
    assert boxes.shape == (1, 8732, 5)
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]
    assert orders[0] != orders[2]  # the same views in another order
    batches.start_epoch(1, 1)
    assert batches.sample_indices(0) == [
        i - 5 for i in orders[1][2:4]
    ]  # its second batch; view i + 5 is of photo i


def test_checkpoint_round_trip(tmp_path, wrapped):
    card = ModelCard("x", "ssd300_v1", "inception_v3", ("a", "b"))
    path = tmp_path / "a.weights.h5"
    save_checkpoint(path, wrapped, card)
    assert [p.name for p in tmp_path.iterdir()] == ["a.weights.h5"]
    loaded, read = load_checkpoint(path)
    assert read == card
    assert all((a == b).all() for a, b in zip(loaded.get_weights(), wrapped.get_weights(), strict=True))
    with pytest.raises(ValueError, match=r"\.weights\.h5"):
        save_checkpoint(tmp_path / "a.h5", wrapped, card)
    (tmp_path / "b.weights.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a checkpoint must be a .*with a card.*b\.weights\.h5"):
        read_card(tmp_path / "b.weights.h5")


def _settings(data, stages, **changes):
    return Settings((str(data),), ("blue", "red"), stages, backbone_weights="random", batch_size=2, **changes)


@pytest.fixture
def all_random(mini_voc):
    """From random weights everything is new, so the bridge is everything."""
    return _settings(mini_voc, tuple(Stage(words, 1, precision="float32") for words in ("bridge", "all")))


def test_a_run_writes_what_it_says(all_random, tmp_path):
    lines = []
    best = train(all_random, tmp_path / "run", lines.append)
    assert lines[0] == "3 training and 1 validation images, 3 boxes for training"
    with open(tmp_path / "run/history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["epoch"], r["stage"]) for r in rows] == [("1", "bridge"), ("2", "all")]
    assert all(np.isfinite(float(r[k])) for r in rows for k in ("loss", "val_loss", "val_acc", "val_mAP"))
    last = rows[1]
    name = f"epoch-002-{float(last['val_loss']):.2f}-{float(last['val_acc']):.3f}.weights.h5"
    assert (tmp_path / "run/checkpoints" / name).exists()
    assert read_card(best).class_names == ("blue", "red")
    assert read_settings(tmp_path / "run") == all_random
    assert not list((tmp_path / "run").rglob(".part-*"))
    assert (tmp_path / "run/checkpoints/best-loss.weights.h5").exists()


@pytest.fixture
def start(tmp_path, model):
    """A checkpoint to start from, so that a stage may train a few layers only."""
    path = tmp_path / "start.weights.h5"
    save_checkpoint(path, model, ModelCard("start", "ssd300", "vgg16", ("blue", "red")))
    return path


def test_cached_features_train_and_frozen_layers_stay(mini_voc, start, tmp_path):
    settings = _settings(mini_voc, (Stage("fc6+fc7", 2, cache_views=2),), front="f32", init=str(start))
    train(settings, tmp_path / "run", lambda line: None)
    first, _ = load_checkpoint(start)
    last, _ = load_checkpoint(tmp_path / "run/checkpoints/last.weights.h5")
    moved = {
        layer.name
        for layer in first.layers
        if any(
            (a != b).any()
            for a, b in zip(layer.get_weights(), last.get_layer(layer.name).get_weights(), strict=True)
        )
    }
    assert moved == {"fc6", "fc7"}
    caches = {path.name.split("-")[0] for path in (tmp_path / "run/cache").iterdir()}
    assert caches == {"6", "1"}  # two views of three training images, one of the validation image


def test_the_cache_changes_no_loss(mini_voc, start, tmp_path):
    losses = []
    for name, options in {"cached": {"front": "f32"}, "fresh": {"front": "keras"}}.items():
        # bfloat16 would round what Keras' own front computes and not what is cached.
        stage = Stage("heads", 1, cache_views=1 if name == "cached" else 0, precision="float32")
        train(_settings(mini_voc, (stage,), init=str(start), **options), tmp_path / name, lambda line: None)
        with open(tmp_path / name / "history.csv", newline="") as file:
            row = next(csv.DictReader(file))
        losses.append([float(row[key]) for key in ("loss", "confidence_loss", "location_loss", "val_loss")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert (tmp_path / "cached/cache").exists()


def test_averages_are_kept_and_a_stage_ends_early(mini_voc, start, tmp_path):
    # No learning to speak of: the first epoch cannot be beaten, and the averages are the weights.
    stages = (
        Stage(
            "heads",
            5,
            1e-9,
            optimizer="sgd",
            schedule="plateau",
            plateau=1,
            ema=0.9,
            patience=1,
            cache_views=1,
        ),
        Stage("heads", 1, 1e-9),
    )
    lines = []
    train(_settings(mini_voc, stages, front="f32", init=str(start)), tmp_path / "run", lines.append)
    with open(tmp_path / "run/history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "6"]  # the next stage keeps its numbers
    assert "stage 1 ends: no higher val_mAP in 1 epochs" in lines
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-9)
    recipe = (tmp_path / "run/recipe.toml").read_text()
    assert 'schedule = "plateau"' in recipe
    assert (tmp_path / "run/ledger.json").exists()


def test_a_killed_run_ends_as_if_it_had_not_been_killed(mini_voc, start, tmp_path):
    options = ["--stages", "heads:3", "--batch-size", "1", "--save-every", "1", "--front", "f32"]
    options += ["--init", start]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    whole = tmp_path / "whole"
    runner = CliRunner()
    assert (
        runner.invoke(main, ["train", str(mini_voc), "--out", str(whole), *map(str, options)]).exit_code == 0
    )
    run, seen = tmp_path / "run", []
    command = [SSD, "train", mini_voc, "--out", run, *options]
    for kill in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command, **quiet)
        # Not at a moment of our choosing within a step: as soon as a state beyond the last one is there.
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            state = RunFolder(run).load_state()[0] if (run / "state.npz").exists() else {}
            place = (state.get("epoch", 0), state.get("done", 0))
            if place > (seen[-1] if seen else (0, 0)):
                break
            time.sleep(0.05)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(kill)
        assert process.wait() in (-signal.SIGKILL, 130)
        seen.append(place)
        command = [SSD, "train", "--resume", run]
    start.unlink()  # what it began with is not needed any more
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert seen[0] < seen[1] < (3, 0)
    rows = []
    for folder in (whole, run):
        with open(folder / "history.csv", newline="") as file:
            rows.append([{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)])
    assert len(rows[0]) == 3
    assert rows[0] == rows[1]  # every digit of every loss
    first, second = (
        load_checkpoint(f / "checkpoints/last.weights.h5")[0].get_weights() for f in (whole, run)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_flag_goes_before_the_stages_of_a_recipe(mini_voc, tmp_path, monkeypatch):
    (tmp_path / "r.toml").write_text(
        "".join(f"[[stages]]\nlayers = 'all'\nepochs = 1\nmosaic = {share}\n" for share in (0.25, 0.5))
    )
    seen = []
    monkeypatch.setattr("ssd.train.train", lambda settings, *_: seen.append(settings) or tmp_path)
    command = ["train", str(mini_voc), "--out", str(tmp_path / "run"), "--recipe", str(tmp_path / "r.toml")]
    for flags in ([], ["--mosaic", "0"]):
        assert CliRunner().invoke(main, [*command, *flags], catch_exceptions=False).exit_code == 0
    assert [[stage.mosaic for stage in settings.stages] for settings in seen] == [[0.25, 0.5], [0, 0]]


def test_a_run_begun_with_one_share_of_mosaics_for_all_stages_can_be_resumed(all_random, tmp_path):
    RunFolder(tmp_path).write_settings(all_random)
    values = json.loads((tmp_path / "run.json").read_text()) | {"mosaic": 0.4}
    for stage in values["stages"]:
        del stage["mosaic"]
    (tmp_path / "run.json").write_text(json.dumps(values))
    assert [stage.mosaic for stage in read_settings(tmp_path).stages] == [0.4, 0.4]


def test_every_stage_has_its_own_share_of_mosaics(mini_voc, start, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("ssd.batches.mosaic", lambda parts, centre: made.append(len(parts)) or parts[0])
    stages = tuple(Stage("heads", 1, mosaic=share, precision="float32") for share in (0.0, 1.0))
    counts = []
    train(
        _settings(mini_voc, stages, front="f32", init=str(start)),
        tmp_path / "run",
        lambda line: counts.append(len(made)) if line.startswith("stage 2") else None,
    )
    # Two of three photos are a batch, and the rest is left out; threads may have made the next one.
    assert counts == [0]
    assert set(made) == {4}
    assert len(made) >= 2


def test_bad_input_is_one_line(mini_voc, tmp_path, monkeypatch):
    def stderr_of(*options):
        done = CliRunner().invoke(main, ["train", *map(str, options)])
        assert done.exit_code in (1, 2)
        assert isinstance(done.exception, SystemExit)
        return done.stderr

    monkeypatch.chdir(tmp_path)
    assert "--recipe has its own stages" in stderr_of(mini_voc, "--recipe", "bridge", "--stages", "all:1")
    assert "a TOML file or one of bridge, default-model, hint, paper, scratch-bn, small-data" in stderr_of(
        mini_voc, "--recipe", "none"
    )

    assert "give either DATA or --resume RUN" in stderr_of()
    assert "split must be one of: train, val" in stderr_of(mini_voc, "--split", "nothing")
    assert "stages must look like" in stderr_of(mini_voc, "--stages", "bridge")
    (mini_voc / "JPEGImages/1.png").write_bytes(b"no picture")
    assert "1.png" in stderr_of(mini_voc, "--stages", "all:1", "--backbone-weights", "random")


def test_without_a_network_the_extractor_starts_random_and_says_so(mini_voc, monkeypatch):
    def offline(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr("ssd.transfer.load.resolve", offline)
    lines = []
    settings = Settings((str(mini_voc),), ("blue", "red"), (Stage("bridge", 1),))
    begin = start_from_imagenet(settings, "run", lines.append, None)
    assert begin.new == {layer.name for layer in begin.model.layers if layer.weights}
    assert "RANDOM" in lines[-1]


def test_a_loss_that_is_not_finite_stops_at_once(all_random, tmp_path, monkeypatch):
    from ssd import steps as module

    monkeypatch.setattr(module.ConfidenceLoss, "call", lambda self, t, p: keras.ops.sum(p) * float("nan"))
    with pytest.raises(ValueError, match="loss must be finite") as caught:
        train(all_random, tmp_path / "run", lambda line: None)
    message = str(caught.value)
    # The order of the first epoch for seed 0, of which a batch takes two.
    photos = [
        all_random.data[0] + f"/JPEGImages/{i}.png" for i in np.random.default_rng([0, 0]).permutation(3)[:2]
    ]
    assert (
        f"Received: confidence_loss nan at batch 1 of 1 in epoch 1, made of {', '.join(photos)}. " in message
    )
    assert "Try a lower learning rate" in message
    assert not (tmp_path / "run/state.npz").exists()
    assert not (tmp_path / "run/history.csv").exists()
