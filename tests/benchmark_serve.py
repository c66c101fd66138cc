"""What `ssd serve` adds to the bare network: 8 clients at once, their errors, and the memory of the service.

    python tests/benchmark_serve.py [--photos FOLDER] [--clients 8] [--seconds 60] [--rounds 3]

The bare network takes an array that is preprocessed already, in as many threads as the service's network has
streams. It runs in alternation with the clients, each `--seconds` in all; the ratio is that of a round, so
that other work on the machine falls on both.
"""

import argparse
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from serving import Service, serving

from ssd import Detector, load_image

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared/data/voc_animals/JPEGImages"


def main() -> None:
    """Print one figure a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=SHARED if SHARED.is_dir() else ROOT / "samples")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    photos = sorted(p for p in options.photos.iterdir() if p.suffix in (".jpg", ".png"))[:40]
    bodies, each = [p.read_bytes() for p in photos], options.seconds / options.rounds
    detector = Detector.load(many=True)
    batch = detector.prepare([load_image(photos[0])])
    statuses, ratios, memory = Counter(), [], []
    with TemporaryDirectory() as folder, serving(Path(folder)) as service:
        bare_rate(detector, batch, 2)
        client_rate(service, bodies, options.clients, 2, Counter())
        memory.append(resident_mb(service))
        for _ in range(options.rounds):
            bare = bare_rate(detector, batch, each)
            served = client_rate(service, bodies, options.clients, each, statuses)
            ratios.append(served / bare)
            memory.append(resident_mb(service))
            print(f"bare {bare:.2f}/s, served {served:.2f}/s, ratio {served / bare:.3f}", flush=True)
    print(f"ratio, median of {options.rounds}: {median(ratios):.3f}")
    print(f"answers by status: {dict(statuses)}")
    print(f"memory of the service, MB: {', '.join(f'{m:.0f}' for m in memory)}")


def bare_rate(detector: Detector, batch: np.ndarray, seconds: float) -> float:
    """Pictures a second through the network alone."""
    return _rate(lambda: detector.network(batch), detector.network.streams, seconds)


def client_rate(
    service: Service, bodies: list[bytes], clients: int, seconds: float, statuses: Counter
) -> float:
    """Answered pictures a second; counts all statuses."""
    turn, lock = cycle(bodies), threading.Lock()

    def ask() -> bool:
        with lock:
            body = next(turn)
        status, _ = service.ask("POST", "/v1/detect", body)
        with lock:
            statuses[status] += 1
        return status == 200

    return _rate(ask, clients, seconds)


def _rate(call: object, threads: int, seconds: float) -> float:
    """Calls a second by threads that go on until the time is over; what is then in hand counts too."""
    done, start = Counter(), time.monotonic()

    def work(i: int) -> None:
        while time.monotonic() - start < seconds:
            done[i] += call() is not False

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return done.total() / (time.monotonic() - start)


def resident_mb(service: Service) -> float:
    """Of the process, by Linux."""
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
