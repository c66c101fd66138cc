"""`ssd bench`: what it counts, adds up, prints and refuses. No test waits for, or judges, a real time."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import openvino
import pytest
from click.testing import CliRunner
from openvino import opset13 as ops
from ssd.tools.bench import main

from ssd.bench import contestants, limits, rates, rivals, visit
from ssd.bench.flops import conv_flops, graph_flops, keras_flops
from ssd.bench.graph import float32_graph, read_arrays, read_graph
from ssd.bench.layers import random_arrays, shapes
from ssd.bench.machine import describe
from ssd.bench.processes import cold_start, detect_rate, peak_memory
from ssd.bench.rounds import alternate, percentiles, spread
from ssd.bench.run import Plan, ratios, row
from ssd.bench.sources import find_photos, labelled_photos
from ssd.bench.tables import markdown, tables
from ssd.bench.visit import PARTS
from ssd.card import ModelCard, card_to_json, file_sha256
from ssd.detector import Detector, find_model
from ssd.records import Detections
from ssd.runtimes.network import Limits, Options
from ssd.sources import find_sources
from ssd.spec import SPECS

CARD = ModelCard("m", "ssd300", "vgg16", ("a", "b"), precision="int8")
MS = {"decode": 2, "preprocess": 1, "network": 70, "boxes": 3, "draw": 4}  # of the fakes, a photo


class Clock:
    """Time that passes only where work is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_ms(self, ms):
        self.now += ms / 1e3


class FakeNetwork:
    about = "fake int8"

    def __init__(self, clock, batch, speed):
        self.clock, self.batch, self.speed = clock, batch, speed

    def __call__(self, batch):
        self.clock.pass_ms(MS["network"] * len(batch) * self.speed)


class FakeDetector:
    """Costs MS; as a whole, `extra` ms a photo more."""

    def __init__(self, clock, extra=0, batch=1, speed=1, card=CARD):
        self.clock, self.extra, self.card, self.class_names, self.speed = (
            clock,
            extra,
            card,
            ("a", "b"),
            speed,
        )
        self.network = FakeNetwork(clock, batch, speed)

    def operating_point(self, default):
        return default

    def prepare(self, images):
        self.clock.pass_ms(MS["preprocess"] * len(images))
        return np.zeros((len(images), 1))

    def boxes(self, outputs, i, limits):
        self.clock.pass_ms(MS["boxes"])
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)

    def find_batch(self, images, *limits):
        self.network(self.prepare(images))
        parts = [self.boxes(None, i, limits) for i in range(len(images))]
        self.clock.pass_ms(self.extra * len(images))
        return [Detections(*p, self.class_names, 4, 4) for p in parts]


@pytest.fixture
def clock(monkeypatch):
    """A clock that decoding and drawing move, too."""
    clock, image = Clock(), np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(visit, "load_image", lambda file: clock.pass_ms(MS["decode"]) or image)
    monkeypatch.setattr(visit, "draw", lambda *_: clock.pass_ms(MS["draw"]))
    return clock


def rounds_of(clock, detectors, rounds=4):
    """Rounds of fakes by name."""
    visits = {
        name: lambda n, d=d: visit.visit(d, [None] * d.network.batch, n % 2 == 1, clock)
        for name, d in detectors.items()
    }
    return alternate(visits, rounds, clock=clock, rest=lambda _: None)


def report_of(clock, extra=0, **options):
    """The report of a fake model of 80 ms and a rival whose network takes three times as long."""
    one = FakeDetector(clock, extra, **options)
    two = FakeDetector(clock, speed=3, card=replace(CARD, precision="f32"))
    some = [
        contestants.Contestant("fast", "model", one, 70_000_000, "m"),
        contestants.Contestant("slow", "against", two, 70_000_000, note="a | note"),
    ]
    done = rounds_of(clock, {"fast": one, "slow": two})
    found = {
        "f32": None,
        "bf16": None,
        "int8": {"gflop_per_s": 2.0, "by": "p", "probes": {"p": spread([1.0, 2, 3])}},
    }
    return {
        "machine": describe() | {"load_after": None},
        "settings": {"threads": 2, "batch": 1, "rounds": 4, "photos": 1},
        "limits": found,
        "rows": [row(c, done, found) | {"score_difference": 0.0} for c in some],
        "ratios": ratios(some, done),
        "rates": None,
    }


