"""A page of augmented views, for the eye: a row a photo, first as it is, then by one seed after the other."""

import base64
from pathlib import Path

import cv2
import numpy as np

from ssd.augment import SSDAugmentation
from ssd.beside import replace_text
from ssd.draw import draw_truth
from ssd.images import load_image, resize, save_image
from ssd.records import Sample

GAP = 6  # white pixels between two pictures


def augmented_rows(
    samples: list[Sample],
    class_names: tuple[str, ...],
    seeds: list[int],
    *,
    image_size: int = 300,
    max_expand: float = 4.0,
) -> list[list[np.ndarray]]:
    """Pictures with their boxes, as training sees them before preprocessing.

    Args:
        samples: a row each.
        class_names: labels index this.
        seeds: a column each, after the photo itself.
        image_size: side of the pictures.
        max_expand: of the augmentation.
    Returns:
        rows of (S, S, 3) uint8 RGB.
    """
    augment, rows = SSDAugmentation(image_size, max_expand), []
    for sample in samples:
        image = load_image(sample.path)
        views = [(resize(image, image_size), sample.boxes, sample.labels)]
        views += [augment(image, sample.boxes, sample.labels, seed) for seed in seeds]
        rows.append([draw_truth(*view, class_names) for view in views])
    return rows


def write_page(path: str | Path, rows: list[list[np.ndarray]], names: list[str], seeds: list[int]) -> None:
    """Write rows as one picture, or as a self-contained page if the suffix is .html.

    Args:
        path: replaced whole.
        rows: of `augmented_rows`.
        names: of the photos, a row each.
        seeds: a column each, after the photo itself.
    Raises:
        OSError: it cannot be written.
        ValueError: no such picture format.
    """
    path = Path(path)
    if path.suffix.lower() in (".html", ".htm"):
        replace_text(path, _html(rows, names, seeds))
    else:
        save_image(path, _grid(rows))


def _grid(rows: list[list[np.ndarray]]) -> np.ndarray:
    padded = [[np.pad(p, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for p in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded])[:-GAP, :-GAP]


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Augmented views</title><style>
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
td, th { padding: 3px; font-weight: normal; text-align: left } img { display: block; width: 220px }
</style></head><body><h1>Augmented views</h1>
<p>Each photo, warped to the network's square, then as training sees it by one seed after the other.</p>
<table><tr><th></th><th>photo</th>{% for seed in seeds %}<th>seed {{ seed }}</th>{% endfor %}</tr>
{% for name, row in rows %}<tr><th>{{ name }}</th>
{% for picture in row %}<td><img alt="" src="data:image/jpeg;base64,{{ picture }}"></td>{% endfor %}</tr>
{% endfor %}</table></body></html>
"""


def _html(rows: list[list[np.ndarray]], names: list[str], seeds: list[int]) -> str:
    from jinja2 import Environment

    def encoded(picture: np.ndarray) -> str:
        jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        return base64.b64encode(jpeg.tobytes()).decode("ascii")

    pictures = [(name, [encoded(p) for p in row]) for name, row in zip(names, rows, strict=True)]
    return Environment(autoescape=True).from_string(_PAGE).render(rows=pictures, seeds=seeds)
