"""A stage that learns from a hint: the loss by hand, the street on four pictures, and what is refused."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.backend import keras
from ssd.card import ModelCard
from ssd.checkpoint import load_checkpoint, save_checkpoint
from ssd.cli import main
from ssd.features import leading_to
from ssd.hint import HintBatches, HintLoss, hinted_model
from ssd.model import build_model
from ssd.report import write_report
from ssd.run import Settings
from ssd.sizes import factors_of_sizes
from ssd.spec import SPECS
from ssd.stages import Stage
from ssd.train import plan_stages, train
from ssd.transfer.plan import Options
from ssd.watcher import Watcher

NAMES = ("blue", "red")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """An SSD300 of random weights, whose extractor gives the hint."""
    path = tmp_path_factory.mktemp("start") / "start.weights.h5"
    keras.utils.set_random_seed(1)
    save_checkpoint(
        path, build_model(SPECS["ssd300"], 2), ModelCard("start", "ssd300", "vgg16", NAMES, scores={})
    )
    return path


def rows_of(run) -> list[dict]:
    with open(run / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_loss_by_hand():
    hint, given = np.float32([[0, 2], [4, 4]]), np.float32([[2, 2], [0, 8]])
    # Differences 2, 0, -4, 4 are 1, 0, -2, 2 in units of 2; their squares have the mean 9 / 4.
    assert float(HintLoss(2.0)(hint, given)) == pytest.approx(2.25)


def test_batches_take_the_last_maps_as_targets():
    def get(i: int) -> tuple:
        maps = [np.full((2, 2, 1), i), np.full((3, 3, 1), -i), np.full((1, 1, 5), 2 * i)]
        return maps, np.zeros((0, 4)), np.zeros(0)

    inputs, targets = HintBatches(get, 4, SPECS["ssd300"], 2, hints=2)[1]
    assert inputs.shape == (2, 2, 2, 1)
    assert inputs[:, 0, 0, 0].tolist() == [2, 3]
    assert [target.shape for target in targets] == [(2, 3, 3, 1), (2, 1, 1, 5)]
    assert [target[:, 0, 0, 0].tolist() for target in targets] == [[-2, -3], [4, 6]]


@pytest.mark.parametrize(
    ("layers", "hint"), [("conv4_1", "conv4_1"), ("conv1_1+fc6", "conv4_3+fc7"), ("heads", "class_logits")]
)
def test_the_same_weights_have_no_loss(mini_voc, start, tmp_path, layers, hint):
    # Behind a frozen front and from the picture on, the pictures of teacher and network are the same views.
    stage = Stage(layers, 1, 1e-9, weight_decay=0, precision="float32", hint=hint, teacher=str(start))
    options = {"init": str(start), "front": "f32", "batch_size": 2}
    train(Settings((str(mini_voc),), NAMES, (stage,), **options), tmp_path / "run", lambda line: None)
    assert float(rows_of(tmp_path / "run")[0]["hint_loss"]) < 1e-6


class Kill(Watcher):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_ended(self, row: dict, samples: list, found: list) -> None:
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


def test_a_bridge_learns_what_the_old_extractor_gave(mini_voc, start, tmp_path):
    # Behind block3_pool the old extractor had one convolution more; its own weights stand in the file.
    stages = (
        Stage("bridge", 4, 2e-4, cache_views=1, hint="conv4_1", weight_decay=0),
        Stage("all", 1, 1e-9),
    )
    options = {"init": str(start), "backbone": "vgg16", "cut": "block3_pool", "batch_size": 1}
    options |= {"transfer": Options(first="conv4_2"), "backbone_weights": str(start), "freeze": "extractor"}
    settings = Settings((str(mini_voc),), NAMES, stages, **options)
    lines = []
    train(settings, tmp_path / "whole", lines.append)
    rows = rows_of(tmp_path / "whole")
    losses = [float(row["hint_loss"]) for row in rows[:4]]
    assert losses[3] < 0.5 * losses[0]
    assert [row["loss"] == "" for row in rows] == [True] * 4 + [False]  # no boxes at first
    assert any(line.startswith("the hint is conv4_1 of") for line in lines)
    write_report(tmp_path / "whole")  # with columns that are empty in some epochs
    assert (tmp_path / "whole/report.html").stat().st_size > 10_000
    first, _ = load_checkpoint(start)
    last, _ = load_checkpoint(tmp_path / "whole/checkpoints/last.weights.h5")
    behind = ("conv4_2", "fc6", "conv9_2_mbox_conf")
    for name in behind:
        pairs = zip(first.get_layer(name).get_weights(), last.get_layer(name).get_weights(), strict=True)
        assert all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(settings, run, lambda line: None, watcher=Kill(2))
    train(settings, run, lambda line: None)
    again, _ = load_checkpoint(run / "checkpoints/last.weights.h5")
    pairs = zip(last.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_a_bridge_that_boxes_trained_keeps_its_size(mini_voc, start, tmp_path):
    stages = (Stage("bridge", 1, 1e-9), Stage("bridge", 1, 1e-9, hint="conv4_1"))
    options = {"init": str(start), "backbone": "vgg16", "cut": "block3_pool", "batch_size": 2}
    options |= {"transfer": Options(first="conv4_2"), "backbone_weights": str(start), "front": "f32"}
    train(Settings((str(mini_voc),), NAMES, stages, **options), tmp_path / "run", lambda line: None)
    first, last = (
        load_checkpoint(next((tmp_path / "run/checkpoints").glob(name)))[0].get_layer("conv4_1").get_weights()
        for name in ("epoch-001-*", "epoch-002-*")
    )
    assert np.allclose(first[0], last[0], rtol=1e-3, atol=1e-6)


def test_a_large_bridge_is_trained_on_with_large_steps():
    model = build_model(SPECS["ssd300"], 2, "vgg16", "block3_pool")
    before = factors_of_sizes(model)
    layer = model.get_layer("conv4_1")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 100, bias])
    # Glorot's start of 512 channels to 512 is He's over the root of two.
    assert factors_of_sizes(model) == before | {"conv4_1": pytest.approx(100 / np.sqrt(2), rel=0.01)}


def test_what_leads_to_a_layer():
    x = keras.Input((4,), name="in")
    a = keras.layers.Dense(4, name="a")(x)
    b = keras.layers.Dense(4, name="b")(a)
    c = keras.layers.Add(name="c")([keras.layers.Dense(4, name="other")(x), a])
    tensor, names = leading_to(keras.Model(x, [b, c]), "c")
    assert names == {"in", "a", "other", "c"}
    assert tensor is c


def test_what_cannot_be_is_named():
    model = build_model(SPECS["ssd300"], 2, "vgg16", "block3_pool")
    new = {"conv4_0", "conv4_1", "fc6"}
    plan = plan_stages(model, (Stage("bridge", 1, hint="conv4_1"), Stage("all", 1)), new)
    assert plan[0][1] == {"conv4_0", "conv4_1"}  # fc6 leads to no hint
    assert "fc6" in plan[1][1]
    with pytest.raises(ValueError, match=r"hint of a stage must be layers of .*Received: 'conv4'"):
        plan_stages(model, (Stage("bridge", 1, hint="conv4"),), new)
    with pytest.raises(ValueError, match=r"layers that lead to its hint, conv4_1. Received: 'heads'"):
        plan_stages(model, (Stage("heads", 1, hint="conv4_1"),), new)
    with pytest.raises(ValueError, match=r"leaves out fc6"):
        plan_stages(model, (Stage("bridge", 1, hint="conv4_1"), Stage("heads", 1)), new)
    with pytest.raises(ValueError, match=r"lead to its hint, conv4_1. Received: 'fc6'"):
        plan_stages(model, (Stage("fc6", 1, hint="conv4_1+fc7"),), new)
    with pytest.raises(ValueError, match=r"needs a teacher, or --init. Received: 'conv4_1'"):
        Settings(("data",), NAMES, (Stage("bridge", 1, hint="conv4_1"),))

    class Other:
        layers, shapes = ("conv4_1",), ((38, 38, 7),)

    with pytest.raises(ValueError, match=r"the shape of its hint, \(38, 38, 7\). Received: \(38, 38, 512\)"):
        hinted_model(model, Other())


def test_weights_that_no_training_has_seen_are_no_hint(mini_voc, start, tmp_path):
    part = tmp_path / "part.weights.h5"
    command = ["transfer", str(start), "--skip", "conv4_1", "--out", str(part)]
    assert CliRunner().invoke(main, command).exit_code == 0
    settings = Settings((str(mini_voc),), NAMES, (Stage("all", 1, hint="conv4_1"),), init=str(part))
    with pytest.raises(ValueError, match=r"trained weights up to conv4_1. Received: .*part.* conv4_1"):
        train(settings, tmp_path / "run", lambda line: None)


def test_the_recipe_needs_a_detector(mini_voc, tmp_path):
    command = ["train", str(mini_voc), "--recipe", "hint", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "a stage with a hint needs a teacher, or --init" in result.output
    assert not (tmp_path / "run").exists()
