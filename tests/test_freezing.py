"""What a stage trains, and that nothing else moves."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

import weight_files as w  # noqa: E402
import weight_files_hdf5 as h  # noqa: E402
from test_transfer_formats import write_legacy  # noqa: E402

from ssd.card import ModelCard  # noqa: E402
from ssd.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.run import Settings  # noqa: E402
from ssd.spec import SPECS, VOC_CLASSES  # noqa: E402
from ssd.stages import Stage, choose_layers, freeze_all_but, list_layers  # noqa: E402
from ssd.start import start_from_file  # noqa: E402
from ssd.train import plan_stages  # noqa: E402
from ssd.transfer.load import transfer  # noqa: E402
from ssd.transfer.plan import Options  # noqa: E402
from ssd.transfer.write import save_model  # noqa: E402

SSD = Path(sys.executable).with_name("ssd")


@pytest.fixture(scope="module")
def model():
    return build_model(SPECS["ssd300"], 2)


@pytest.fixture(scope="module")
def wrapped():
    return build_model(SPECS["ssd300_v1"], 20, "inception_v3")


def test_words_patterns_and_ranges(model, wrapped):
    assert choose_layers(wrapped, "extractor", set()) == {"extractor"}
    assert choose_layers(model, "extractor", set()) == {
        f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, n + 1)
    }
    # Article 0: model.layers[0:2] frozen, model.layers[2:4] trained.
    assert choose_layers(wrapped, "0:2", set()) == {"extractor"}
    assert choose_layers(wrapped, "2:4", set()) == {"conv4_0", "conv4_1"}
    assert choose_layers(wrapped, "2:4+conv5_1", set()) == {"conv4_0", "conv4_1", "conv5_1"}
    assert choose_layers(model, "conv[1-3]_*", set()) == {
        "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3",
    }  # fmt: skip
    assert choose_layers(model, "30:", set()) | choose_layers(model, ":30", set()) == choose_layers(
        model, "all", set()
    )
    with pytest.raises(ValueError, match=r"a range such as 2:4.*Received: '900:'"):
        choose_layers(model, "900:", set())


def test_what_is_trained_is_listed_and_asserted(wrapped, monkeypatch):
    trained, frozen = freeze_all_but(wrapped, {"conv4_0", "conv4_1"})
    assert trained == 4_719_616
    assert trained + frozen == wrapped.count_params()
    assert list_layers(wrapped, {"conv4_0", "conv4_1"}) == "conv4_0, conv4_1"
    assert list_layers(wrapped, {"extractor", "conv5_1", "conv5_2", "conv5_3", "fc6"}) == (
        "extractor, conv5_1 ... fc6"
    )
    # A layer that does not do as it is told must not go unseen.
    freeze_all_but(wrapped, choose_layers(wrapped, "all", set()))
    stubborn = type(wrapped.get_layer("conv5_1"))
    monkeypatch.setattr(stubborn, "trainable", property(lambda self: True, lambda self, value: None))
    with pytest.raises(ValueError, match=r"layer conv4_\d must be as its stage says\. Received: trained"):
        freeze_all_but(wrapped, {"conv4_0", "conv4_1"})


def test_a_random_bridge_that_stays_frozen_is_refused(wrapped):
    new = {"conv4_0", "conv4_1"}
    # As known code did: layers 9 to 11 trained, the random bridge at 2 and 3 frozen.
    with pytest.raises(ValueError, match="Received: '9:12', which leaves out conv4_0, conv4_1"):
        plan_stages(wrapped, (Stage("9:12", 1),), new)
    with pytest.raises(ValueError, match="--freeze '2:4', which leaves out conv4_0, conv4_1"):
        plan_stages(wrapped, (Stage("all", 1),), new, freeze="2:4")
    with pytest.raises(ValueError, match="a stage must train layers"):
        plan_stages(wrapped, (Stage("bridge", 1),), set(), freeze="conv4_[01]")
    plan = plan_stages(wrapped, (Stage("bridge", 1), Stage("all", 1)), new, freeze="extractor")
    assert plan[0][1] == new
    assert "extractor" not in plan[1][1]


def test_without_new_layers_there_is_no_bridge_stage(model):
    assert [s.layers for s, _ in plan_stages(model, (Stage("bridge", 1), Stage("all", 1)), set())] == ["all"]
    with pytest.raises(ValueError, match="no layer is new"):
        plan_stages(model, (Stage("bridge", 1),), set())


def test_batch_normalisation_stays_in_inference_mode(wrapped):
    freeze_all_but(wrapped, {layer.name for layer in wrapped.layers})
    norms = [
        x for x in wrapped.get_layer("extractor").layers if isinstance(x, keras.layers.BatchNormalization)
    ]
    before = [np.asarray(v).copy() for n in norms for v in (n.moving_mean, n.moving_variance)]
    image = np.random.default_rng(0).uniform(-1, 1, (2, 300, 300, 3)).astype(np.float32)
    trained, still = (np.asarray(wrapped(image, training=mode)[1]) for mode in (True, False))
    after = [np.asarray(v) for n in norms for v in (n.moving_mean, n.moving_variance)]
    assert len(before) == 52
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    # fc6 takes another way to the same numbers in training.
    assert np.abs(trained - still).max() < 1e-4 * np.abs(still).max()


def test_new_layers_of_a_transfer_are_still_new_to_the_training(wrapped, tmp_path):
    h.write_keras2(tmp_path / "v1.hdf5", w.random_arrays(True))
    card = ModelCard("m", "ssd300_v1", "inception_v3", VOC_CLASSES)
    ledger = transfer(wrapped, card, tmp_path / "v1.hdf5", Options(offset=8, first="conv4_2"))
    save_model(tmp_path / "m.weights.h5", wrapped, card, ledger)
    settings = Settings(
        ("data",), VOC_CLASSES, (Stage("bridge", 1),), spec="ssd300_v1", backbone="inception_v3",
        backbone_weights="random", init=str(tmp_path / "m.weights.h5"),
    )  # fmt: skip
    begin = start_from_file(settings, "run", lambda line: None, None)
    assert begin.new == {"extractor", "conv4_0", "conv4_1"}
    assert begin.card.clip is None
    # In whatever format it was written.
    save_model(tmp_path / "m.keras", wrapped, card, ledger)
    same = replace(settings, init=str(tmp_path / "m.keras"), spec=None, backbone=None)
    begin = start_from_file(same, "run", lambda line: None, None)
    assert begin.new == {"extractor", "conv4_0", "conv4_1"}
    assert (begin.card.spec, begin.card.backbone) == ("ssd300_v1", "inception_v3")
    # A checkpoint of a training has been trained.
    save_checkpoint(tmp_path / "m.weights.h5", wrapped, card)
    assert start_from_file(settings, "run", lambda line: None, None).new == set()


def test_replay_of_article_0(mini_voc, tmp_path):
    """The file of 66 layers, offset 8, one epoch of the bridge: nothing but conv4_0 and conv4_1 moves."""
    for path in (mini_voc / "Annotations").iterdir():
        text = path.read_text().replace("<name>red", "<name>cat").replace("<name>blue", "<name>dog")
        path.write_text(text)
    arrays = w.random_arrays(True)
    h.write_keras2(tmp_path / "weights_SSD300.hdf5", arrays)
    keras.utils.set_random_seed(5)
    inception = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(300, 300, 3))
    write_legacy(tmp_path / "inception.h5", inception)
    done = subprocess.run(
        [SSD, "train", mini_voc, "--init", tmp_path / "weights_SSD300.hdf5", "--spec", "ssd300_v1",
         "--backbone", "inception_v3", "--offset", "8", "--from", "conv4_2", "--classes", "voc",
         "--backbone-weights", tmp_path / "inception.h5", "--stages", "bridge:1", "--batch-size", "2",
         "--front", "keras", "--out", tmp_path / "run"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trained: conv4_0, conv4_1" in done.stdout
    assert "4,719,616 parameters trained" in done.stdout
    model, card = load_checkpoint(tmp_path / "run/checkpoints/last.weights.h5")
    assert card.class_names == VOC_CLASSES
    for layer in (layer for layer in model.layers if layer.weights):
        own = layer.get_weights()
        if layer.name == "extractor":
            wanted = inception.get_weights()[: len(own)]
        elif layer.name in ("conv4_0", "conv4_1"):
            continue
        else:
            wanted = list(arrays[layer.name].values())
        assert all(np.array_equal(a, b) for a, b in zip(own, wanted, strict=True)), layer.name
    # The bridge has moved from where the same seed starts it.
    keras.utils.set_random_seed(0)
    start = build_model(SPECS["ssd300_v1"], 20, "inception_v3")
    for name in ("conv4_0", "conv4_1"):
        assert not np.array_equal(
            model.get_layer(name).get_weights()[0], start.get_layer(name).get_weights()[0]
        )
    shutil.rmtree(tmp_path / "run")
