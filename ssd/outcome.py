"""What a training leaves for its report: data.json, the photos and what is in them, and
detections.json, what the best epoch's model finds in the validation photos, as `ssd detect` writes it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.records import Detections, Sample
from ssd.results import Result

MAX_BYTES = 1 << 30  # of a file that is read


@dataclass(frozen=True)
class RunData:
    """data.json: the classes, counts of each split, and the labels of the validation split."""

    class_names: tuple[str, ...]
    splits: dict[str, dict]  # name -> images, background, classes: {name: {images, boxes, difficult}}
    samples: list[Sample]  # of validation


def data_to_json(class_names: tuple[str, ...], splits: dict[str, list[Sample]], val_split: str) -> str:
    """The text of data.json: the inverse of `read_data`.

    Args:
        class_names: that labels index.
        splits: name -> samples.
        val_split: the split whose labels are kept whole.
    """
    counts = {name: _count(class_names, samples) for name, samples in splits.items()}
    validation = [_sample_to_dict(sample, class_names) for sample in splits[val_split]]
    return _json({"class_names": class_names, "splits": counts, "validation": validation})


def read_data(folder: str | Path) -> RunData:
    """What data.json of a run folder holds.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = Path(folder) / "data.json"
    values = _load(path)
    try:
        names = tuple(map(str, values["class_names"]))
        samples = [_sample_from_dict(row, names) for row in values["validation"]]
        splits = {str(name): _counts_from_dict(row, names) for name, row in values["splits"].items()}
        return RunData(names, splits, samples)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"data.json must be as `ssd train` writes it. Received: {path} ({error})") from None


def detections_to_json(samples: Sequence[Sample], detections: Sequence[Detections]) -> str:
    """The text of detections.json: the inverse of `read_detections`."""
    rows = zip(samples, detections, strict=True)
    return _json([Result(str(s.path), s.image_id, 0, 0.0, found).as_dict() for s, found in rows])


def read_detections(folder: str | Path, data: RunData) -> list[Detections]:
    """What detections.json of a run folder holds, in the order of `data.samples`.

    Raises:
        ValueError: it is missing, damaged, or is of other photos or classes.
    """
    path = Path(folder) / "detections.json"
    rows = _load(path)
    try:
        if [row["source"] for row in rows] != [str(sample.path) for sample in data.samples]:
            raise ValueError("other photos than in data.json")
        return [_detections_from_dict(row, data.class_names) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"detections.json must be as `ssd train` writes it. Received: {path} ({error})"
        ) from None


def _count(class_names: tuple[str, ...], samples: list[Sample]) -> dict:
    classes = {}
    for label, name in enumerate(class_names):
        mine = [sample.difficult[sample.labels == label] for sample in samples]
        mine = [difficult for difficult in mine if len(difficult)]
        classes[name] = {
            "images": len(mine),
            "boxes": sum(map(len, mine)),
            "difficult": int(sum(difficult.sum() for difficult in mine)),
        }
    empty = sum(len(sample.boxes) == 0 for sample in samples)
    return {"images": len(samples), "background": empty, "classes": classes}


def _counts_from_dict(row: dict, class_names: tuple[str, ...]) -> dict:
    keys = ("images", "boxes", "difficult")
    classes = {name: {key: int(row["classes"][name][key]) for key in keys} for name in class_names}
    return {"images": int(row["images"]), "background": int(row["background"]), "classes": classes}


def _sample_to_dict(sample: Sample, class_names: tuple[str, ...]) -> dict:
    """Truth in the words of the detections beside it."""
    found = Detections(
        sample.boxes, sample.labels, np.ones(len(sample.boxes)), class_names, sample.height, sample.width
    )
    row = Result(str(sample.path), sample.image_id, 0, 0.0, found).as_dict()
    objects = [
        {"label": one["label"], "box_px": one["box_px"], "difficult": bool(difficult)}
        for one, difficult in zip(row["detections"], sample.difficult, strict=True)
    ]
    size = {"width": row["width"], "height": row["height"]}
    return {"source": row["source"], "id": sample.image_id, **size, "objects": objects}


def _sample_from_dict(row: dict, class_names: tuple[str, ...]) -> Sample:
    objects = row["objects"]
    return Sample(
        str(row["id"]),
        Path(row["source"]),
        int(row["height"]),
        int(row["width"]),
        _relative([one["box_px"] for one in objects], row),
        np.array([class_names.index(one["label"]) for one in objects], np.int64),
        np.array([bool(one["difficult"]) for one in objects], bool),
    )


def _detections_from_dict(row: dict, class_names: tuple[str, ...]) -> Detections:
    found = row["detections"]
    labels = [class_names.index(one["label"]) for one in found]
    boxes = _relative([one["box_px"] for one in found], row)
    scores = [float(one["score"]) for one in found]
    return Detections(boxes, labels, scores, class_names, int(row["height"]), int(row["width"]))


def _relative(boxes_px: list, row: dict) -> np.ndarray:
    sides = float(row["width"]), float(row["height"])
    boxes = np.array(boxes_px, np.float64).reshape(-1, 4)
    if not (min(sides) > 0 and np.isfinite(boxes).all()):
        raise ValueError(f"a size or box that is none, of {row['source']}")
    return (boxes / (sides * 2)).astype(np.float32)


def _load(path: Path) -> object:
    if not path.is_file():
        raise ValueError(f"a run folder must hold {path.name}. Received: {path.parent}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} may have {MAX_BYTES} bytes. Received: {path.stat().st_size}")
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} must be JSON. Received: {path} ({error})") from None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
