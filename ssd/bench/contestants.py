"""Who takes part: the models that the user names, and the first one's network elsewhere."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssd.bench.rivals import Twins, open_rival
from ssd.detector import Detector, find_model
from ssd.images import load_image
from ssd.postprocess import softmax
from ssd.runtimes.network import Options

REFERENCE = "openvino f32"  # as its adapter calls itself


@dataclass(frozen=True)
class Contestant:
    """A network that takes its turn.

    Args:
        name: nobody else's.
        role: "model", "reference" or "against".
        detector: the network behind the program's own preprocessing and boxes.
        flops: operations a picture; None: not known.
        model, file: what the user called it, and its file; None of a rival.
        note: what a reader must know.
    """

    name: str
    role: str
    detector: Detector
    flops: int | None
    model: str | None = None
    file: Path | None = None
    note: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of the files of a model, its card not counted."""
        if self.file is None:
            return None
        files = {self.file}
        if not self.file.name.endswith(".weights.h5"):  # whose card names itself
            files |= {self.file.parent / name for name in self.detector.card.sha256}
        parts = {p for file in files for p in (file.rglob("*") if file.is_dir() else [file]) if p.is_file()}
        return sum(part.stat().st_size for part in parts)


def contestants(
    models: tuple[str, ...], against: tuple[str, ...], onnx: Path | None, options: Options, folder: Path
) -> list[Contestant]:
    """The models, then the twins of the first one.

    Args:
        models: names or paths.
        against: of `ssd.bench.rivals.RIVALS`; with any, OpenVINO in float32 takes part, too.
        onnx: file for those that read one; None: written to `folder`.
        options: threads and batch of all.
        folder: for files that are written.
    Raises:
        FileNotFoundError, ValueError, ImportError: a model or runtime that cannot be used.
    """
    found, twins = [], []
    for model in models:
        detector = Detector.load(model, options.threads, batch=options.batch)
        twins.append(Twins(detector, find_model(model), folder, onnx, options))
        name = _unused(detector.network.about, str(model), [c.name for c in found])
        found.append(Contestant(name, "model", detector, _flops(twins[-1]), str(model), find_model(model)))
    return found + (_rivals(found, against, twins[0]) if against else [])


def _rivals(models: list[Contestant], against: tuple[str, ...], twins: Twins) -> list[Contestant]:
    card, flops, found = replace(twins.detector.card, precision="f32"), models[0].flops, []
    has = any(c.detector.network.about == REFERENCE for c in models)
    if not has and (network := twins.reference()):
        note = "the first model without quantisation: its weights as float32, its maps not rounded"
        found.append(Contestant(REFERENCE, "reference", Detector(card, network), flops, note=note))
    for name in dict.fromkeys(against):
        network = open_rival(name, twins)
        given = twins.onnx and name != "torch"
        note = f"the network of {twins.onnx}" if given else "float32 weights from the first model"
        title = _unused(network.about, "against", [c.name for c in models])
        found.append(Contestant(title, "against", Detector(card, network), flops, note=note))
    return found


def score_difference(first: Detector, other: Detector, photo: Path) -> float | None:
    """The largest difference of a class score between two networks; None where their classes differ."""
    image, scores = load_image(photo), []
    for detector in (first, other):
        logits = detector.network(detector.prepare([image])).class_logits[0]
        scores.append(softmax(np.array(logits)))
    return float(np.abs(scores[0] - scores[1]).max()) if scores[0].shape == scores[1].shape else None


def _flops(twins: Twins) -> int | None:
    try:
        return twins.flops
    except ValueError:  # OpenVINO reads most files, not all
        return None


def _unused(about: str, model: str, taken: list[str]) -> str:
    """Runtime and precision; of a second model with the same, also what the user called it."""
    names = [about, f"{about}, {model}", *(f"{about}, {model} ({i})" for i in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
