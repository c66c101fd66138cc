"""What `ssd detect` adds to the bare network: cold start, a folder, a 720p video, memory.

    python tests/benchmark_pipeline.py [--photos FOLDER] [--video CLIP] [--rounds 3]

The bare network takes arrays that are preprocessed already and gives all boxes. It runs in alternation
with the folder and the video, whose drawn copies are written. Rates are ratios of medians; CPU time tells
the same on a machine that does something else as well.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from ssd.tools import detect

from ssd import Detector
from ssd.images import load_image
from ssd.media import Frame, VideoWriter, read_video, video_length
from ssd.runtimes.network import Limits, Outputs
from ssd.stop import stoppable
from ssd.targets import name_targets

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared/data"
LIMITS = Limits(0.5, 0.45, 200)
HOUR_FRAMES = 90_000  # at 25 a second


def main() -> None:
    """Print one figure a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    photos, video = SHARED / "voc_animals/JPEGImages", SHARED / "videos/cockatoo.mp4"
    parser.add_argument("--photos", type=Path, default=photos if photos.is_dir() else ROOT / "samples")
    parser.add_argument(
        "--video", type=Path, default=video if video.is_file() else ROOT / "samples/carphone.mp4"
    )
    parser.add_argument("--count", type=int, default=40, help="photos, and frames, a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--long-frames", type=int, default=HOUR_FRAMES // 10)
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)  # this script calls itself
    options = parser.parse_args()
    if options.memory:
        watch_memory(options.memory)
        return
    with TemporaryDirectory() as folder:
        cv2.setNumThreads(1)
        cold_start(Path(folder), options.starts)
        rates(Path(folder), options)
        memory(Path(folder), options)


def cold_start(folder: Path, starts: int) -> None:
    """Seconds from nothing to the written picture, in processes of their own."""
    picture = ROOT / "samples/astronaut.jpg"
    for name, cache in (("cached graph", str(folder / "compiled")), ("no cache", "off")):
        environment = os.environ | {"SSD_COMPILE_CACHE": cache}
        runs = []
        for _ in range(starts + 1):
            command = [
                Path(sys.executable).with_name("ssd"),
                "detect",
                picture,
                "--out",
                folder / "one",
                "--overwrite",
            ]
            before, started = os.times(), time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            after = os.times()
            cpu = sum(after[2:4]) - sum(before[2:4])
            runs.append((time.perf_counter() - started, cpu))
        seconds, cpu = (median(values) for values in zip(*runs[1:], strict=True))  # the first fills caches
        print(f"cold start, {name}: {seconds:.2f} s, {cpu:.2f} s of CPU time (median of {starts})")


def rates(folder: Path, options: argparse.Namespace) -> None:
    """The bare network and the two uses of it, in turns."""
    detector = Detector.load("default", many=True)
    files = sorted(options.photos.glob("*.jpg"))[: options.count]
    clip = make_720p(options.video, folder / "clip.mp4", options.count)
    arrays = [detector.prepare([load_image(file)]) for file in files]
    targets = {"folder": name_targets(files), "720p video": {clip: "drawn.mp4"}}
    ways = {"bare network": lambda: bare(detector, arrays)}
    for name, files_of_it in targets.items():
        ways[name] = lambda t=files_of_it: drawn(detector, t, folder)
    measured = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            cpu, started = time.process_time(), time.perf_counter()
            count = way()
            measured[name].append(
                (count / (time.perf_counter() - started), (time.process_time() - cpu) / count)
            )
    report(measured)


def report(measured: dict[str, list[tuple]]) -> None:
    """Rates, CPU time, and both against the bare network."""
    middle = {name: [median(v) for v in zip(*rows, strict=True)] for name, rows in measured.items()}
    rate, cpu = middle["bare network"]
    for name, (its_rate, its_cpu) in middle.items():
        spread = ", ".join(f"{row[0]:.2f}" for row in measured[name])
        print(
            f"{name}: {its_rate:.2f} a second ({spread}), ratio {its_rate / rate:.3f}; "
            f"{1000 * its_cpu:.0f} ms of CPU time each, ratio {cpu / its_cpu:.3f}"
        )


