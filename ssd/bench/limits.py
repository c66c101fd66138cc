"""What this machine can do at best, a precision: products as large as the network's, and nothing else."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import openvino
from openvino import opset13 as ops

from ssd.bench.flops import conv_flops
from ssd.bench.rounds import spread
from ssd.runtimes.network import cores

PRECISIONS = ("f32", "bf16", "int8")
CHANNELS, SIDE, CHAIN = 512, 38, 3  # conv4_2 of VGG16, three in a row: quantising the input weighs little
CONV_FLOPS = CHAIN * conv_flops([CHANNELS, CHANNELS, 3, 3], [SIDE, SIDE])
MATRIX = 2048  # rows and columns


class Probe(NamedTuple):
    """One way to reach a limit."""

    precision: str
    name: str
    flops: int
    call: Callable[[], object]

    def __call__(self, _: int) -> dict[str, float]:
        """{"gflop_per_s"} of one run."""
        start = time.perf_counter()
        self.call()
        return {"gflop_per_s": self.flops / (time.perf_counter() - start) / 1e9}


def probes(threads: int | None = None) -> list[Probe]:
    """Everything that may come close to a limit here; bfloat16 only where the CPU has it.

    Args:
        threads: None: all cores.
    """
    can = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = [p for p in PRECISIONS if p != "bf16" or "BF16" in can]
    found = [_openvino(precision, threads) for precision in precisions]
    if threads in (None, cores()):  # NumPy's library takes all cores
        found.append(_numpy())
    if importlib.util.find_spec("torch"):
        found += _torch([p for p in precisions if p != "int8"], threads)
    return found


def limits(some: list[Probe], measured: dict[str, list[float]]) -> dict[str, dict | None]:
    """A precision's limit: the best median of its probes.

    Args:
        some: from `probes`.
        measured: name of a probe -> GFLOP/s, round by round.
    Returns:
        precision -> {"gflop_per_s", "by", "probes": {name: spread}}; None where the CPU has it not.
    """
    found = {}
    for precision in PRECISIONS:
        rows = {p.name: spread(measured[p.name]) for p in some if p.precision == precision}
        best = max(rows, key=lambda name: rows[name]["median"], default=None)
        found[precision] = best and {"gflop_per_s": rows[best]["median"], "by": best, "probes": rows}
    return found


def chain(precision: str) -> openvino.Model:
    """Convolutions of 512 to 512 channels on 38 x 38 cells, one behind the other."""
    rng = np.random.default_rng(0)
    x = picture = ops.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    for _ in range(CHAIN):
        shape = (CHANNELS, CHANNELS, 3, 3)
        if precision == "int8":
            x = ops.fake_quantize(x, *(np.float32(v) for v in (0, 2.55, 0, 2.55)), 256)
            whole = ops.constant(rng.integers(-127, 128, shape, dtype=np.int8))
            weights = ops.multiply(
                ops.convert(whole, "f32"), ops.constant(np.full((CHANNELS, 1, 1, 1), 2e-4, "f4"))
            )
        else:
            weights = ops.constant(rng.standard_normal(shape, np.float32) * np.float32(0.02))
        x = ops.relu(ops.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    return openvino.Model([x], [picture])


def _openvino(precision: str, threads: int | None) -> Probe:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(chain(precision), "CPU", settings).create_infer_request()
    x = np.random.default_rng(0).random((1, CHANNELS, SIDE, SIDE), np.float32)
    return Probe(precision, f"openvino convolution {precision}", CONV_FLOPS, lambda: request.infer([x]))


def _numpy() -> Probe:
    a = np.random.default_rng(0).random((MATRIX, MATRIX), np.float32)
    return Probe("f32", "numpy matrix product f32", 2 * MATRIX**3, lambda: a @ a)


def _torch(precisions: list[str], threads: int | None) -> Iterator[Probe]:
    import torch

    torch.set_num_threads(threads or cores())
    for precision in precisions:
        options = {"dtype": {"f32": torch.float32, "bf16": torch.bfloat16}[precision]}
        layers = [
            torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False, **options) for _ in range(CHAIN)
        ]
        network = torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)
        x = torch.rand(1, CHANNELS, SIDE, SIDE, **options).to(memory_format=torch.channels_last)

        def call(network=network, x=x) -> None:
            with torch.inference_mode():
                network(x)

        yield Probe(precision, f"torch convolution {precision}", CONV_FLOPS, call)