def test_parts_and_the_whole_are_timed_apart(clock):
    for parts_first in (False, True):
        found = visit.visit(FakeDetector(clock, extra=5), [None], parts_first, clock)
        assert {name: round(1e3 * found[name], 6) for name in PARTS} == MS
        assert found["whole"] == pytest.approx(0.085)
        assert found["photo_to_boxes"] == pytest.approx(0.081)


def test_a_batch_is_told_a_photo(clock):
    found = visit.visit(FakeDetector(clock, batch=3), [None] * 3, False, clock)
    assert found["network"] == pytest.approx(0.070)
    assert found["whole"] == pytest.approx(0.080)


@pytest.mark.parametrize(("extra", "adds_up"), [(0, True), (4, True), (5, False), (-5, False)])
def test_the_parts_must_sum_to_the_whole_within_five_percent(clock, extra, adds_up):
    report = report_of(clock, extra)
    line = report["rows"][0]
    assert line["sum_of_parts_ms"] == pytest.approx(80)
    assert line["gap_percent"] == pytest.approx(100 * (80 / (80 + extra) - 1))
    assert line["adds_up"] is adds_up
    assert ("do NOT sum" in markdown(report)) is not adds_up


def test_figures_of_a_row(clock):
    line = report_of(clock)["rows"][0]
    assert line["network_gflop_per_s"] == pytest.approx(1)  # 0.07 GFLOP in 70 ms
    assert line["fraction_of_limit"] == pytest.approx(0.5)
    assert line["parts_ms"]["draw"] == {"p50": pytest.approx(4), "p95": pytest.approx(4)}


def test_ratios_are_of_the_same_round(clock):
    found = {r["what"]: r for r in report_of(clock)["ratios"]}
    assert found["network"]["median"] == pytest.approx(3)
    assert found["photo_to_boxes"]["median"] == pytest.approx((2 + 1 + 210 + 3) / 76)
    assert (found["network"]["of"], found["network"]["to"], found["network"]["rounds"]) == ("slow", "fast", 4)


def test_markdown_has_every_row_with_all_its_cells(clock):
    report = report_of(clock)
    report["rates"] = {"model": "m", "photos": 48, "video_file": "v.mp4"} | {
        name: {"images_per_s": spread([9, 10.0]), "of_network": spread([0.9, 0.95])}
        for name in ("network", "folder", "video")
    }
    text = markdown(report)
    for table in tables(report):
        assert f"**{table.title}**" in text
        assert all(len(cells) == len(table.header) for cells in table.rows), table.title
        assert not any("\n" in cell for cells in table.rows for cell in cells)
    assert (
        "| fast | 2.0 / 2.0 | 1.0 / 1.0 | 70.0 / 70.0 | 3.0 / 3.0 | 4.0 / 4.0 | 80.0 | 80.0 / 80.0 |" in text
    )
    assert "2.84 times faster than the fastest in float32, slow" in text
    assert "f32: this CPU has none of its own" in text
    assert json.loads(json.dumps(report)) == report


def test_every_round_begins_with_another():
    seen = []
    visits = {name: lambda n, name=name: seen.append(f"{name}{n}") or {"x": n} for name in "ABC"}
    done = alternate(visits, 3, warm_up=1, rest=lambda _: None)
    assert " ".join(seen) == "A0 B0 C0 A0 B0 C0 B1 C1 A1 C2 A2 B2"
    assert [r["B"]["x"] for r in done] == [0, 1, 2]


def test_time_ends_the_rounds_but_three_are_done():
    clock = Clock()
    visits = {"A": lambda _: clock.pass_ms(1000) or {}}
    assert len(alternate(visits, 9, 5, clock=clock, rest=lambda _: None)) == 5
    assert len(alternate(visits, 9, 0.1, clock=clock, rest=lambda _: None)) == 3


