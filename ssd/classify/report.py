"""The page of a classifier's training, report.html, made from the files of its run folder alone."""

import json
from pathlib import Path

import numpy as np

from ssd.images import load_image
from ssd.page import Picture, encode_jpeg, render, save_page, shrink, to_address
from ssd.report import read_settings, shared_parts

CURVES = (
    ("loss", {"loss": "training", "val_loss": "validation"}, False),
    ("accuracy", {"acc": "training", "val_acc": "validation"}, True),
    ("learning rate at the end of the epoch", {"learning_rate": "learning rate"}, False),
)
PICTURE_SIDE = 192  # pixels of the longer side of a misclassified picture
NEEDED = "stage loss acc val_acc val_loss learning_rate seconds stage_number trainable frozen".split()


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        folder: of the run, with at least one epoch done.
        path: of the page; report.html in the folder unless told.
    Returns:
        its path.
    Raises:
        ValueError: the folder is no run of a classifier, or a file in it is damaged.
        OSError: it cannot be read or written.
    """
    path = Path(path or Path(folder) / "report.html")
    save_page(path, report_html(Path(folder)))
    return path


def is_classifier(folder: str | Path) -> bool:
    """Whether a run folder is one of `ssd classify train`."""
    return "network" in read_settings(Path(folder))


def report_html(folder: Path) -> str:
    """The HTML of the page. Raises ValueError, OSError: as `write_report`."""
    shared = shared_parts(folder, NEEDED, CURVES, "val_acc")
    outcome, data = _read(folder, "predictions.json"), _read(folder, "data.json")
    try:
        return render(
            "classification.html",
            **shared,
            report=[[name, *row.values()] for name, row in outcome["report"].items()],
            accuracy=float(outcome["accuracy"]),
            confusion=_confusion(outcome),
            class_names=list(outcome["class_names"]),
            misclassified=[_picture(folder, row) for row in outcome["misclassified"]],
            splits=data["splits"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"predictions.json and data.json must be whole. Received: {folder} ({error})"
        ) from None


def _confusion(outcome: dict) -> list[tuple[str, list[tuple[int, str]]]]:
    """Rows of true classes; each cell with its count and a shade that tells its share of the row."""
    rows = []
    for name, counts in zip(outcome["class_names"], outcome["confusion"], strict=True):
        total = max(1, sum(counts))
        rows.append((name, [(int(n), f"rgb(0 114 178 / {0.75 * n / total:.3f})") for n in counts]))
    return rows


def _picture(folder: Path, row: dict) -> Picture:
    text = (
        f"{row['true']} taken for {row['predicted']} ({row['probability']:.2f}): {Path(row['source']).name}"
    )
    try:
        image = load_image(folder / "misclassified" / Path(row["file"]).name)
    except (OSError, ValueError):
        image = np.full((PICTURE_SIDE, PICTURE_SIDE, 3), 200, np.uint8)
    return Picture(to_address("image/jpeg", encode_jpeg(shrink(image, PICTURE_SIDE))), text)


def _read(folder: Path, name: str) -> dict:
    try:
        return json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"a run folder must hold {name}. Received: {folder}") from None
    except ValueError as error:
        raise ValueError(f"{name} must be JSON. Received: {folder / name} ({error})") from None
