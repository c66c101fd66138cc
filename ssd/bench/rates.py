"""Many pictures: `ssd detect` of a folder and a video, as a fraction of the bare network's rate."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ssd.bench.processes import detect_rate
from ssd.bench.rounds import alternate, column, spread
from ssd.detector import Detector
from ssd.images import load_image

PHOTOS = 200  # in the folder; fewer photos come again under other names
CALLS = 24  # of the bare network, a measurement


def rates(
    model: str, photos: list[Path], video: Path | None, folder: Path, threads: int | None, rounds: int
) -> dict:
    """Measure in turns.

    Args:
        model: name or path.
        photos: for the folder.
        video: None: none.
        folder: empty, for copies of the photos.
        threads: of the network; None: all cores.
        rounds: of all, in turns.
    Returns:
        {"network", "folder", "video"} -> {"images_per_s": spread}, and for the last two "of_network":
        spread of the ratios, round by round, to the faster of the two ways to run the bare network.
    """
    visits = {"network": lambda _: {"images_per_s": bare_rate(one, photos[0])}}
    one = Detector.load(model, threads)
    many = Detector.load(model, threads, many=True)
    visits["streams"] = lambda _: {"images_per_s": bare_rate(many, photos[0])}
    source = copy_photos(photos, folder)
    visits["folder"] = lambda _: {"images_per_s": detect_rate(source, model, threads)}
    if video:
        visits["video"] = lambda _: {"images_per_s": detect_rate(video, model, threads)}
    done = alternate(visits, rounds, warm_up=0)
    columns = {name: column(done, name, "images_per_s") for name in visits}
    bare = [max(pair) for pair in zip(columns["network"], columns.pop("streams"), strict=True)]
    columns["network"] = bare
    found = {name: {"images_per_s": spread(values)} for name, values in columns.items()}
    for name in [name for name in columns if name != "network"]:
        pairs = zip(columns[name], bare, strict=True)
        found[name]["of_network"] = spread([value / base for value, base in pairs])
    return found | {"streams": many.network.streams, "photos": PHOTOS, "video_file": video and video.name}


def bare_rate(detector: Detector, photo: Path, calls: int = CALLS) -> float:
    """Pictures a second that the network alone takes, from as many threads as it has streams."""
    network = detector.network
    batch = detector.prepare([load_image(photo)] * network.batch)
    with ThreadPoolExecutor(network.streams) as pool:
        list(pool.map(lambda _: network(batch), range(network.streams)))  # every thread opens its own
        start = time.perf_counter()
        list(pool.map(lambda _: network(batch), range(calls)))
        return calls * network.batch / (time.perf_counter() - start)


def copy_photos(photos: list[Path], folder: Path, count: int = PHOTOS) -> Path:
    """A folder of `count` photos, each as often as it takes. Copies: of links to one file, one is read."""
    for i in range(count):
        photo = photos[i % len(photos)]
        shutil.copyfile(photo, folder / f"{i:04d}{photo.suffix}")
    return folder