def test_spread_by_hand():
    assert spread([4, 1, 2, 3, 5]) == {"median": 3, "q1": 2, "q3": 4, "min": 1, "max": 5}
    assert percentiles([0, 10]) == {"p50": 5, "p95": 9.5}


def test_flops_of_a_layer_by_hand():
    # 3 x 3 x 512 multiply-adds for each of 512 values in 38 x 38 cells, two operations each.
    assert conv_flops([512, 512, 3, 3], [38, 38]) == 2 * 9 * 512 * 512 * 38 * 38 == 6_813_646_848
    assert graph_flops(limits.chain("f32")) == graph_flops(limits.chain("int8")) == 3 * 6_813_646_848


def test_flops_of_other_operations_by_hand():
    x = ops.parameter([1, 4, 6, 6], np.float32)
    grouped = ops.group_convolution(
        x, ops.constant(np.ones((2, 3, 2, 3, 3), "f4")), [1, 1], [0, 0], [0, 0], [1, 1]
    )  # -> 6 channels of 4 x 4, two maps in
    up = ops.convolution_backprop_data(grouped, ops.constant(np.ones((6, 5, 2, 2), "f4")), [2, 2])
    flat = ops.reshape(up, ops.constant([1, 320]), False)
    product = ops.matmul(flat, ops.constant(np.ones((320, 7), "f4")), False, False)
    wanted = 2 * 6 * 16 * 18 + 2 * 16 * 6 * 5 * 4 + 2 * 320 * 7
    assert graph_flops(openvino.Model([product], [x])) == wanted
    loose = ops.parameter([1, 4, -1, -1], np.float32)
    conv = ops.convolution(loose, ops.constant(np.ones((1, 4, 1, 1), "f4")), [1, 1], [0, 0], [0, 0], [1, 1])
    with pytest.raises(ValueError, match="must be known"):
        graph_flops(openvino.Model([conv], [loose]))


def test_flops_of_keras_layers_by_hand():
    def layer(name, kernel, before, after):
        sides = {"input": SimpleNamespace(shape=before), "output": SimpleNamespace(shape=after)}
        return type(name, (), sides | {"kernel": np.ones(kernel)})()

    inner = SimpleNamespace(layers=[layer("Conv2D", (3, 3, 2, 4), (None, 5, 5, 2), (None, 5, 5, 4))])
    up = layer("Conv2DTranspose", (2, 2, 8, 4), (None, 5, 5, 4), (None, 10, 10, 8))
    dense = layer("Dense", (6, 3), (None, 6), (None, 3))
    model = SimpleNamespace(layers=[inner, up, dense, SimpleNamespace()])
    assert keras_flops(model) == 2 * 72 * 25 + 2 * 128 * 25 + 2 * 18


