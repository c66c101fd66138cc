"""Training a classifier on tiny pictures: resumed, held, from stored features; its extractor in SSD300."""

import csv
import itertools
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from test_classify_data import write_classes

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.card import ModelCard  # noqa: E402
from ssd.classify.batches import ClassBatches, change, from_pixels, prepare  # noqa: E402
from ssd.classify.evaluate import evaluate_split, export_classifier, open_classifier  # noqa: E402
from ssd.classify.features import read_features, write_features  # noqa: E402
from ssd.classify.network import build_classifier, probabilities  # noqa: E402
from ssd.classify.report import write_report  # noqa: E402
from ssd.classify.run import (  # noqa: E402
    ClassStage,
    Settings,
    load_classifier,
    read_settings,
    save_classifier,
    save_extractor,
)
from ssd.classify.spec import SCRATCH_SCALE, ClassifierCard, Network  # noqa: E402
from ssd.classify.start import read_images, read_parts  # noqa: E402
from ssd.classify.train import KEYS, train  # noqa: E402
from ssd.cli import main  # noqa: E402
from ssd.images import preprocess  # noqa: E402
from ssd.known import resolve  # noqa: E402
from ssd.model import build_model  # noqa: E402
from ssd.optimizers import plateau_rate  # noqa: E402
from ssd.recipe import read_recipe, recipe_names  # noqa: E402
from ssd.spec import PREPROCESSING, SPECS  # noqa: E402
from ssd.transfer.load import load_backbone, transfer  # noqa: E402
from ssd.watcher import Watcher  # noqa: E402

