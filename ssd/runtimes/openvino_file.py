"""OpenVINO runs model.xml and model.bin, the fastest on a CPU."""

import io
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd.card import ModelCard
from ssd.runtimes.network import Limits, Options, Outputs
from ssd.runtimes.openvino_cache import cache_file, cache_folder, read_cached, write_cached
from ssd.runtimes.openvino_lean import openvino

FOUND = "found"  # the output of a graph that suppresses by itself


class Compiled(NamedTuple):
    """A graph ready to run, and the limits of the suppression in it."""

    model: openvino.CompiledModel
    limits: Limits | None


class OpenvinoNetwork:
    """A graph of OpenVINO on the CPU, compiled here if it is not yet; see `ssd.runtimes.network.Network`."""

    def __init__(self, graph: openvino.Model | Compiled, card: ModelCard, options: Options) -> None:
        self.batch, self.streams = options.batch, options.streams
        compiled = graph if isinstance(graph, Compiled) else _compile(graph, _settings(card, options))
        self._compiled, self.limits = compiled
        self.about = f"openvino {card.precision}{_instead(card, self._compiled)}"
        self._own = threading.local()

    def __call__(self, batch: np.ndarray) -> Outputs:
        # A request holds its inputs and outputs: every thread has its own.
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        results = self._own.request.infer(batch, share_inputs=True)
        found = _split(results[2], len(batch)) if self.limits else None
        return Outputs(results[0], results[1], found)


def load(file: Path, card: ModelCard, options: Options) -> OpenvinoNetwork:
    """Compile a graph for batches of `options.batch`, or take it from the cache of compiled ones.

    See `ssd.runtimes.network.open_network`.
    """
    core, settings = openvino.Core(), _settings(card, options)
    kept = _cache_file(core, file, card, options)
    try:
        compiled = kept and _read_compiled(core, kept, settings)
        if not compiled:
            compiled = _compile(_read_graph(core, file, options.batch), settings)
            _keep(compiled, kept)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"OpenVINO must accept the model in batches of {options.batch}. Received: {file} ({reason})"
        ) from None
    return OpenvinoNetwork(compiled, card, options)


def _instead(card: ModelCard, compiled: openvino.CompiledModel) -> str:
    """What a CPU without bfloat16 does, said beside the precision."""
    computes = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return f" (computed in {computes})" if card.precision == "bf16" and computes != "bf16" else ""


def _settings(card: ModelCard, options: Options) -> dict:
    # OpenVINO picks bfloat16 by itself where the CPU has it; a precision is never silent here.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if card.precision == "bf16":
        settings["INFERENCE_PRECISION_HINT"] = "bf16"
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    if options.streams > 1:
        settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": options.streams}
    return settings


def _cache_file(core: openvino.Core, file: Path, card: ModelCard, options: Options) -> Path | None:
    """The file in the cache of this model on this machine; None without hashes or without a cache."""
    if not card.sha256 or cache_folder() is None:
        return None
    stats = [(file.parent / name).stat() for name in sorted(card.sha256)]
    machine = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    return cache_file(
        [
            card.sha256,
            [(stat.st_size, stat.st_mtime_ns) for stat in stats],
            card.precision,
            options.batch,
            openvino.get_version(),
            machine,
        ]
    )


def _read_compiled(core: openvino.Core, kept: Path, settings: dict) -> Compiled | None:
    """None if the cache has not got it whole."""
    if not (found := read_cached(kept)):
        return None
    blob, facts = found
    try:
        # OpenVINO would use a tensor in place and not keep it alive; of a stream it has a copy.
        model = core.import_model(io.BytesIO(blob), "CPU", settings)
    except RuntimeError:  # not of this OpenVINO after all
        return None
    return Compiled(model, facts["limits"] and Limits(*facts["limits"]))


def _keep(compiled: Compiled, kept: Path | None) -> None:
    if kept:
        write_cached(kept, compiled.model.export_model().getvalue(), {"limits": compiled.limits})


def _compile(graph: openvino.Model, settings: dict) -> Compiled:
    return Compiled(openvino.Core().compile_model(graph, "CPU", settings), _limits(graph))


def _read_graph(core: openvino.Core, file: Path, batch: int) -> openvino.Model:
    graph = core.read_model(file)
    shape = graph.input(0).get_partial_shape()
    if shape.is_dynamic or shape[0].get_length() != batch:
        _free_batch(graph)
        graph.reshape([batch, *(d.get_length() for d in list(shape)[1:])])
    return graph


def _free_batch(graph: openvino.Model) -> None:
    """Let every reshape to one picture take any number: a graph made for 1 has that 1 in its constants."""
    for node in graph.get_ops():
        if node.get_type_name() != "Reshape" or node.get_output_partial_shape(0).is_dynamic:
            continue
        target = node.input_value(1).get_node()
        if target.get_type_name() == "Constant" and target.get_data().tolist()[:1] == [1]:
            sides = np.int64([-1, *list(node.get_output_shape(0))[1:]])
            node.input(1).replace_source_output(openvino.opset1.constant(sides).output(0))


def _limits(graph: openvino.Model) -> Limits | None:
    """What the suppression in a graph was made with."""
    for node in graph.get_ops():
        if node.get_type_name() == "DetectionOutput":
            has = node.get_attributes()
            most = has["keep_top_k"]
            most = most[0] if isinstance(most, list | tuple | np.ndarray) else most
            return Limits(float(has["confidence_threshold"]), float(has["nms_threshold"]), int(most))
    return None


def _split(rows: np.ndarray, count: int) -> list[tuple]:
    """(1, 1, N, 7) rows of image, class, score and corners -> boxes, labels and scores of each picture."""
    rows = rows.reshape(-1, 7)
    ends = np.flatnonzero(rows[:, 0] < 0)  # the rest is not filled
    rows = rows[: ends[0]] if len(ends) else rows
    parts = [rows[rows[:, 0] == i] for i in range(count)]
    # Class 0 of the graph is background.
    return [(part[:, 3:7].copy(), part[:, 1].astype(np.int64) - 1, part[:, 2].copy()) for part in parts]
