"""ssd detect: images and videos in, annotated copies and result files out."""

import importlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.cli import fail, names, run, track

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import ExitStack

    import numpy as np

    from ssd.detector import Detector
    from ssd.followed import Followed
    from ssd.media import Frame, VideoWriter
    from ssd.records import Detections
    from ssd.stop import Stop

SCORE = 0.5  # least score of a class for which the model has none: what looks good on a screen
FRAMES_AHEAD = 3  # decoded, waiting for the network


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--model", default="default", show_default=True, help="Name of a shipped model, or a model folder."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; detections unless told, detections-2 if that holds them already.",
)
@click.option(
    "--save",
    multiple=True,
    type=click.Choice(["json", "csv", "voc", "coco", "yolo"]),
    help="Also write the boxes in this format; repeatable.",
)
@click.option(
    "--score",
    type=click.FloatRange(0, 1),
    help="Least score of a box; unless told, the model's own for each class, if it has them, else 0.5.",
)
@click.option(
    "--iou",
    type=click.FloatRange(0, 1),
    default=0.45,
    show_default=True,
    help="Boxes of one class that overlap more are one object.",
)
@click.option(
    "--max",
    "max_detections",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Most boxes in an image.",
)
@click.option("--classes", help="Only these classes: a,b.")
@click.option("--no-draw", is_flag=True, help="Write no annotated copies.")
@click.option("--overwrite", is_flag=True, help="Replace results of an earlier run.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the network; all cores unless told.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Pictures in one call of the network; the results are the same.",
)
@click.option("--track", "tracking", is_flag=True, help="Give objects of a video ids that stay with them.")
@click.option(
    "--count-line",
    multiple=True,
    metavar="X1,Y1,X2,Y2",
    help="Track, and count what crosses this line (pixels) in each video; repeatable.",
)
@click.option(
    "--count-zone",
    multiple=True,
    metavar="X1,Y1,X2,Y2,...",
    help="Track, and count what is inside this rectangle or polygon; repeatable.",
)
def main(
    sources: tuple,
    model: str,
    out: Path | None,
    save: tuple,
    score: float | None,
    iou: float,
    max_detections: int,
    classes: str | None,
    no_draw: bool,
    overwrite: bool,
    threads: int | None,
    batch: int,
    tracking: bool,
    count_line: tuple,
    count_zone: tuple,
) -> None:
    """Find objects in SOURCE...: any mix of image files, folders, globs and video files.

    Ctrl-C finishes the pictures in hand and completes all files.
    """
    from ssd.detector import Detector
    from ssd.sources import find_sources, is_video
    from ssd.stop import stoppable
    from ssd.targets import choose_folder, name_targets, planned_names

    watched = run(_parse_watched, count_line, count_zone)
    if tracking := tracking or any(watched):
        run(importlib.import_module, "supervision")  # before the work of hours
    files, faults = find_sources(list(sources))
    for fault in faults:
        click.echo(f"error: {fault}", err=True)
    if not files:
        fail("nothing to do")
    many = len(files) > 1 or is_video(files[0])
    if many:
        _leave_cores_to_the_network()
    if any(map(is_video, files)):
        importlib.import_module("ssd.media")  # before the model, so that the first frame finds both ready
    detector = run(Detector.load, model, threads, many=many, batch=batch)
    wanted = names(classes)
    if unknown := set(wanted) - set(detector.class_names):
        raise click.UsageError(
            f"--classes must be of {', '.join(detector.class_names)}. Received: {', '.join(sorted(unknown))}"
        )
    score = detector.operating_point(SCORE) if score is None else score
    limits = {"score_threshold": score, "iou_threshold": iou, "max_detections": max_detections}
    targets = name_targets(files)
    out = run(choose_folder, out, targets, planned_names(targets, save, not no_draw), overwrite)
    with stoppable() as stop:
        job = _Job(detector, limits, wanted, out, not no_draw, stop, tracking, watched)
        faults += run(_process, job, targets, save)
    job.summary()
    if stop.signal:
        click.echo("interrupted; what is written is complete as far as it goes", err=True)
        raise SystemExit(stop.status)
    if faults:
        click.echo(f"{len(faults)} of the inputs failed", err=True)
        raise SystemExit(1)


def _parse_watched(lines: tuple, zones: tuple) -> tuple[list, list]:
    """Points of all lines and zones, refused here if they are none."""
    if not (lines or zones):
        return [], []
    from ssd.counting import Counts, parse_points

    watched = [parse_points(text) for text in lines], [parse_points(text) for text in zones]
    Counts(*watched)
    return watched


def _leave_cores_to_the_network() -> None:
    """Pictures run beside each other: OpenCV's own threads, which spin, would only take turns with them."""
    import cv2

    cv2.setNumThreads(1)


