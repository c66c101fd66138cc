"""Weights out of a compiled model: the default detector as the start of a training."""

import shutil

import numpy as np
import openvino
import pytest
from click.testing import CliRunner
from ssd.tools.transfer import main

from ssd.bench.graph import float32_graph, read_graph
from ssd.card import card_from_json
from ssd.detector import find_model
from ssd.images import load_image, preprocess
from ssd.model import build_model
from ssd.transfer.load import transfer
from ssd.transfer.read import open_weights

FOLDER = find_model("default").parent
CARD = card_from_json((FOLDER / "card.json").read_text(), "card.json")


def test_the_default_goes_into_keras_and_computes_what_its_own_numbers_give(samples):
    model = build_model(CARD.ssd_spec, len(CARD.class_names))
    ledger = transfer(model, CARD, FOLDER / "model.xml")
    assert not ledger.new
    assert {row.action for row in ledger.rows} == {"loaded", "converted"}
    # The graph with its int8 weights as float32 and its maps not rounded is the same network.
    graph = float32_graph(read_graph(FOLDER / "model.xml"))
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    picture = preprocess(load_image(samples / "chelsea.png"), 300, CARD.preprocessing)[None]
    logits, deltas = (np.asarray(values) for values in model.predict_on_batch(picture))
    theirs = compiled(picture)
    assert np.allclose(logits, theirs[0], atol=1e-3)
    assert np.allclose(deltas, theirs[1], atol=1e-3)


def test_its_file_is_known_by_content_and_tells_what_it_is():
    with open_weights(FOLDER / "model.xml") as file:
        assert file.format == "compiled model (int8)"
        assert file.card.class_names == CARD.class_names
        assert [layer.name for layer in file.layers[:2]] == ["conv1_1", "conv1_2"]
        assert file.size == 24_414_218


@pytest.mark.parametrize("name", ["default", CARD.name, str(FOLDER), str(FOLDER / "model.xml")])
def test_names_and_paths_of_it(name):
    done = CliRunner().invoke(main, [name, "--classes", "cat,hedgehog", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "compiled model (int8)" in done.output
    assert "classes: cat, hedgehog" in done.output
    assert "note: compiled in int8, read as float32" in done.output


def test_what_is_not_as_its_card_says_is_refused(tmp_path):
    def refusal(folder):
        done = CliRunner().invoke(main, [str(folder), "--dry-run"])
        assert done.exit_code == 1, done.output
        return done.output

    copy = tmp_path / "copy"
    shutil.copytree(FOLDER, copy)
    with open(copy / "model.bin", "r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    assert "must have the SHA-256 of its card" in refusal(copy)
    (copy / "card.json").unlink()
    assert "a model must have its card.json beside it" in refusal(copy / "model.xml")
    text = (FOLDER / "card.json").read_text()
    (copy / "model.bin").write_bytes((FOLDER / "model.bin").read_bytes())
    (copy / "card.json").write_text(text.replace('"vgg16"', '"inception_v3"'))
    assert "compiled models of uncut VGG16 alone" in refusal(copy)