TINY = Network(
    image_size=(8, 8), cut="conv1_2", top="flatten:8", input_stage="noise:0.01", scale=SCRATCH_SCALE
)
STAGE = ClassStage("all", 2, 1e-3, precision="float32", weight_decay=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        write_classes(root / split, {"bright": count, "dark": count, "middle": count}, (10, 10))
    return root


def settings_of(data, **values) -> Settings:
    own = {"backbone_weights": "random", "batch_size": 4, "network": TINY, "stages": (STAGE,)}
    names = ("bright", "dark", "middle")
    return Settings(str(data), names, **own | values)


class Stop(Watcher):
    """Ends a training behind an epoch, as a kill does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_ended(self, row: dict, samples: list, found: list) -> None:
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


def quiet(text: str) -> None:
    pass


def rows_of(folder) -> list[dict]:
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def weights_of(folder):
    model, _ = load_classifier(folder / "checkpoints/last.weights.h5")
    return {v.path: np.asarray(v) for v in model.weights}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A whole run of two stages, with noise and dropout."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    stages = (replace(STAGE, layers="all", epochs=1), replace(STAGE, layers="top+conv1_2"))
    train(settings_of(data, stages=stages, hold=("conv1_1",), release_at=3), folder, quiet)
    return folder


def test_a_run_leaves_its_files(run, data):
    assert (run / "history.tsv").read_text().splitlines()[0] == "epoch\tloss\tacc\tval_loss\tval_acc"
    rows = rows_of(run)
    assert [(row["epoch"], row["stage_number"]) for row in rows] == [("1", "1"), ("2", "2"), ("3", "2")]
    # conv1_2: 36,928; top: 4,096 x 8 + 8 and 8 x 3 + 3; conv1_1, frozen in the second stage: 1,792.
    assert rows[-1]["trainable"] == str(36_928 + 32_776 + 27)
    assert rows[-1]["frozen"] == "1792"
    outcome = json.loads((run / "predictions.json").read_text())
    assert len(outcome["predictions"]) == 6
    assert np.sum(outcome["confusion"]) == 6
    best = max(rows, key=lambda row: float(row["val_acc"]))
    assert outcome["accuracy"] == float(best["val_acc"])
    wrong = sum(row["true"] != row["predicted"] for row in outcome["predictions"])
    assert len(list((run / "misclassified").iterdir())) == len(outcome["misclassified"]) == wrong
    assert read_settings(run).network == TINY
    found, _ = evaluate_split(run, read_images(str(data), "val"))
    assert found.scores.accuracy == outcome["accuracy"]
    assert found.loss == pytest.approx(outcome["loss"], abs=1e-5)


def test_a_killed_run_ends_with_the_same_weights(run, data, tmp_path):
    settings = read_settings(run)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "killed", quiet, watcher=Stop(epoch))
    train(settings, tmp_path / "killed", quiet)
    whole, killed = weights_of(run), weights_of(tmp_path / "killed")
    assert all(np.array_equal(whole[key], killed[key]) for key in whole)
    assert (run / "history.tsv").read_text() == (tmp_path / "killed/history.tsv").read_text()


def test_the_page_shows_the_run(run):
    html = write_report(run).read_text()
    for words in ("Confusion matrix", "logarithmic axis", "Misclassified images", "macro avg", "conv1_2"):
        assert words in html
    done = CliRunner().invoke(main, ["report", str(run), "--out", str(run / "again.html")])
    assert done.exit_code == 0, done.output
    assert (run / "again.html").read_text() == html


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_held_layers_move_from_their_release_on(data, tmp_path, optimizer):
    stage = replace(STAGE, epochs=3, optimizer=optimizer, weight_decay=0.1, schedule="constant")
    settings = settings_of(data, stages=(stage,), hold=("conv1_1", "fc6"), release_at=3)
    seen = []

    class Look(Watcher):
        def epoch_ended(self, row, samples, found):
            seen.append(weights_of(tmp_path / "run"))

    train(settings, tmp_path / "run", quiet, watcher=Look())
    moved = [
        {key for key in seen[0] if not np.array_equal(a[key], b[key])} for a, b in itertools.pairwise(seen)
    ]
    assert moved[0] == {"conv1_2/kernel", "conv1_2/bias", "fc8/kernel", "fc8/bias"}
    assert moved[1] == set(seen[0])


def test_stored_features_give_what_the_live_base_gives(data, tmp_path):
    """The top trained on them equals the top trained behind the frozen base, to 1e-4."""
    network = replace(TINY, cut="pool2", input_stage="upsample:2", dropout=0.3)
    stages = (replace(STAGE, layers="top", epochs=4, learning_rate=1e-2),)
    weights = tmp_path / "base.weights.h5"
    save_extractor(weights, build_classifier(network, 3), network)
    live = settings_of(data, network=network, stages=stages, augment="none", backbone_weights=str(weights))
    train(live, tmp_path / "live", quiet)
    images, val = read_parts(str(data), "train", "val", None, 0)
    file = write_features(tmp_path / "f.h5", network, {"train": images, "val": val}, str(weights), say=quiet)
    train(replace(live, features=str(file)), tmp_path / "cached", quiet)
    a, b = weights_of(tmp_path / "live"), weights_of(tmp_path / "cached")
    assert max(np.abs(a[key] - b[key]).max() for key in a) < 1e-4
    rows = [rows_of(tmp_path / n) for n in ("live", "cached")]
    for one, other in zip(*rows, strict=True):
        assert float(one["val_loss"]) == pytest.approx(float(other["val_loss"]), abs=1e-4)
        assert one["trainable"] == other["trainable"]
    # The whole classifier is in the run, and needs no features.
    found = [
        evaluate_split(tmp_path / n, read_images(str(data), "test"))[0].shares for n in ("live", "cached")
    ]
    assert np.abs(found[0] - found[1]).max() < 1e-4
    with pytest.raises(ValueError, match=r"features must train the top alone\. Received: \['all'\]"):
        train(replace(live, features=str(file), stages=(STAGE,)), tmp_path / "all", quiet)


@pytest.mark.parametrize("front", ["f32", "bf16"])
def test_a_compiled_base_gives_nearly_the_same_features(data, tmp_path, front):
    pytest.importorskip("openvino")
    network = replace(TINY, cut="pool2", input_stage="resize:12x16")
    images, val = read_parts(str(data), "train", "val", None, 0)
    found = [
        read_features(
            write_features(tmp_path / f"{f}.h5", network, {"train": images, "val": val}, "random",
                           front=f, say=quiet)
        ).parts["train"]
        for f in ("keras", front)
    ]  # fmt: skip
    assert found[0][0].shape == (18, 3, 4, 128)
    assert found[0][1].tolist() == images.labels.tolist()
    assert found[0][2] == images.names
    limit = {"f32": 1e-5, "bf16": 0.05}[front]
    assert np.abs(found[0][0] - found[1][0]).max() <= limit * np.abs(found[0][0]).max()


def test_interrupted_features_go_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr("ssd.classify.features.BATCH", 4)
    images, val = read_parts(str(data), "train", "val", None, 0)
    parts, path = {"train": images, "val": val}, tmp_path / "f.h5"

    def cut(items, text, total):
        for n, item in enumerate(items):
            if text == "features of train" and n == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        write_features(path, TINY, parts, "random", say=quiet, track=cut)
    assert not path.exists()
    with h5py.File(tmp_path / ".part-f.h5") as file:
        assert file["train/done"][0] == 8
    counts, said = {}, []

    def count(items, text, total):
        counts[text] = total
        return iter(items)

    write_features(path, TINY, parts, "random", say=said.append, track=count)
    assert counts["features of train"] == 3  # of 5 batches
    assert said[-1].startswith("going on with")
    again = write_features(tmp_path / "g.h5", TINY, parts, "random", say=quiet)
    one, other = read_features(path), read_features(again)
    assert one.meta == other.meta
    assert all(np.array_equal(one.parts[s][0], other.parts[s][0]) for s in parts)
    with pytest.raises(FileExistsError, match="new file"):
        write_features(path, TINY, parts, "random", say=quiet)


def test_features_of_other_weights_are_refused(data, tmp_path):
    images, val = read_parts(str(data), "train", "val", None, 0)
    path = write_features(tmp_path / "f.h5", TINY, {"train": images, "val": val}, "random", say=quiet)
    with h5py.File(path, "r+") as file:
        meta = json.loads(file.attrs["ssd_features"])
        file.attrs["ssd_features"] = json.dumps(meta | {"seed": 7})
    settings = settings_of(data, features=str(path), stages=(replace(STAGE, layers="top"),))
    with pytest.raises(ValueError, match="the base must be that of the features"):
        train(settings, tmp_path / "run", quiet)
    (tmp_path / "g.h5").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"as ssd classify features writes them\. Received: .*g\.h5"):
        read_features(tmp_path / "g.h5")


@pytest.mark.parametrize("backbone", ["vgg16", "vgg16_bn"])
def test_the_extractor_goes_into_a_detector_by_name(tmp_path, backbone):
    scale = SCRATCH_SCALE if backbone == "vgg16" else None
    network = Network(backbone, image_size=(32, 32), top="gap", scale=scale)
    model = build_classifier(network, 3)
    rng = np.random.default_rng(0)
    for variable in model.weights:  # biases and statistics that are not zero
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    run = tmp_path / "run"
    run.mkdir()
    save_extractor(run / "extractor.weights.h5", model, network)
    detector = build_model(SPECS["ssd300"], 2, backbone)
    card = ModelCard("m", "ssd300", backbone, ("a", "b"))
    ledger = transfer(detector, card, run / "extractor.weights.h5")
    loaded = [row for row in ledger.rows if row.action == "loaded"]
    assert len(loaded) == {"vgg16": 13, "vgg16_bn": 26}[backbone]
    assert load_backbone(detector, backbone, run / "extractor.weights.h5")[0] == "conv1_1"
    for row in loaded:
        own = model.get_layer(row.target["name"]).get_weights()
        new = detector.get_layer(row.target["name"]).get_weights()
        own[1] = own[1] / scale if scale else own[1]
        assert all(np.array_equal(a, b) for a, b in zip(own, new, strict=True))
    # The same picture, each fed as it wants it: the maps differ by the scale alone.
    picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mine = keras.Model(model.input, model.get_layer("pool2").output)(
        prepare(picture[None], network.preprocessing)
    )
    x = image = keras.Input((32, 32, 3))
    for name in [
        x.name for x in detector.layers[1:] if x.name.startswith(("conv1", "conv2", "pool1", "pool2"))
    ]:
        x = detector.get_layer(name)(x)
    theirs = keras.Model(image, x)(preprocess(picture, 32, PREPROCESSING[backbone])[None])
    assert np.allclose(np.asarray(mine) / (scale or 1), theirs, rtol=1e-4, atol=1e-3)
    if backbone == "vgg16_bn":
        plain = build_model(SPECS["ssd300"], 2)
        with pytest.raises(ValueError, match=r"without batch normalisation\. .*--backbone vgg16_bn"):
            load_backbone(plain, "vgg16", run / "extractor.weights.h5")


def test_a_wrapped_extractor_goes_into_a_detector(tmp_path):
    network = Network("inception_v3", "mixed2", (80, 80), top="gap")
    model = build_classifier(network, 3)
    save_extractor(tmp_path / "extractor.weights.h5", model, network)
    detector = build_model(SPECS["ssd300_v1"], 2, "inception_v3")
    # A run folder stands for its extractor.
    assert load_backbone(detector, "inception_v3", resolve(tmp_path)) == ["extractor"]
    pairs = zip(
        model.get_layer("extractor").get_weights(), detector.get_layer("extractor").get_weights(), strict=True
    )
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_what_is_exported_gives_the_same_probabilities(data, tmp_path):
    pytest.importorskip("openvino")
    for output, classes in (("softmax", ("a", "b", "c")), ("sigmoid", ("a", "b"))):
        network = replace(TINY, input_stage="noise:0.2,upsample:2,resize:12x10,conv:3x3x8", output=output)
        model = build_classifier(network, network.outputs(classes))
        file = tmp_path / f"{output}.weights.h5"
        save_classifier(file, model, ClassifierCard("m", network, classes))
        run, card = open_classifier(export_classifier(file, tmp_path / output))
        assert card.class_names == classes
        x = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
        wanted = probabilities(model(x))
        assert np.allclose(run(x), wanted, atol=1e-5)
        assert np.allclose(open_classifier(file)[0](x), wanted, atol=1e-6)
        with pytest.raises(ValueError, match="never overwritten"):
            export_classifier(file, tmp_path / output)


def test_sigmoid_and_the_plateau_of_the_article(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        write_classes(tmp_path / split, {"a": count, "b": count}, (10, 10))
    stage = ClassStage(
        "all", 3, 0.1, optimizer="sgd", schedule="plateau", plateau=1, step_decay=0.5, weight_decay=0.0,
        precision="float32",
    )  # fmt: skip
    network = replace(TINY, output="sigmoid")
    settings = Settings(str(tmp_path), ("a", "b"), network, (stage,), backbone_weights="random", batch_size=4)
    train(settings, tmp_path / "run", quiet)
    rows = rows_of(tmp_path / "run")
    # 2 steps an epoch, one rate a step: the last of epoch 1 is 0.1 / (1 + 0.5 x 1).
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.1 / 1.5)
    assert all(0 <= float(row["acc"]) <= 1 for row in rows)
    assert plateau_rate(stage, [-0.5, -0.5, -0.6, -0.6], 0.5, 0.03) == pytest.approx(0.03)


def test_changed_pictures():
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    mirrored = change(np.repeat(pixels, 50, axis=0), {"mirror": 1.0}, np.random.default_rng(0))
    same = [np.array_equal(m, p) for m, p in zip(mirrored, np.repeat(pixels, 50, axis=0), strict=True)]
    assert 30 < sum(same) < 70
    assert all(
        s or np.array_equal(m, p[:, ::-1])
        for s, m, p in zip(same, mirrored, np.repeat(pixels, 50, axis=0), strict=True)
    )
    shifted = change(np.repeat(pixels[:1], 99, axis=0), {"shift": 0.25}, np.random.default_rng(0))
    assert set(shifted[:, 0, 2, 0].tolist()) == {pixels[0, y, x, 0] for y in (0, 1) for x in (1, 2, 3)}
    batch = prepare(pixels, PREPROCESSING["vgg16"])
    assert np.array_equal(batch[1, :, :4], preprocess(pixels[1, :, :4], 4, PREPROCESSING["vgg16"]))
    assert batch[0, 0, 0].tolist() == [2 - 104.0, 1 - 117.0, 0 - 123.0]


def test_batches_follow_from_seed_and_epoch():
    pixels = np.random.default_rng(0).integers(0, 255, (7, 4, 4, 3), dtype=np.uint8)
    get = from_pixels(pixels, PREPROCESSING["vgg16"], {"mirror": 1.0})
    batches = [ClassBatches(get, np.arange(7), 3, seed=1, drop_rest=True) for _ in range(2)]
    assert len(batches[0]) == 2
    batches[1].start_epoch(1)
    first = batches[0][0][1].tolist()
    assert first != batches[1][0][1].tolist()
    batches[1].start_epoch(0)
    assert all(np.array_equal(a, b) for a, b in zip(batches[0][1], batches[1][1], strict=True))
    assert len(ClassBatches(get, np.arange(7), 3)) == 3
    assert ClassBatches(get, np.arange(7), 3, column=True)[0][1].shape == (3, 1)


def test_recipes_are_right():
    names = recipe_names("ssd.classify")
    assert {"vgg16-scratch", "vgg16-bn-scratch", "input-stage", "bottleneck", "hold"} <= set(names)
    for name in names:
        values, stages = read_recipe(name, KEYS, ClassStage, "ssd.classify")
        assert stages
        assert set(values) <= set(KEYS)


def keep_one_image(root):
    shutil.rmtree(root)
    write_classes(root, {"bright": 1}, (10, 10))


def empty_class(root):
    shutil.rmtree(root / "middle")
    (root / "middle").mkdir()


FAULTS = {
    "empty class": (empty_class, "a class must have images", "train/middle"),
    "one image": (keep_one_image, "must be a folder a class", "Received: bright"),
    "text": (lambda train: (train / "dark/x.jpg").write_text("text"), "a picture must be readable", "x.jpg"),
    "case": (lambda train: (train / "Dark").mkdir(), "differ by more than case", "Dark and dark"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_command_names_what_is_wrong(run, tmp_path, fault):
    for split, count in (("train", 3), ("val", 2)):
        write_classes(tmp_path / split, {"bright": count, "dark": count, "middle": count}, (10, 10))
    spoil, rule, culprit = FAULTS[fault]
    spoil(tmp_path / "train")
    network = ["--backbone-weights", "random", "--image-size", "8", "--cut", "conv1_1", "--top", "gap"]
    commands = (
        ["train", str(tmp_path), "--out", str(tmp_path / "run"), "--stages", "all:1", *network],
        ["features", str(tmp_path), "--out", str(tmp_path / "f.h5"), *network],
        ["evaluate", str(run), str(tmp_path), "--split", "train"],
    )
    for command in commands:
        done = CliRunner().invoke(main, ["classify", *command])
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, SystemExit)  # no traceback
        if fault == "one image" and command[0] == "evaluate":
            rule, culprit = "every class must have its folder", "no 'dark'"
        assert rule in done.output
        assert culprit in done.output


def test_commands_from_data_to_scores(data, tmp_path):
    network = ["--backbone-weights", "random", "--image-size", "8", "--cut", "conv1_1", "--top", "gap:4"]
    out, file = str(tmp_path / "run"), str(tmp_path / "f.h5")

    def call(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["classify", *words])
        assert done.exit_code == code, done.output
        return done.output

    text = call("features", str(data), "--out", file, *network)
    assert f"train the top: ssd classify train --features {file}" in text
    text = call(
        "train", "--features", file, "--out", out, "--top", "gap:4", "--stages", "top:2", "--no-tensorboard"
    )
    assert f"into a detector: ssd train DATA --backbone-weights {out}" in text
    assert "holds a run already" in call("train", str(data), "--out", out, code=1)
    text = call(
        "evaluate", out, str(data), "--json", str(tmp_path / "s.json"), "--misclassified", str(tmp_path / "w")
    )
    assert "macro avg" in text
    assert "6 images, loss" in text
    assert json.loads((tmp_path / "s.json").read_text())["report"]["dark"]["support"] == 2
    call("export", out, "--out", str(tmp_path / "model"))
    again = call("evaluate", str(tmp_path / "model"), str(data))
    assert again.splitlines()[:7] == text.splitlines()[:7]
    assert "1,792  trained" in call("summary", out)
    text = call(
        "summary", "--image-size", "32", "--input-stage", "noise:0.01,upsample:2", "--freeze-depth", "20"
    )
    assert "15,241,802 parameters: 527,114 trained, 14,714,688 frozen" in text
    assert "give one of DATA" in call("train", code=2)


def test_cifar_without_a_network_is_a_clear_word(monkeypatch, tmp_path):
    def fail():
        raise Exception("URL fetch failure on https://www.cs.toronto.edu/: None -- no network")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", fail)
    command = ["classify", "train", "cifar10", "--val-share", "0.1", "--backbone-weights", "random"]
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert "error: cifar10 could not be fetched (URL fetch failure" in done.output
    assert "needs a network once" in done.output


def test_cifar_as_arrays(monkeypatch):
    rng = np.random.default_rng(0)
    parts = [
        (rng.integers(0, 255, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 100, (n, 1))) for n in (9, 4)
    ]
    monkeypatch.setattr(keras.datasets.cifar100, "load_data", lambda: tuple(parts))
    images = read_images("cifar100", "test")
    assert images.labels.tolist() == parts[1][1].ravel().tolist()
    assert images.names[3] == "cifar100/test/3"
    assert len(images.class_names) == 100
    with pytest.raises(ValueError, match=r"must be train or test\. Received: 'val'"):
        read_images("cifar100", "val")
