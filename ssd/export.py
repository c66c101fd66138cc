"""From a checkpoint to a compiled model: written by a format's exporter, passed by the parity gate, named."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ssd.beside import replacing
from ssd.card import CARD_NAME, ModelCard, card_to_json, file_sha256
from ssd.checkpoint import load_checkpoint
from ssd.detector import Detector
from ssd.parity import Parity, compare
from ssd.records import Sample
from ssd.runtimes.keras_file import KerasNetwork
from ssd.runtimes.network import Options

# Format -> its room in ssd.exporters and the precisions that it has there.
FORMATS = {
    "openvino": ("openvino_file", ("f32", "bf16", "int8")),
    "onnx": ("onnx_file", ("f32", "int8")),
    "litert": ("litert_file", ("f32", "int8")),
    "saved_model": ("saved_model", ("f32",)),
}
_RUNTIMES = {
    "openvino": ("openvino", "nncf"),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "litert": ("ai-edge-litert",),
    "saved_model": ("tensorflow", "tensorflow-cpu"),
}
PAIR = 2  # a network for any number of pictures must say of two what it says of each


@dataclass(frozen=True)
class Gate:
    """What an export must pass before it gets its name.

    Args:
        pictures: names and (H, W, 3) uint8 RGB pictures that both models see, at least one.
        labelled: photos whose VOC07 mAP must stay; on bf16 and int8 it alone decides. Empty: agreement
            of outputs does.
    """

    pictures: list[tuple[str, np.ndarray]]
    labelled: list[Sample] = field(default_factory=list)


def export_model(
    checkpoint: str | Path,
    folder: str | Path,
    precision: str = "f32",
    pictures: list[np.ndarray] | None = None,
    notes: dict | None = None,
    *,
    format: str = "openvino",  # noqa: A002
    batch: int | None = None,
    nms: bool = False,
    gate: Gate | None = None,
    accuracy_control: bool = False,
    say: Callable = print,
) -> Path:
    """Compile a checkpoint into a model folder: the files of the format, and card.json.

    Args:
        checkpoint: a .weights.h5 file with its card.
        folder: must not exist.
        precision: "f32", "bf16" or "int8".
        pictures: (S, S, 3) float32, preprocessed; int8 is calibrated on them.
        notes: added to the notes of the card.
        format: one of `FORMATS`.
        batch: pictures of one call; None: any number.
        nms: suppression inside the graph too, on the limits of the card; OpenVINO alone.
        gate: what the export must pass; None: it is not checked.
        accuracy_control: OpenVINO int8 alone: what costs mAP on the photos of the gate stays float.
        say: takes lines of text for the user.
    Returns:
        the folder.
    Raises:
        ValueError: the folder exists; checkpoint, format or precision is wrong; or the export fails the gate.
        ImportError: an extra is missing.
    """
    folder = Path(folder)
    check_request(folder, format, precision, nms, accuracy_control)
    if accuracy_control and not (gate and gate.labelled):
        raise ValueError("accuracy control needs labelled photos of the classes. Received: none")
    control = {"control": gate.labelled} if accuracy_control else {}
    model, card = load_checkpoint(checkpoint)
    card = replace(
        card,
        name=folder.name,
        precision=precision,
        scores={},  # those of the checkpoint are not those of the compiled model
        notes=card.notes
        | {"checkpoint_sha256": file_sha256(checkpoint), "made_with": _versions(format)}
        | (notes or {}),
    )
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        room = importlib.import_module(f"ssd.exporters.{FORMATS[format][0]}")
        room.write(model, beside, card, pictures or [], batch, nms, **control)
        card = _write_card(beside, card)
        if gate:
            parity = _pass(gate, Detector(card, KerasNetwork(model, Options())), beside, batch, say)
            _write_card(beside, replace(card, notes=card.notes | {"parity": parity.summary()}))
    return folder


def check_request(
    folder: Path,
    format: str,  # noqa: A002
    precision: str,
    nms: bool,
    accuracy_control: bool = False,
) -> None:
    """Raise ValueError for what cannot be exported, before any work is done."""
    if folder.exists():
        raise ValueError(f"a model is never overwritten; choose another name. Received: {folder}")
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}. Received: {format!r}")
    if precision not in FORMATS[format][1]:
        works = "; ".join(f"{name}: {', '.join(has)}" for name, (_, has) in FORMATS.items())
        raise ValueError(f"the format must have the precision ({works}). Received: {format} {precision}")
    if nms and format != "openvino":
        raise ValueError(f"suppression in the graph needs the format openvino. Received: {format}")
    if accuracy_control and (format, precision) != ("openvino", "int8"):
        raise ValueError(f"accuracy control needs openvino int8. Received: {format} {precision}")


def _pass(gate: Gate, reference: Detector, folder: Path, batch: int | None, say: Callable) -> Parity:
    parity = compare(reference, Detector.load(folder, batch=batch or 1), gate.pictures, gate.labelled)
    for row in parity.differences:
        say(
            f"  {row.layer}: scores within {row.scores:.2g}, boxes within {row.boxes:.2g}, logits and deltas "
            f"apart by {row.logits_share:.3f} and {row.deltas_share:.3f} of their spread"
        )
    if parity.map_other is not None:
        say(f"  VOC07 mAP {parity.map_other:.4f}, of the checkpoint {parity.map_reference:.4f}")
    fault = parity.fault
    if not fault and batch is None:
        fault = compare(reference, Detector.load(folder, batch=PAIR), gate.pictures).fault
        fault = fault and f"in batches of {PAIR}: {fault}"
    if fault:
        raise ValueError(f"the export must be the detector that was trained. Received: {fault}")
    return parity


def _write_card(folder: Path, card: ModelCard) -> ModelCard:
    """Write the card with the hashes of all files beside it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD_NAME)
    card = replace(card, sha256={path.relative_to(folder).as_posix(): file_sha256(path) for path in files})
    (folder / CARD_NAME).write_text(card_to_json(card), "utf-8")
    return card


def _versions(format: str) -> str:  # noqa: A002
    found = []
    for name in ("keras", *_RUNTIMES[format]):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