@dataclass
class _Job:
    """One run: the detector with its limits, and what it has counted."""

    detector: "Detector"
    limits: dict
    classes: tuple[str, ...]
    out: Path
    drawing: bool
    stop: "Stop"
    tracking: bool = False
    watched: tuple = ((), ())  # points of lines and of zones
    images: int = 0
    boxes: Counter = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def find_all(self, pictures: Iterable, then: Callable, **limits: object) -> Iterator["Future"]:
        """What `then` makes of each picture and its boxes of wanted classes, in order, until told to stop."""

        def chosen(number: int, image: "np.ndarray", found: "Detections") -> object:
            if self.classes:
                found = found[[name in self.classes for name in found.names]]
            return then(number, image, found)

        return self.detector.find_all(self.stop.before(pictures), chosen, **self.limits | limits)

    def count(self, found: "Detections") -> None:
        """Add to the summary."""
        self.images += 1
        self.boxes.update(found.names)

    def summary(self) -> None:
        """One line on everything."""
        seconds = time.monotonic() - self.started
        counts = ", ".join(f"{n} {name}" for name, n in self.boxes.most_common()) or "no boxes"
        rate = f"{self.images / seconds:.1f} images/s by {self.detector.network.about}"
        click.echo(f"{self.images} images, {counts}, {rate}")


def _process(job: _Job, targets: dict[Path, str], save: tuple) -> list[str]:
    """All inputs, in order; a line for each that failed."""
    from contextlib import ExitStack

    from ssd.sources import is_video

    with ExitStack() as stack:
        sinks, faults = _open_sinks(job.out, save, stack), []
        for moving, some in groupby(targets.items(), lambda target: is_video(target[0])):
            for call in _videos(job, some, sinks) if moving else _images(job, list(some), sinks):
                try:
                    call()
                except (ValueError, OSError) as error:
                    faults.append(str(error))
                    click.echo(f"error: {error}", err=True)
    return faults


def _open_sinks(out: Path, save: tuple, stack: "ExitStack") -> list:
    if not save:
        return []
    from ssd.results import SINKS

    sinks = [SINKS[kind](out) for kind in dict.fromkeys(save)]
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def _images(job: _Job, targets: list[tuple[Path, str]], sinks: list) -> Iterator[Callable]:
    """For each picture, drawn and written by the threads that find, a call that reports it or raises."""
    from ssd.draw import draw
    from ssd.images import save_image

    def write(number: int, image: "np.ndarray", found: "Detections") -> tuple:
        try:
            if job.drawing:
                save_image(job.out / targets[number][1], draw(image, found))
        except (ValueError, OSError) as error:
            return found, error  # the boxes are good all the same
        return found, None

    futures = job.find_all((path for path, _ in targets), write)
    for (path, name), future in zip(targets, futures, strict=False):
        yield lambda path=path, name=name, future=future: _image(job, path, name, future, sinks)


def _image(job: _Job, path: Path, name: str, future: "Future", sinks: list) -> None:
    found, error = future.result()
    job.count(found)
    _add(sinks, path, name, found)
    if error:
        raise error
    _report(path, Counter(found.names), job.out / name if job.drawing else None)


def _add(
    sinks: list,
    path: Path,
    name: str,
    found: "Detections",
    frame: "Frame | None" = None,
    counts: dict | None = None,
) -> None:
    if not sinks:
        return
    from ssd.results import Result

    index, time_s = (frame.index, frame.time_s) if frame else (0, 0.0)
    for sink in sinks:
        sink.add(Result(str(path), Path(name).stem, index, time_s, found, frame is not None, counts))


def _videos(job: _Job, targets: Iterable, sinks: list) -> Iterator[Callable]:
    for path, name in job.stop.before(targets):
        yield lambda path=path, name=name: _video(job, path, name, sinks)


def _video(job: _Job, path: Path, name: str, sinks: list) -> None:
    """Three at once: a thread decodes, those of the network find, this one draws and encodes."""
    from contextlib import closing, nullcontext

    from ssd.followed import Followed
    from ssd.media import VideoWriter, read_video, video_length, video_rate
    from ssd.pipeline import ahead

    counts, frames, waiting = Counter(), 0, deque()
    total, rate = video_length(path), video_rate(path)
    followed = Followed(job.tracking, job.watched, job.limits["score_threshold"])

    def images(frames: Iterator["Frame"]) -> Iterator["np.ndarray"]:
        for frame in frames:
            waiting.append(frame)  # until its boxes are found
            yield frame.image

    with (
        VideoWriter(job.out / name, rate) if job.drawing else nullcontext() as writer,
        closing(ahead(read_video(path), FRAMES_AHEAD)) as decoded,
        closing(
            job.find_all(images(decoded), lambda number, image, found: found, **followed.limits)
        ) as futures,
    ):
        for future in track(futures, path.name, total):
            frame = waiting.popleft()
            found, seen = followed.update(future.result(), frame)
            _write_frame(writer, frame, found, followed)
            job.count(found)
            _add(sinks, path, name, found, frame, seen)
            counts.update(found.names)
            frames += 1
    prefix = f"{frames} frames, " + (f"{followed.text()}, " if followed.text() else "")
    _report(path, counts, job.out / name if job.drawing else None, prefix)


def _write_frame(
    writer: "VideoWriter | None", frame: "Frame", found: "Detections", followed: "Followed"
) -> None:
    from ssd.draw import draw

    if writer:
        image = draw(frame.image, found) if len(found) else frame.image
        writer.write(replace(frame, image=followed.draw(image)))


def _report(path: Path, counts: Counter, target: Path | None, prefix: str = "") -> None:
    found = ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "nothing"
    click.echo(f"{path}: {prefix}{found}" + (f" -> {target}" if target else ""))


if __name__ == "__main__":
    main()
