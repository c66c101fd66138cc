"""Pages for people: self-contained HTML from a template in pages/, figures and photos inside it.

Nothing on a page is fetched from anywhere: styles stand in its head, pictures in data addresses.
"""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ssd.beside import replace_text
from ssd.draw import PALETTE, PREDICTED, TRUE, draw_both
from ssd.images import load_image
from ssd.records import Detections, Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHOTO_SIDE = 480  # pixels of the longer side of a photo on a page


@dataclass(frozen=True)
class Picture:
    """A picture on a page: its data address, and the words below it."""

    uri: str
    text: str


def render(template: str, **values: object) -> str:
    """The HTML of a page; every value is escaped.

    Args:
        template: a file of ssd/pages/ that extends page.html.
        values: what it shows.
    """
    import jinja2

    loader = jinja2.PackageLoader("ssd", "pages")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["rounded"] = rounded
    environment.globals |= {"true_colour": css(TRUE), "predicted_colour": css(PREDICTED)}
    return environment.get_template(template).render(**values)


def save_page(path: str | Path, html: str) -> None:
    """Write a page beside its name and rename it."""
    replace_text(path, html)


def new_figure(width: float = 5.4, height: float = 3.3) -> "Figure":
    """An empty figure of inches, without pyplot and its global state."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=[css(colour) for colour in (PALETTE[i] for i in (4, 5, 2, 0, 6, 1))])
    axes.grid(color="#e3e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=rcParams["font.size"] * 0.9)
    return figure


def figure_picture(figure: "Figure", text: str) -> Picture:
    """A figure as SVG inside the page; the same figure gives the same bytes."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Text stays text, for the reader's own fonts have letters that matplotlib's lack and warns of.
    with rc_context({"svg.hashsalt": "ssd", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(to_address("image/svg+xml", buffer.getvalue().encode()), text)


def photo_picture(sample: Sample, detections: Detections, text: str) -> Picture:
    """A photo with its true boxes and what was found; grey where the file cannot be read any more.

    Args:
        sample: the photo and its truth.
        detections: filtered by score.
        text: the words below.
    """
    try:
        image = load_image(sample.path)
    except (OSError, ValueError):
        image = np.full((sample.height, sample.width, 3), 200, np.uint8)
        text += " (the photo is not at its place any more)"
    data = encode_jpeg(draw_both(shrink(image), detections, sample))
    return Picture(to_address("image/jpeg", data), text)


def shrink(image: np.ndarray, side: int = PHOTO_SIDE) -> np.ndarray:
    """A picture whose longer side is `side` pixels; a smaller one grows, so that labels can be read."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def encode_jpeg(image: np.ndarray) -> bytes:
    """The bytes of a JPEG file of (H, W, 3) uint8 RGB."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1].tobytes()


def rounded(value: float, digits: int = 4) -> str:
    """A number for the eye: whole ones with commas, others to `digits` figures after the point.

    Small ones such as learning rates keep three significant figures.
    """
    if isinstance(value, int):
        return f"{value:,}"
    if value and abs(value) < 10 ** (1 - digits):
        return f"{value:.3g}"
    return f"{value:,.{digits}f}" if abs(value) < 100 else f"{value:,.1f}"


def css(colour: tuple[int, int, int]) -> str:
    """#rrggbb of a colour of `ssd.draw`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def to_address(kind: str, data: bytes) -> str:
    """A data address for a page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
