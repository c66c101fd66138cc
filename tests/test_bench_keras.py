"""`ssd bench` with a checkpoint, which Keras runs."""

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")
pytest.importorskip("torch", reason="needs the extra 'bench'")

from ssd.bench import contestants, rivals
from ssd.bench.visit import visit
from ssd.card import ModelCard
from ssd.checkpoint import save_checkpoint
from ssd.model import build_model
from ssd.runtimes.network import Options
from ssd.spec import VOC_CLASSES


def test_a_checkpoint_takes_part_and_has_a_twin(tmp_path, samples):
    card = ModelCard("x", "ssd300", "vgg16", VOC_CLASSES)
    file = tmp_path / "a.weights.h5"
    save_checkpoint(file, build_model(card.ssd_spec, len(VOC_CLASSES)), card)
    ours, theirs = contestants.contestants((str(file),), ("torch",), None, Options(), tmp_path)
    assert (ours.role, theirs.role) == ("model", "against")
    assert ours.flops == pytest.approx(62.7e9, rel=0.01)
    assert ours.size == file.stat().st_size
    batch = ours.detector.prepare([np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)])
    pairs = zip(ours.detector.network(batch)[:2], theirs.detector.network(batch)[:2], strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) < 1e-3
    assert visit(ours.detector, [samples / "chelsea.png"], False)["whole"] > 0
    assert set(rivals.RIVALS) == {"torch", "onnxruntime", "opencv"}