def test_the_whole_network_is_62_7_gflop(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra 'bench'")
    from ssd.bench.onnx_graph import write_onnx

    arrays = random_arrays(SPECS["ssd300"], 20)
    assert sum(a.size for some in arrays.values() for a in some) == 26_285_486
    graph = read_graph(write_onnx(tmp_path / "a.onnx", arrays, 20))
    assert graph_flops(graph) == pytest.approx(62.7e9, rel=0.01)
    assert [list(out.get_shape()) for out in graph.outputs] == [[1, 8732, 21], [1, 8732, 4]]


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The default model's."""
    detector = Detector.load("default")
    return rivals.Twins(detector, find_model("default"), tmp_path_factory.mktemp("twins"), None, Options())


@pytest.fixture(scope="module")
def reference(twins):
    """A picture as the network takes it, and what the model answers in float32."""
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    batch = twins.detector.prepare([picture])
    return batch, [np.array(out) for out in twins.reference()(batch)[:2]]


def test_without_quantisation_it_is_nearly_the_model(twins, reference):
    batch, wanted = reference
    graph = float32_graph(read_graph(twins.file))
    assert not [n for n in graph.get_ops() if n.get_type_name() in ("FakeQuantize", "Convert")]
    rounded = twins.detector.network(batch)[:2]
    for ours, theirs in zip(rounded, wanted, strict=True):
        assert 0 < np.abs(ours - theirs).mean() < 0.2 * np.abs(theirs).mean()
    assert twins.flops == graph_flops(graph)


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_it_is_the_same_network_there(twins, reference, name):
    for package in {"torch": ["torch"], "onnxruntime": ["onnx", "onnxruntime"], "opencv": ["onnx"]}[name]:
        pytest.importorskip(package, reason="needs the extra 'bench'")
    batch, wanted = reference
    network = rivals.open_rival(name, twins)
    assert network.about.endswith(" f32")
    for ours, theirs in zip(network(batch)[:2], wanted, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-3


def test_a_network_that_is_another_is_refused(twins):
    wanted = "SSD300 with VGG16"
    with pytest.raises(ValueError, match=wanted):
        read_arrays(limits.chain("f32"), SPECS["ssd300"], 6)
    with pytest.raises(ValueError, match=wanted):
        read_arrays(read_graph(twins.file), SPECS["ssd300"], 5)
    card = replace(twins.detector.card, backbone="inception_v3", cut="mixed2")
    other = rivals.Twins(SimpleNamespace(card=card), twins.file, None, None, Options())
    with pytest.raises(ValueError, match="ssd300 with inception_v3"):
        other.arrays  # noqa: B018


def test_limits_are_the_best_median():
    some = [limits.Probe(p, n, 1, None) for p, n in (("f32", "a"), ("f32", "b"), ("int8", "c"))]
    found = limits.limits(some, {"a": [1, 9, 2], "b": [3, 3, 3], "c": [7]})
    assert (found["f32"]["by"], found["f32"]["gflop_per_s"], found["bf16"]) == ("b", 3, None)
    assert found["f32"]["probes"]["a"]["max"] == 9


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_probe_of_a_limit_runs_in_its_precision(precision):
    graph = limits.chain(precision)
    assert any(n.get_type_name() == "FakeQuantize" for n in graph.get_ops()) is (precision == "int8")
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    types = {n.get_rt_info()["runtimePrecision"].astype(str) for n in compiled.get_runtime_model().get_ops()
             if n.get_rt_info()["layerType"].astype(str) == "Convolution"}  # fmt: skip
    assert types == {{"f32": "f32", "int8": "u8"}[precision]}


def test_machine_says_what_a_reader_asks():
    found = describe()
    assert {"cpu", "cores", "memory_gib", "capabilities", "date", "load_before", "versions"} <= set(found)
    assert {"openvino", "numpy"} <= set(found["versions"])


def test_a_new_process_is_timed_and_its_memory_told(samples):
    found = cold_start("default", samples / "chelsea.png", 1)
    assert found["first"] == found["median"] == found["runs"][0] > 0
    assert 50 < peak_memory("default", samples / "chelsea.png") < 2000
    assert cold_start("default", samples / "chelsea.png", 0) is None
    with pytest.raises(ValueError, match="must be a folder"):
        cold_start("nowhere", samples / "chelsea.png", 1)


def test_rates_are_ratios_to_the_faster_way(monkeypatch, tmp_path, samples):
    told = iter([5.0, 8.0, 20.0])  # one picture, streams, folder, video come in turn
    monkeypatch.setattr(rates, "bare_rate", lambda *_: next(told))
    monkeypatch.setattr(rates, "detect_rate", lambda source, *_: 7.2 if source.is_dir() else 4.0)
    found = rates.rates("default", [samples / "chelsea.png"], samples / "carphone.mp4", tmp_path, None, 1)
    assert found["network"]["images_per_s"]["median"] == 8
    assert found["folder"]["of_network"]["median"] == pytest.approx(0.9)
    assert found["video"]["of_network"]["median"] == pytest.approx(0.5)
    assert len(list(tmp_path.iterdir())) == found["photos"]


def test_the_bare_rate_and_that_of_a_folder_are_real(tmp_path, samples):
    assert rates.bare_rate(Detector.load("default", many=True), samples / "chelsea.png", 2) > 0
    folder = rates.copy_photos([samples / "chelsea.png"], tmp_path, 2)
    assert len(find_sources([folder])) == 2  # not one photo under two names
    assert detect_rate(folder, "default") > 0


def test_photos(samples, tmp_path, mini_voc):
    assert [p.name for p in find_photos(())] == ["astronaut.jpg", "camera.png", "chelsea.png"]
    assert find_photos((samples / "chelsea.png",)) == [samples / "chelsea.png"]
    assert [p.name for p in labelled_photos(mini_voc, "val")] == ["3.png"]
    with pytest.raises(ValueError, match="must hold photos"):
        find_photos((tmp_path,))
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.jpg"):
        find_photos((tmp_path,))


def ssd_bench(*arguments):
    """Exit status and everything printed; an exception that is no exit is a traceback to the user."""
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_the_command_writes_json_and_markdown(tmp_path, mini_voc):
    for name in ("red", "blue"):  # classes that the model knows
        for path in (mini_voc / "Annotations").glob("*.xml"):
            path.write_text(path.read_text().replace(name, {"red": "cat", "blue": "dog"}[name]))
    options = ["--rounds", 1, "--cold-starts", 0, "--data", mini_voc, "--split", "val"]
    files = ["--json", tmp_path / "b.json", "--markdown", tmp_path / "b.md"]
    status, text = ssd_bench("default", *options, *files, "--threads", 1)
    assert status == 0, text
    report = json.loads((tmp_path / "b.json").read_text())
    assert set(report) == {"machine", "settings", "limits", "rows", "ratios", "rates"}
    assert report["settings"] | {"threads": 1, "batch": 1, "rounds": 1, "photos": 1} == report["settings"]
    (line,) = report["rows"]
    assert set(line) == {
        *("name", "role", "model", "runtime", "precision", "batch", "size_mb", "parts_ms", "whole_ms", "map"),
        *("sum_of_parts_ms", "gap_percent", "adds_up", "photo_to_boxes_ms", "network_gflop", "note"),
        *("network_gflop_per_s", "fraction_of_limit", "cold_start_s", "memory_mb", "score_difference"),
    }
    assert set(line["parts_ms"]) == set(PARTS)
    assert line["runtime"] == "openvino int8"
    assert line["network_gflop"] == pytest.approx(61.353, abs=1e-3)
    assert line["size_mb"] == pytest.approx(25, abs=1.5)
    assert line["map"]["images"] == 1
    assert (report["limits"], report["ratios"], report["rates"]) == (None, [], None)
    assert "openvino int8" in (tmp_path / "b.md").read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["b.json", "b.md"]


def test_models_side_by_side(tmp_path, samples, twins):
    """A float32 model, and it once more, beside the default one."""
    folder = tmp_path / "float"
    folder.mkdir()
    openvino.save_model(
        float32_graph(read_graph(twins.file)), str(folder / "model.xml"), compress_to_fp16=False
    )
    hashes = {name: file_sha256(folder / name) for name in ("model.xml", "model.bin")}
    card = replace(twins.detector.card, precision="f32", sha256=hashes)
    (folder / "card.json").write_text(card_to_json(card))
    plan = Plan(("default", str(folder), str(folder)), (samples / "chelsea.png",))
    some = contestants.contestants(plan.models, (), None, plan.options, tmp_path)
    assert [c.name for c in some] == ["openvino int8", "openvino f32", f"openvino f32, {folder}"]
    assert some[1].size == sum((folder / name).stat().st_size for name in hashes)
    first, second = (c.detector for c in some[:2])
    assert contestants.score_difference(first, first, samples / "chelsea.png") == 0
    assert 0 < contestants.score_difference(first, second, samples / "chelsea.png") < 0.5
    found = visit.visit(first, [samples / "chelsea.png"], False)
    assert set(found) == {*PARTS, "whole", "photo_to_boxes"}


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nowhere"], 1, "'nowhere'"),
        (["--split", "val"], 2, "--split needs one --data"),
        (["--data", "{tmp}"], 1, "must hold photos"),
        (["--data", "{tmp}", "--split", "val"], 1, "error: "),
        (["--json", "{tmp}/none/b.json"], 2, "folder that is there"),
        (["--against", "tensorrt"], 2, "tensorrt"),
        (["--against", "opencv", "--onnx", "{tmp}/no.onnx"], 1, "--onnx must be an ONNX file"),
        (["--rounds", "0"], 2, "0"),
        (["{tmp}/broken"], 1, "SHA-256"),
    ],
)
def test_wrong_options_give_one_line(tmp_path, arguments, status, told):
    (tmp_path / "no.onnx").write_bytes(b"nothing of the kind")
    (tmp_path / "broken").mkdir()
    for name in ("model.xml", "model.bin"):
        (tmp_path / "broken" / name).write_text("changed")
    (tmp_path / "broken/card.json").write_text(card_to_json(CARD))
    arguments = [text.replace("{tmp}", str(tmp_path)) for text in arguments]
    found, text = ssd_bench("--cold-starts", 0, *arguments)
    assert found == status, text
    assert told in text
    assert len([line for line in text.splitlines() if line.lower().startswith("error")]) == 1


