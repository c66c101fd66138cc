"""Average precision of a model on a labelled split, by the program's own evaluation."""

from pathlib import Path

from ssd.detector import Detector
from ssd.evaluation import Evaluation, Split, open_split
from ssd.metrics.tables import found_of_detections

SCORE = 0.01  # average precision needs the weak detections too


def score(model: str, split: Split, threads: int | None = None) -> dict:
    """{"voc07", "voc10"}: mean average precision at an overlap of 0.5, and "images".

    Args:
        model: name or path.
        split: from `ssd.evaluation.open_split`, with the classes of the model.
        threads: of the network.
    """
    detector = Detector.load(model, threads, many=True)
    futures = detector.find_all((image.path for image in split.images), score_threshold=SCORE)
    found = found_of_detections([future.result()[1] for future in futures])
    scores = Evaluation(split.truth, found).scores
    return {rule: scores[rule]["mAP"] for rule in ("voc07", "voc10")} | {"images": len(split.images)}


def split_of(data: Path, name: str, model: Detector) -> Split:
    """The split with the classes of a model."""
    return open_split(data, name, model.class_names)
