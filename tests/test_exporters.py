"""Every format and precision of one small-weighted SSD300: the same detector, or no file at all."""

import gc
import json
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason="needs the extra 'train'")
pytest.importorskip("tf2onnx", reason="needs the extra 'onnx'")
pytest.importorskip("ai_edge_litert", reason="needs the extra 'litert'")

from ssd.card import ModelCard
from ssd.checkpoint import load_checkpoint, save_checkpoint
from ssd.cli import main
from ssd.detector import Detector
from ssd.export import FORMATS, Gate, export_model
from ssd.images import load_image, preprocess
from ssd.model import build_model
from ssd.postprocess import postprocess
from ssd.runtimes import openvino_file

PHOTOS = "astronaut.jpg", "chelsea.png"
PHOTO_FOLDER = Path(__file__).parent.parent / "samples"
CASES = [(name, precision) for name, (_, has) in FORMATS.items() for precision in has]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Heads at one scale, so that deltas and scores are of the size of trained ones."""
    card = ModelCard("x", "ssd300", "vgg16", ("cat", "dog"))
    model = build_model(card.ssd_spec, 2)
    draw = np.random.default_rng(0)
    for layer in model.layers:
        if "mbox" in layer.name and layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([draw.normal(0, 0.01, kernel.shape), draw.normal(0, 0.5, bias.shape)])
    path = tmp_path_factory.mktemp("checkpoint") / "a.weights.h5"
    save_checkpoint(path, model, card)
    return path


@pytest.fixture(scope="module")
def photos():
    from conftest import SAMPLES

    return [(name, load_image(SAMPLES / name)) for name in PHOTOS]


@pytest.fixture(scope="module")
def exported(checkpoint, photos, tmp_path_factory):
    """Makes each export once: (format, precision) -> folder."""
    folder, made = tmp_path_factory.mktemp("exported"), {}
    card = load_checkpoint(checkpoint)[1]
    pictures = [preprocess(image, 300, card.preprocessing) for _, image in photos]

    def export(name, precision):
        if (name, precision) not in made:
            out = folder / f"{name}-{precision}"
            nms = (name, precision) == ("openvino", "f32")
            made[name, precision] = export_model(
                checkpoint, out, precision, pictures, format=name, nms=nms, gate=Gate(photos)
            )
            gc.collect()  # the graphs of one export are a gigabyte, and refer to themselves
        return made[name, precision]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converters
        yield export


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_an_export_is_the_detector_that_was_trained(exported, photos, name, precision):
    folder = exported(name, precision)
    card = json.loads((folder / "card.json").read_text())
    assert (card["precision"], card["class_names"]) == (precision, ["cat", "dog"])
    assert set(card["notes"]) >= {"checkpoint_sha256", "made_with", "parity"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(card["sha256"]) == files - {"card.json"}
    one = Detector.load(folder)
    assert one.network.about.split()[1] == precision
    # Any number of pictures, of any size, at once: what each has alone.
    two = Detector.load(folder, batch=2).find_batch([image for _, image in photos], 0.4)
    for (_, image), both in zip(photos, two, strict=True):
        alone = one(image, score_threshold=0.4)
        assert len(alone) == len(both) > 0
        assert np.sort(both.scores) == pytest.approx(np.sort(alone.scores), abs=0.02)


def test_suppression_in_the_graph_finds_what_numpy_finds(exported, photos):
    detector = Detector.load(exported("openvino", "f32"))
    limits = detector.network.limits
    assert (limits.score_threshold, limits.iou_threshold, limits.max_detections) == pytest.approx(
        (0.01, 0.45, 200)
    )
    for _, image in photos:
        inside = detector(image)
        outputs = detector.network(detector.prepare([image]))
        logits, deltas = outputs.class_logits[0], outputs.box_deltas[0]
        boxes, _, scores = postprocess(logits, deltas, detector.anchors, detector.card.ssd_spec)
        assert len(inside) == len(boxes) == 200
        assert inside.scores == pytest.approx(scores, abs=1e-4)
        # Where scores are equal another box may come first: most are the same in the same place.
        same = np.abs(inside.boxes - boxes).max(1) < 1e-3
        assert same.mean() > 0.9


def test_a_fixed_batch_passes_the_gate_and_takes_nothing_else(checkpoint, photos, tmp_path):
    folder = export_model(checkpoint, tmp_path / "pair", batch=2, nms=True, gate=Gate(photos))
    one = Detector.load(checkpoint)
    found = Detector.load(folder, batch=2).find_batch([image for _, image in photos], 0.4)
    assert [len(f) for f in found] == [len(one(image, score_threshold=0.4)) for _, image in photos]
    with pytest.raises(ValueError, match="in batches of 1"):
        Detector.load(folder)


def test_onnx_carries_its_card(exported):
    import onnx

    folder = exported("onnx", "f32")
    props = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert json.loads(props["card"])["class_names"] == ["cat", "dog"]


def test_a_saved_model_with_other_operations_is_refused(exported, tmp_path):
    import tensorflow as tf

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 300, 300, 3), name="image")])
        def infer(self, image):
            text = tf.io.read_file("/etc/hostname")
            logits = tf.zeros((1, 8732, 3)) + tf.cast(tf.strings.length(text), tf.float32)
            return {"class_logits": logits, "box_deltas": tf.zeros((1, 8732, 4))}

    from ssd.runtimes.network import Options
    from ssd.runtimes.saved_model import load

    module = Reader()
    tf.saved_model.save(module, str(tmp_path / "saved_model"), {"serving_default": module.infer})
    with pytest.raises(ValueError, match="ReadFile"):
        load(tmp_path / "saved_model", ModelCard("x", "ssd300", "vgg16", ("cat", "dog")), Options())


def test_an_export_that_fails_the_gate_leaves_nothing(checkpoint, photos, tmp_path, monkeypatch):
    card = load_checkpoint(checkpoint)[1]
    flipped = replace(card.preprocessing, channel_order="RGB")
    read = openvino_file.load
    monkeypatch.setattr(openvino_file, "load", lambda file, card, options: read(file, card, options))
    monkeypatch.setattr(
        "ssd.detector.read_model_card",
        lambda file: replace(card, precision="f32", preprocessing=flipped),
    )
    with pytest.raises(ValueError, match="first apart at conv4_3_norm"):
        export_model(checkpoint, tmp_path / "m", gate=Gate(photos))
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_killed_politely_leaves_nothing(checkpoint, tmp_path):
    command = [Path(sys.executable).with_name("ssd"), "export", checkpoint, "--out", tmp_path / "model"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 240
        while not (tmp_path / ".part-model").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        process.terminate()
        errors = process.communicate(timeout=240)[1]
    assert (process.returncode, list(tmp_path.iterdir())) == (130, []), errors
    assert errors.splitlines()[-1] == "interrupted"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "litert", "--precision", "bf16"], "must have the precision"),
        (["--format", "onnx", "--nms"], "needs the format openvino"),
        (["--precision", "int8"], "needs --data"),
    ],
)
def test_what_cannot_be_exported_is_said_at_once(checkpoint, tmp_path, options, words):
    done = CliRunner().invoke(main, ["export", str(checkpoint), "--out", str(tmp_path / "m"), *options])
    assert done.exit_code in (1, 2)
    assert words in done.output
    assert not (tmp_path / "m").exists()


def test_accuracy_control_measures_map_on_the_photos_that_it_is_given(
    checkpoint, photos, tmp_path, monkeypatch
):
    """NNCF's search takes long: a stand-in calls what it is handed, on the real graph."""
    import nncf
    import openvino

    from ssd.records import Sample

    detector = Detector.load(checkpoint)
    size = photos[1][1].shape[:2]
    # The truth is what the checkpoint itself finds best: of one box a class, mAP is 1.
    best = detector(photos[1][1], max_detections=1)
    truth = best.boxes, best.labels, np.array([False]), np.array([False])
    sample = Sample("cat", PHOTO_FOLDER / PHOTOS[1], *size, *truth)
    wrong = replace(sample, labels=1 - best.labels)
    seen = {}

    def stand_in(graph, calibration, validation, score, **options):
        run = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        seen["scores"] = [score(run, some)[0] for some in (validation.get_data(), validation.get_data([1]))]
        seen["input"] = next(iter(validation.get_inference_data([0]))).shape
        seen["options"] = options
        return graph

    monkeypatch.setattr(nncf, "quantize_with_accuracy_control", stand_in)
    picture = preprocess(photos[1][1], 300, detector.card.preprocessing)
    options = {"gate": Gate(photos, [sample, wrong]), "accuracy_control": True}
    export_model(checkpoint, tmp_path / "m", "int8", [picture], **options)
    both, second = seen["scores"]
    assert 0 < both < 1
    assert second != both  # of the photos it is handed, not of all
    assert seen["input"] == (1, 300, 300, 3)
    assert seen["options"]["max_drop"] == 0.005
    assert len(seen["options"]["ignored_scope"].names) == 5


def test_accuracy_control_without_truth_or_elsewhere_is_refused(checkpoint, photos, tmp_path):
    for options, words in (
        ({"gate": Gate(photos)}, "labelled photos"),
        ({"format": "onnx", "gate": Gate(photos)}, "needs openvino int8"),
    ):
        with pytest.raises(ValueError, match=words):
            export_model(checkpoint, tmp_path / "m", "int8", accuracy_control=True, **options)
    assert not (tmp_path / "m").exists()
