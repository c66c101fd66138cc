import json

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.card import ModelCard
from ssd.checkpoint import save_checkpoint
from ssd.detector import Detector
from ssd.export import export_model
from ssd.images import load_image, preprocess
from ssd.model import build_model


@pytest.mark.parametrize(("spec", "backbone"), [("ssd300", "vgg16"), ("ssd300_v1", "inception_v3")])
def test_the_compiled_model_is_the_same_network(tmp_path, samples, spec, backbone):
    card = ModelCard("x", spec, backbone, ("a", "b"))
    model = build_model(card.ssd_spec, 2, backbone)
    save_checkpoint(tmp_path / "a.weights.h5", model, card)
    folder = export_model(tmp_path / "a.weights.h5", tmp_path / "m", notes={"data": "none"})
    batch = preprocess(load_image(samples / "chelsea.png"), 300, card.preprocessing)[None]
    theirs = Detector.load(folder).network(batch)[:2]
    ours = model(batch, training=False)
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(np.asarray(a) - b).max() < 1e-4
    detector = Detector.load(folder)
    assert detector.card.notes["data"] == "none"
    assert detector(load_image(samples / "chelsea.png"), score_threshold=0.0).class_names == ("a", "b")


def test_a_model_is_never_overwritten_and_nothing_half_is_left(tmp_path):
    card = ModelCard("x", "ssd300", "vgg16", ("a",))
    save_checkpoint(tmp_path / "a.weights.h5", build_model(card.ssd_spec, 1), card)
    (tmp_path / "m").mkdir()
    with pytest.raises(ValueError, match="never overwritten"):
        export_model(tmp_path / "a.weights.h5", tmp_path / "m")
    with pytest.raises(ValueError, match="calibrated"):
        export_model(tmp_path / "a.weights.h5", tmp_path / "n", "int8", [])
    assert not (tmp_path / "n").exists()
    export_model(tmp_path / "a.weights.h5", tmp_path / "n")
    assert sorted(p.name for p in (tmp_path / "n").iterdir()) == ["card.json", "model.bin", "model.xml"]
    assert set(json.loads((tmp_path / "n/card.json").read_text())["sha256"]) == {"model.xml", "model.bin"}
