"""Fixtures: the samples, a tiny VOC data set made of them, and reference data where it exists."""

import gc
import os
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

# As ssd.backend has it; a test file may import Keras before it does.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# A shell lets what it starts by & ignore SIGINT, and the commands that the tests interrupt would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
SHARED = ROOT.parent / "shared"

XML = """<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>
<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>{extra}</object>"""


@pytest.fixture(scope="session", autouse=True)
def _own_compile_cache(tmp_path_factory):
    """Compiled graphs of the tests stay out of the user's cache."""
    before = os.environ.get("SSD_COMPILE_CACHE")
    os.environ["SSD_COMPILE_CACHE"] = str(tmp_path_factory.mktemp("compiled"))
    yield
    if before is None:
        del os.environ["SSD_COMPILE_CACHE"]
    else:
        os.environ["SSD_COMPILE_CACHE"] = before


@pytest.fixture(scope="module", autouse=True)
def _free_memory():
    """Graphs of TensorFlow refer to themselves: without this a process of tests grew to 15 GB."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()


@pytest.fixture(scope="session")
def v1_file(tmp_path_factory):
    """weights_SSD300.hdf5 in its real layout of 66 layers, random numbers."""
    import weight_files
    import weight_files_hdf5

    path = tmp_path_factory.mktemp("v1") / "weights_SSD300.hdf5"
    weight_files_hdf5.write_keras2(path, weight_files.random_arrays(True))
    yield path
    path.unlink()


@pytest.fixture
def samples() -> Path:
    return SAMPLES


@pytest.fixture
def shared() -> Path:
    """The folder of reference data, which is not part of the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the reference data beside the project (../shared)")
    return SHARED


@pytest.fixture(scope="session")
def write_xml():
    """Write a VOC annotation: rows of (name, 1-based inclusive box, difficult)."""

    def write(path: Path, width: int, height: int, rows: list, extra: str = "") -> Path:
        objects = "".join(OBJECT.format(name=n, box=b, difficult=int(d), extra=extra) for n, b, d in rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(XML.format(width=width, height=height, objects=objects))
        return path

    return write


@pytest.fixture
def mini_voc(tmp_path: Path, write_xml) -> Path:
    """Four pictures with a red or a blue square each, three to train on and one to validate."""
    return make_mini_voc(tmp_path / "mini", write_xml)


def make_mini_voc(root: Path, write_xml) -> Path:
    """What `mini_voc` is, somewhere else."""
    for folder in ("JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, name in enumerate(("red", "blue", "red", "blue")):
        image = rng.integers(90, 150, (120, 160, 3), dtype=np.uint8)
        x, y = 20 + 15 * i, 10 + 10 * i
        image[y : y + 60, x : x + 60] = (0, 0, 255) if name == "red" else (255, 0, 0)
        cv2.imwrite(str(root / f"JPEGImages/{i}.png"), image)
        write_xml(root / f"Annotations/{i}.xml", 160, 120, [(name, (x + 1, y + 1, x + 60, y + 60), False)])
    (root / "ImageSets/Main/train.txt").write_text("0\n1\n2\n")
    (root / "ImageSets/Main/val.txt").write_text("3\n")
    return root
