"""A classifier over pictures: probabilities, scores, misclassified pictures, and the compiled model."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.beside import replacing
from ssd.card import CARD_NAME, file_sha256
from ssd.classify.batches import prepare
from ssd.classify.data import ImageSet, load_pixels
from ssd.classify.network import probabilities
from ssd.classify.run import load_classifier, read_checkpoint_card
from ssd.classify.scores import Scores, score, worst
from ssd.classify.spec import ClassifierCard, Network, card_from_json, card_to_json
from ssd.download import untracked
from ssd.images import save_image

BATCH = 64
MOST = 24  # misclassified pictures kept


@dataclass(frozen=True)
class Outcome:
    """What a classifier says of a split."""

    shares: np.ndarray  # (N, C) probabilities
    loss: float  # mean cross-entropy
    scores: Scores


def open_classifier(path: str | Path) -> tuple[Callable[[np.ndarray], np.ndarray], ClassifierCard]:
    """(B, H, W, 3) preprocessed -> (B, C) probabilities, of a run, a checkpoint or a compiled folder.

    Raises:
        ValueError: it is none of them, or damaged.
    """
    path = Path(path)
    if not (path / "model.xml").is_file():
        model, card = load_classifier(path)
        return (lambda pictures: probabilities(model.predict_on_batch(pictures))), card
    import openvino

    card = read_card(path)
    for name, known in card.notes.get("sha256", {}).items():
        if file_sha256(path / name) != known:
            raise ValueError(f"{name} must be as its card says. Received: another hash in {path}")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(path / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )

    def run(pictures: np.ndarray) -> np.ndarray:
        found = compiled(pictures)[0].astype(np.float64)
        return np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 else found

    return run, card


def read_card(path: str | Path) -> ClassifierCard:
    """The card of a run, a checkpoint or a compiled folder. Raises ValueError: it is none of them."""
    path = Path(path)
    if (path / "model.xml").is_file() and (path / CARD_NAME).is_file():
        return card_from_json((path / CARD_NAME).read_text("utf-8"), str(path / CARD_NAME))
    return read_checkpoint_card(path)


def evaluate(
    run: Callable, network: Network, images: ImageSet, pixels: np.ndarray, track: Callable = untracked
) -> Outcome:
    """Probabilities and scores of a split.

    Args:
        run: of `open_classifier`.
        network: whose preprocessing it wants.
        images: the split.
        pixels: of `load_pixels`.
    """
    starts = range(0, len(images), BATCH)
    shares = np.concatenate(
        [
            run(prepare(pixels[i : i + BATCH], network.preprocessing))
            for i in track(starts, "classifying", len(starts))
        ]
    )
    return judge(shares, images.labels, images.class_names)


def judge(shares: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Outcome:
    """Loss and scores of probabilities."""
    mine = np.clip(shares[np.arange(len(labels)), labels], 1e-12, 1)
    return Outcome(shares, float(-np.log(mine).mean()), score(labels, shares.argmax(axis=1), class_names))


def evaluate_split(
    path: str | Path, images: ImageSet, track: Callable = untracked
) -> tuple[Outcome, np.ndarray]:
    """`evaluate` of a classifier by its path; also the decoded pictures."""
    run, card = open_classifier(path)
    pixels = load_pixels(images, card.network.image_size, track)
    return evaluate(run, card.network, images, pixels, track), pixels


def save_misclassified(
    folder: str | Path, outcome: Outcome, images: ImageSet, picture: Callable[[int], np.ndarray]
) -> list[dict]:
    """Write the surest errors as pictures into a folder, which holds nothing else afterwards.

    Args:
        picture: place -> (H, W, 3) uint8.
    Returns:
        a row each: file, source, true and predicted class, probability.
    """
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = []
    for number, i in enumerate(worst(images.labels, outcome.shares, MOST), start=1):
        guess = int(outcome.shares[i].argmax())
        name = f"{number:02d}.png"
        save_image(folder / name, picture(i))
        true, predicted = images.class_names[images.labels[i]], images.class_names[guess]
        share = round(float(outcome.shares[i, guess]), 4)
        row = {"file": name, "source": images.names[i], "true": true, "predicted": predicted}
        rows.append(row | {"probability": share})
    return rows


def outcome_to_json(outcome: Outcome, images: ImageSet, rows: list[dict]) -> str:
    """Scores, the prediction of every image, and the rows of `save_misclassified`."""
    guess = outcome.shares.argmax(axis=1)
    predictions = [
        {"source": name, "true": int(t), "predicted": int(p), "probability": round(float(s[p]), 6)}
        for name, t, p, s in zip(images.names, images.labels, guess, outcome.shares, strict=True)
    ]
    facts = {"loss": outcome.loss, **outcome.scores.as_dict(), "misclassified": rows}
    return json.dumps(facts | {"predictions": predictions}, ensure_ascii=False) + "\n"


def export_classifier(path: str | Path, folder: str | Path) -> Path:
    """Compile a classifier for OpenVINO, with softmax or sigmoid: model.xml, model.bin and card.json.

    Raises:
        ValueError: the folder exists, or the checkpoint is wrong.
    """
    import openvino

    from ssd.exporters.openvino_file import to_openvino

    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"a model is never overwritten; choose another name. Received: {folder}")
    model, card = load_classifier(path)
    end = keras.layers.Activation(card.network.output, name="probabilities")(model.output)
    graph = to_openvino(keras.Model(model.input, end), batch=None)
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        openvino.save_model(graph, str(beside / "model.xml"), compress_to_fp16=False)
        hashes = {name: file_sha256(beside / name) for name in ("model.xml", "model.bin")}
        card = replace(card, name=folder.name, notes=card.notes | {"sha256": hashes})
        (beside / CARD_NAME).write_text(card_to_json(card), "utf-8")
    return folder
