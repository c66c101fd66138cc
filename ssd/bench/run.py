"""The whole measurement: models, the same network elsewhere, the machine's limits, all in turns."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ssd.bench.contestants import Contestant, contestants, score_difference
from ssd.bench.limits import Probe, limits, probes
from ssd.bench.machine import describe, load
from ssd.bench.processes import cold_start, peak_memory
from ssd.bench.rates import rates
from ssd.bench.rounds import alternate, column, percentiles, spread
from ssd.bench.score import score, split_of
from ssd.bench.visit import PARTS, visit
from ssd.runtimes.network import Options, cores

TOLERANCE = 0.05  # of the whole: more than this and the parts do not add up
RATE_ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        models: names or paths; the first is the one that ratios are of.
        photos: picture files, taken in turn, `batch` of them a round.
        against: of `ssd.bench.rivals.RIVALS`.
        onnx: file for onnxruntime and opencv; None: written.
        limits: measure the machine's, too.
        data, split: labelled photos for average precision; None: no such column.
        cold_starts: processes a model; 0: neither these nor memory.
        rates: folder and video; video None: folder alone.
        threads, batch, rounds, seconds: None: all cores; as long as the rounds take.
    """

    models: tuple[str, ...]
    photos: tuple[Path, ...]
    against: tuple[str, ...] = ()
    onnx: Path | None = None
    limits: bool = False
    data: Path | None = None
    split: str | None = None
    cold_starts: int = 5
    rates: bool = False
    video: Path | None = None
    threads: int | None = None
    batch: int = 1
    rounds: int = 30
    seconds: float | None = None

    @property
    def options(self) -> Options:
        """How every network shall run."""
        return Options(self.threads, batch=self.batch)


def bench(plan: Plan, say: Callable[[str], None] = lambda text: None) -> dict:
    """Measure everything that a plan names.

    Args:
        plan: what.
        say: is told what comes next.
    Returns:
        plain data, as docs/performance.md describes it.
    Raises:
        FileNotFoundError, ValueError, ImportError: a model, photo, runtime or data set that cannot be used.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say("loading")
        some = contestants(plan.models, plan.against, plan.onnx, plan.options, folder)
        splits = {c.name: split_of(plan.data, plan.split, c.detector) for c in some if c.model and plan.data}
        report = {"machine": describe()} | {"settings": _settings(plan)}
        fresh = {c.name: _processes(plan, c, say) for c in some if c.model}
        machine = probes(plan.threads) if plan.limits else []
        say(f"{len(some)} networks in turns, at most {plan.rounds} rounds")
        done = measure(plan, some, machine)
        report["settings"]["rounds"] = len(done)
        report["limits"] = _limits(machine, done) if machine else None
        report["rows"] = [row(c, done, report["limits"]) | fresh.get(c.name, {}) for c in some]
        for c, line in zip(some, report["rows"], strict=True):
            line["score_difference"] = score_difference(some[0].detector, c.detector, plan.photos[0])
        report["ratios"] = ratios(some, done)
        report["rates"] = _rates(plan, folder, say) if plan.rates else None
        report["machine"]["load_after"] = load()
        # Last, for it takes longest and times nothing.
        for c, line in zip(some, report["rows"], strict=True):
            if c.name in splits:
                say(f"mAP of {c.name}: times are taken")
                line["map"] = score(c.model, splits[c.name], plan.threads)
        return report


def measure(plan: Plan, some: list[Contestant], machine: list[Probe]) -> list[dict]:
    """Rounds of everything in turns; see `ssd.bench.rounds.alternate`."""

    def files(number: int) -> list[Path]:
        start = number * plan.batch
        return [plan.photos[(start + i) % len(plan.photos)] for i in range(plan.batch)]

    visits = {c.name: lambda number, d=c.detector: visit(d, files(number), number % 2 == 1) for c in some} | {
        probe.name: probe for probe in machine
    }
    return alternate(visits, plan.rounds, plan.seconds, warm_up=1)


def row(contestant: Contestant, done: list[dict], found: dict | None) -> dict:
    """One line of the report.

    Args:
        contestant: whose.
        done: from `measure`.
        found: from `ssd.bench.limits.limits`, or None.
    """
    c, card = contestant, contestant.detector.card
    times = {
        name: [1e3 * v for v in column(done, c.name, name)] for name in (*PARTS, "whole", "photo_to_boxes")
    }
    marks = {name: percentiles(values) for name, values in times.items()}
    total, whole = sum(marks[name]["p50"] for name in PARTS), marks["whole"]["p50"]
    gflop = c.flops and c.flops / 1e9
    speed = gflop and gflop / marks["network"]["p50"] * 1e3
    limit = (found or {}).get(card.precision)
    return {
        "name": c.name,
        "role": c.role,
        "model": c.model,
        "runtime": c.detector.network.about,
        "precision": card.precision,
        "batch": c.detector.network.batch,
        "size_mb": c.size and c.size / 1e6,
        "parts_ms": {name: marks[name] for name in PARTS},
        "sum_of_parts_ms": total,
        "whole_ms": marks["whole"],
        "gap_percent": 100 * (total / whole - 1),
        "adds_up": abs(total / whole - 1) <= TOLERANCE,
        "photo_to_boxes_ms": marks["photo_to_boxes"],
        "network_gflop": gflop,
        "network_gflop_per_s": speed,
        "fraction_of_limit": speed / limit["gflop_per_s"] if speed and limit else None,
        "cold_start_s": None,
        "memory_mb": None,
        "map": None,
        "note": c.note,
    }


def ratios(some: list[Contestant], done: list[dict]) -> list[dict]:
    """How many times as long the others take as the first model, round by round on the same photos."""
    found, first = [], some[0].name
    for c in some[1:]:
        for what in ("photo_to_boxes", "network"):
            pairs = zip(column(done, c.name, what), column(done, first, what), strict=True)
            values = spread([theirs / ours for theirs, ours in pairs])
            found.append({"of": c.name, "to": first, "what": what, "rounds": len(done)} | values)
    return found


def _processes(plan: Plan, c: Contestant, say: Callable) -> dict:
    if not plan.cold_starts:
        return {}
    say(f"cold start of {c.name}")
    start = cold_start(c.model, plan.photos[0], plan.cold_starts, plan.threads)
    return {"cold_start_s": start, "memory_mb": peak_memory(c.model, plan.photos[0], plan.threads)}


def _limits(machine: list[Probe], done: list[dict]) -> dict:
    return limits(machine, {probe.name: column(done, probe.name, "gflop_per_s") for probe in machine})


def _rates(plan: Plan, folder: Path, say: Callable) -> dict:
    say("rates of a folder and a video")
    copies = folder / "photos"
    copies.mkdir()
    model = plan.models[0]
    return {"model": model} | rates(model, list(plan.photos), plan.video, copies, plan.threads, RATE_ROUNDS)


def _settings(plan: Plan) -> dict:
    return {
        "models": list(plan.models),
        "against": list(plan.against),
        "onnx": plan.onnx and str(plan.onnx),
        "threads": plan.threads or cores(),
        "batch": plan.batch,
        "rounds": plan.rounds,
        "photos": len(plan.photos),
        "data": plan.data and str(plan.data),
        "split": plan.split,
    }