@pytest.mark.parametrize("package", ["torch", "onnxruntime", "onnx"])
def test_a_missing_extra_is_one_line(monkeypatch, package):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == package else real(n, *a))
    name = {"onnx": "opencv"}.get(package, package)
    status, text = ssd_bench("--cold-starts", 0, "--against", name)
    assert status == 1
    (line,) = [line for line in text.splitlines() if line.startswith("error")]
    assert package in line
    assert "pip install '.[bench]'" in line


def test_an_onnx_file_with_channels_last_and_a_fixed_batch(tmp_path, twins):
    """The project's own layout: NHWC, deltas first here, which are told by their four columns."""
    onnx = pytest.importorskip("onnx", reason="needs the extra 'bench'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'bench'")
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        make("Concat", ["mean", "mean"], ["six"], axis=1),
        make("Slice", ["six", "zero", "four", "one"], ["flat_deltas"]),
        make("Reshape", ["flat_deltas", "shape4"], ["d"]),
        make("Reshape", ["six", "shape6"], ["c"]),
    ]
    constants = {"zero": [0], "four": [4], "one": [1], "shape4": [1, 1, 4], "shape6": [1, 1, 6]}
    tensors = [onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()]
    outputs = [value("d", 1, [1, 1, 4]), value("c", 1, [1, 1, 6])]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, [1, 300, 300, 3])], outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    batch = np.random.default_rng(0).random((1, 300, 300, 3), np.float32)
    mean = batch.mean((1, 2))[0]
    given = rivals.Twins(twins.detector, twins.file, tmp_path, tmp_path / "m.onnx", Options())
    for name in ("onnxruntime", "opencv"):
        logits, deltas, _ = rivals.open_rival(name, given)(batch)
        assert logits.reshape(-1) == pytest.approx(np.tile(mean, 2), abs=1e-4)
        assert deltas.reshape(-1) == pytest.approx(np.tile(mean, 2)[:4], abs=1e-4)
    wide = rivals.Twins(twins.detector, twins.file, tmp_path, tmp_path / "m.onnx", Options(batch=2))
    with pytest.raises(ValueError, match="batches of 1"):
        rivals.open_rival("opencv", wide)


def test_shapes_follow_the_spec():
    found = shapes(SPECS["ssd300"], 6)
    assert found["conv4_3_norm_mbox_conf"] == (4 * 7, 512, 3, 3)
    assert found["fc7_mbox_loc"] == (6 * 4, 1024, 3, 3)
    assert found["fc6"] == (1024, 512, 3, 3)


def test_screen_limits_are_those_of_detect():
    chosen = Detector(replace(CARD, thresholds={"a": 0.25}), None)
    assert visit.screen_limits(chosen)[1:] == (0.45, 200)
    assert visit.screen_limits(chosen).score_threshold == pytest.approx([0.25, 0.5])
    assert visit.screen_limits(Detector(CARD, None)) == Limits(0.5, 0.45, 200)
