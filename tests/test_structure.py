"""One street, one direction: a module imports only from rooms before its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# In the order of the street; "|" marks where Keras begins.
ROOMS = (
    "beside terminal boxes spec anchors images records draw shown card datasets.labelled datasets.voc "
    "datasets.coco datasets.yolo datasets.csv_file datasets.read datasets.convert datasets.photos "
    "datasets.faults "
    "datasets.box_faults datasets.class_faults datasets.photo_faults datasets.doctor datasets.parts "
    "datasets.crops datasets.ceiling datasets.fit datasets.stats datasets.charts datasets.tables results "
    "metrics.tables metrics.pairs metrics.voc metrics.coco metrics.bootstrap metrics.matches "
    "metrics.errors metrics.confusion metrics.calibration metrics.operating datasets.detection_files "
    "datasets.detections page "
    "evaluation evaluation_page evaluation_tables history outcome report watcher progress tensorboard "
    "augment views_page sources targets media "
    "tracking counting followed capture window stop cache catalogue download known "
    "classify.spec classify.data classify.scores classify.report pipeline postprocess "
    "runtimes.network runtimes.openvino_lean runtimes.openvino_cache runtimes.openvino_file "
    "runtimes.onnx_file runtimes.litert_file detector job parity live "
    "serve.limits serve.bodies serve.worker serve.videos serve.guard serve.app "
    "bench.layers bench.graph bench.flops bench.torch_network bench.onnx_graph bench.onnx_networks "
    "bench.rounds bench.visit bench.limits bench.machine bench.processes bench.rates bench.rivals "
    "bench.contestants bench.sources bench.score bench.run bench.tables "
    "transfer.weightfile transfer.names transfer.hdf5 transfer.keras_hdf5 transfer.keras3 transfer.protobuf "
    "transfer.caffe transfer.chainer transfer.pickled transfer.pytorch transfer.tf_checkpoint "
    "transfer.compiled transfer.read transfer.classes transfer.convert transfer.generation "
    "transfer.pairs transfer.ledger transfer.plan "
    "transfer.target "
    "| backend distribute backbones model loss checkpoint transfer.load transfer.write stages run recipe "
    "optimizers start batches exporters.graph exporters.openvino_file exporters.onnx_file "
    "exporters.litert_file exporters.saved_model features sizes hint steps validate train "
    "classify.input_stage classify.network classify.cifar classify.batches classify.run classify.start "
    "classify.evaluate classify.features classify.train classify.options classify.summary "
    "runtimes.saved_model runtimes.keras_file export"
).split()


def imported_rooms(path: Path) -> set[str]:
    """Names of the modules of this package that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ssd."):
            names.add(node.module.removeprefix("ssd."))
        if isinstance(node, ast.Import):
            names |= {a.name.removeprefix("ssd.") for a in node.names if a.name.startswith("ssd.")}
    return names


def test_every_module_has_a_room():
    files = {p.relative_to(ROOT / "ssd").with_suffix("") for p in (ROOT / "ssd").rglob("*.py")}
    names = {".".join(p.parts) for p in files if p.name != "__init__"}
    assert names - set(ROOMS) == {"cli"}


@pytest.mark.parametrize("room", [r for r in ROOMS if r != "|"])
def test_imports_go_one_way(room):
    path = ROOT / "ssd" / f"{room.replace('.', '/')}.py"
    later = set(ROOMS[ROOMS.index(room) :])
    assert not imported_rooms(path) & later


@pytest.mark.parametrize("room", ROOMS[: ROOMS.index("|")])
def test_no_keras_above_the_line(room):
    text = (ROOT / "ssd" / f"{room.replace('.', '/')}.py").read_text()
    imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in imports for a in n.names} | {getattr(n, "module", None) for n in imports}
    assert not {n for n in names if n and n.split(".")[0] in ("keras", "tensorflow")}


def test_the_package_and_its_commands_import_no_keras():
    code = (
        "import sys, ssd, ssd.cli, ssd.tools.detect, ssd.tools.evaluate, ssd.tools.train, ssd.tools.report;"
        "import ssd.tools.classify;"
        "import ssd.media, ssd.results, ssd.tools.data, ssd.datasets.doctor, ssd.datasets.charts;"
        "heavy = 'tensorflow keras albumentations openvino matplotlib jinja2 yaml PIL tensorboardX'.split();"
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
