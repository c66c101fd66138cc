"""Detections in a notebook, and the example that shows it."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd import Detections

ROOT = Path(__file__).parent.parent


def decode(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_detections_show_themselves():
    found = Detections([(0.25, 0.25, 0.75, 0.75)], [0], [0.9], ("cat",), 60, 80)
    image = np.full((60, 80, 3), 7, np.uint8)
    shown = decode(found.on(image)._repr_png_())
    assert shown.shape == (60, 80, 3)
    assert tuple(shown[30, 40]) == (7, 7, 7)  # the middle of the box is the picture's own
    assert tuple(shown[44, 40]) == (230, 159, 0)  # its lower edge
    assert repr(found.on(image)) == "cat 0.90"
    assert decode(found._repr_png_()).shape == (60, 80, 3)
    assert repr(found[[False]].on(image)) == "nothing"


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="must be of this picture, 60 x 80"):
        Detections([], [], [], ("cat",), 60, 80).on(np.zeros((61, 80, 3), np.uint8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own packages
def test_the_example_runs():
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    notebook = nbformat.read(ROOT / "docs/example.ipynb", as_version=4)
    own = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3")
    client.execute(cwd=str(ROOT), env=own)
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [i for i, some in enumerate(outputs) if any("image/png" in o.get("data", {}) for o in some)]
    assert pictures == [1, 2, 4]
    assert outputs[1][0]["data"]["text/plain"].startswith("person 0.9")
    assert outputs[3][0]["text"].startswith("person 0.9")