def bare(detector: Detector, arrays: list[np.ndarray]) -> int:
    """Every array through the network and all its boxes decoded."""
    with ThreadPoolExecutor(detector.network.streams) as pool:
        return sum(
            pool.map(lambda array: detector.boxes(detector.network(array), 0, LIMITS) is not None, arrays)
        )


def drawn(detector: Detector, targets: dict[Path, str], folder: Path) -> int:
    """What `ssd detect` does once it has loaded the model."""
    limits = LIMITS._asdict()
    out = folder / "out"
    out.mkdir(exist_ok=True)
    with stoppable() as stop, quiet():
        job = detect._Job(detector, limits, (), out, True, stop)
        faults = detect._process(job, targets, ("json",))
    assert not faults, faults
    shutil.rmtree(out)
    return job.images


@contextmanager
def quiet():
    """Send what is printed nowhere."""
    with open(os.devnull, "w") as nowhere:
        out, sys.stdout = sys.stdout, nowhere
        try:
            yield
        finally:
            sys.stdout = out


def make_720p(source: Path, path: Path, count: int) -> Path:
    """The first frames of a clip, from the start again where it is short, at 1280 by 720."""
    with VideoWriter(path, Fraction(25)) as writer:
        done = 0
        while done < count:
            for frame in read_video(source):
                image = cv2.resize(frame.image, (1280, 720))
                writer.write(Frame(image, done, done / 25))
                if (done := done + 1) == count:
                    break
    return path


def memory(folder: Path, options: argparse.Namespace) -> None:
    """The memory of a process in a long 720p video; a network that answers at once makes it short."""
    source = make_720p(options.video, folder / "short.mp4", 50)
    path = repeat(source, folder / "long.mp4", options.long_frames)
    command = [sys.executable, __file__, "--memory", path]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sizes = json.loads(lines.splitlines()[-1])
    tenths = ", ".join(str(size) for size in sizes)
    print(f"memory in {options.long_frames} frames of 720p, by tenths: {tenths} MB resident")


def repeat(source: Path, path: Path, count: int) -> Path:
    """The packets of a clip again and again, not encoded anew."""
    with av.open(str(path), "w") as out, av.open(str(source)) as first:
        stream = out.add_stream_from_template(first.streams.video[0])
        written = 0
        while written < count:
            with av.open(str(source)) as clip:
                packets = [p for p in clip.demux(video=0) if p.size]
                length = sum(p.duration for p in packets)
                offset = (written // len(packets)) * length
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    out.mux(packet)
                written += len(packets)
    return path


class InstantNetwork:
    """Answers at once that there is something everywhere, so that there is much to draw and to write."""

    batch, streams, limits, about = 1, 2, None, "none"

    def __call__(self, batch: np.ndarray) -> Outputs:
        rng = np.random.default_rng(0)
        logits = np.full((1, 8732, 7), -9, np.float32)
        logits[0, :, 0] = 9
        logits[0, 8000:8020, 1] = 20
        return Outputs(logits, rng.normal(0, 0.1, (1, 8732, 4)).astype(np.float32))


def watch_memory(path: Path) -> None:
    """Run a video through everything but the network; print resident MB after each tenth."""
    detector = Detector(Detector.load("default").card, InstantNetwork())
    sizes, total = [], video_length(path)
    count = detect._Job.count

    def counted(job, found) -> None:
        count(job, found)
        if job.images % (total // 10) == 0:
            sizes.append(resident_mb())

    detect._Job.count = counted
    with TemporaryDirectory() as folder:
        drawn(detector, {path: "drawn.mp4"}, Path(folder))
    print(json.dumps(sizes))


def resident_mb() -> int:
    """Memory of this process now, Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    main()
