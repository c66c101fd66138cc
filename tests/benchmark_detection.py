"""Photos a second from file to boxes: one by one, and with `Detector.find_all`.

    python tests/benchmark_detection.py PHOTOS [--rounds 3]

The detections of both must be equal, digit for digit.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from ssd import Detector, load_image


def main() -> None:
    """Print rates of the rounds, and whether the detections are equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="folder")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = sorted(options.photos.glob("*.jpg"))[: options.count]
    one, many = Detector.load("default"), Detector.load("default", many=True)
    ways = {
        "one by one": lambda: [one(load_image(file)) for file in files],
        "find_all": lambda: [future.result()[1] for future in many.find_all(files)],
    }
    rates, results = {name: [] for name in ways}, {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            results[name] = way()
            rates[name].append(len(files) / (time.perf_counter() - started))
    for name, values in rates.items():
        print(f"{name}: {', '.join(f'{v:.2f}' for v in values)} photos/s")
    pairs = zip(*results.values(), strict=True)
    same = all(np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores) for a, b in pairs)
    print(f"the detections are equal: {same}; {many.network.streams} streams")


if __name__ == "__main__":
    main()
