"""Kill a training at random moments, resume it, and compare it with one that was left alone.

Run it: python tests/experiment_kill.py DATA [--moments 5] [--seed 0] [options of ssd train after --]
Each kill is SIGKILL after a random share of the time that the uninterrupted run took. Printed: when, what
had been written, and whether weights and loss curve end bit-identical.
"""

import argparse
import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ssd.checkpoint import load_checkpoint
from ssd.history import TIMES
from ssd.run import RunFolder

SSD = Path(sys.executable).with_name("ssd")


def main() -> None:
    """Print a line a kill and the verdict; the exit status is 1 if anything differs."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given, given.options = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        whole, run = Path(folder) / "whole", Path(folder) / "run"
        start = time.monotonic()
        _train("train", given.data, "--out", whole, *given.options)
        took = time.monotonic() - start
        print(f"uninterrupted: {took:.0f} s")
        draw = random.Random(given.seed)
        command = ["train", given.data, "--out", run, *given.options]
        for number in range(1, given.moments + 1):
            wait = draw.uniform(0.1, 0.6) * took
            process = subprocess.Popen([SSD, *map(str, command)], stdout=subprocess.DEVNULL)
            try:
                process.wait(wait)
                print(f"kill {number}: came too late, the run had ended")
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            print(f"kill {number}: after {wait:.1f} s, {_place(run)}", flush=True)
            if (run / "run.json").exists():
                command = ["train", "--resume", run]
        _train(*command)
        same_curve, same_weights = _compare(whole, run)
    print(f"loss curve {'identical' if same_curve else 'DIFFERS'}, final weights "
          f"{'bit-identical' if same_weights else 'DIFFER'}")  # fmt: skip
    sys.exit(not (same_curve and same_weights))


def _train(*arguments: object) -> None:
    subprocess.run([SSD, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def _place(run: Path) -> str:
    """How far a run had come: nothing is said to be trained before a state of it is on disk."""
    if not (run / "state.npz").exists():
        return "before the first state"
    state = RunFolder(run).load_state()[0]
    return f"with a state of {state['epoch']} epochs and {state.get('done', 0)} batches"


def _rows(run: Path) -> list[dict]:
    if not (run / "history.csv").exists():
        return []
    with open(run / "history.csv", newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def _compare(whole: Path, run: Path) -> tuple[bool, bool]:
    """Whether all figures of the history and all last weights are the same."""
    models = [load_checkpoint(path / "checkpoints/last.weights.h5")[0] for path in (whole, run)]
    pairs = zip(*(model.get_weights() for model in models), strict=True)
    return _rows(whole) == _rows(run), all(np.array_equal(a, b) for a, b in pairs)


if __name__ == "__main__":
    main()
