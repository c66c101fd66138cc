"""Time and memory of loading a 100 MB weight file, beside what Keras takes for a file of its own.

Run it: python tests/benchmark_transfer.py
"""

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import weight_files as w
import weight_files_hdf5 as h

from ssd.card import ModelCard
from ssd.model import build_model
from ssd.spec import SPECS, VOC_CLASSES
from ssd.transfer.load import transfer
from ssd.transfer.plan import Options, open_source

ROUNDS = 5


def main() -> None:
    """Print the median of some rounds, and the growth of the peak memory in the first."""
    with tempfile.TemporaryDirectory() as folder:
        makers = {"Keras 2 .hdf5": h.write_keras2, "Caffe": w.write_caffe, "Chainer .npz": w.write_chainer}
        for name, write in makers.items():
            v1 = write is h.write_keras2
            path = Path(folder) / "weights"
            write(path, w.random_arrays(v1))
            _measure(name, path, v1)
            path.unlink()
        model = build_model(SPECS["ssd300"], 20)
        own = Path(folder) / "own.weights.h5"
        model.save_weights(own)
        print(f"Keras' own load_weights of {_mb(own)}: {_median(lambda: model.load_weights(own)):.2f} s")


def _measure(name: str, path: Path, v1: bool) -> None:
    spec = "ssd300_v1" if v1 else "ssd300"
    model, card = build_model(SPECS[spec], 20), ModelCard("m", spec, "vgg16", VOC_CLASSES)
    before = _reset_peak()
    transfer(model, card, path)
    times = (_peak() - before) / path.stat().st_size
    seconds = _median(lambda: transfer(model, card, path))
    opened = _median(lambda: open_source(path, Options())[0].close())
    print(f"{name} of {_mb(path)}: read, planned, checked and loaded in {seconds:.2f} s, of which opening")
    print(f"  {opened:.3f} s; peak memory grew by {times:.2f} times the file")


def _median(call: Callable) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[ROUNDS // 2]


def _reset_peak() -> int:
    """Resident bytes now, from where the peak counts anew (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def _mb(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
