"""ssd detect: images and videos in, annotated copies and result files out."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.cli import fail, names, run, track

if TYPE_CHECKING:
    import numpy as np

    from ssd.detector import Detector
    from ssd.records import Detections

SCORE = 0.5  # least score of a class for which the model has none: what looks good on a screen


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
) -> None:
    """Find objects in SOURCE...: any mix of image files, folders, globs and video files."""
    from ssd.detector import Detector
    from ssd.media import find_sources, is_video

    files, faults = find_sources(list(sources))
    for fault in faults:
        click.echo(f"error: {fault}", err=True)
    if not files:
        fail("nothing to do")
    detector = run(Detector.load, model, threads, many=len(files) > 1 or is_video(files[0]))
    wanted = names(classes)
    if unknown := set(wanted) - set(detector.class_names):
        raise click.UsageError(
            f"--classes must be of {', '.join(detector.class_names)}. Received: {', '.join(sorted(unknown))}"
        )
    score = detector.operating_point(SCORE) if score is None else score
    limits = {"score_threshold": score, "iou_threshold": iou, "max_detections": max_detections}
    targets = _name_targets(files)
    out = run(_choose_out, out, targets, _planned(targets, save, not no_draw), overwrite)
    job = _Job(detector, limits, wanted, out, not no_draw)
    faults += run(_process, job, targets, save)
    job.summary()
    if faults:
        click.echo(f"{len(faults)} of the inputs failed", err=True)
        raise SystemExit(1)


@dataclass
class _Job:
    """One run: the detector with its limits, and what it has counted."""

    detector: "Detector"
    limits: dict
    classes: tuple[str, ...]
    out: Path
    drawing: bool
    images: int = 0
    boxes: Counter = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def find_all(self, pictures: Iterable) -> Iterator[Callable]:
        """For each picture, in order, a call that returns it with the boxes of wanted classes, or raises."""
        for future in self.detector.find_all(pictures, **self.limits):
            yield lambda future=future: self._count(*future.result())

    def _count(self, image: "np.ndarray", found: "Detections") -> tuple:
        if self.classes:
            found = found[[name in self.classes for name in found.names]]
        self.images += 1
        self.boxes.update(found.names)
        return image, found

    def summary(self) -> None:
        """One line on everything."""
        seconds = time.monotonic() - self.started
        counts = ", ".join(f"{n} {name}" for name, n in self.boxes.most_common()) or "no boxes"
        click.echo(f"{self.images} images, {counts}, {self.images / seconds:.1f} images/s")


def _name_targets(files: list[Path]) -> dict[Path, str]:
    """The name of each annotated copy; a name that is taken in this run gets a number."""
    from ssd.images import IMAGE_SUFFIXES
    from ssd.media import H264_SUFFIXES, is_video

    taken, targets = set(), {}
    for path in files:
        suffix = path.suffix.lower()
        allowed, instead = (H264_SUFFIXES, ".mp4") if is_video(path) else (IMAGE_SUFFIXES - {".gif"}, ".png")
        stem, number = path.stem, 2
        while stem in taken:
            stem, number = f"{path.stem}_{number}", number + 1
        taken.add(stem)
        targets[path] = stem + (path.suffix if suffix in allowed else instead)
    return targets


SHARED_RESULTS = {
    "json": "detections.json",
    "csv": "detections.csv",
    "coco": "detections.coco.json",
    "voc": "voc",
    "yolo": "labels",
}


def _planned(targets: dict[Path, str], save: tuple, drawing: bool) -> list[str]:
    """Names of everything that the run will write."""
    from ssd.media import is_video

    names = list(targets.values()) if drawing else []
    if "json" in save:
        names += [f"{Path(name).stem}.jsonl" for path, name in targets.items() if is_video(path)]
    return names + [SHARED_RESULTS[kind] for kind in save]


def _choose_out(out: Path | None, targets: dict[Path, str], planned: list[str], overwrite: bool) -> Path:
    """The folder for the results; what is there is replaced only if told, and inputs never are."""
    inputs = {path.resolve() for path in targets}
    folders = [out] if out else [Path(f"detections{n}") for n in ("", *(f"-{i}" for i in range(2, 1000)))]
    for folder in folders:
        there = [folder / name for name in planned if (folder / name).exists()]
        if replaced := [path for path in there if path.resolve() in inputs]:
            if out is None:
                continue
            raise ValueError(
                f"results must not replace an input; choose another --out. Received: {replaced[0]}"
            )
        if overwrite or not there:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    raise ValueError(f"{there[0]} is there already: use --overwrite or another --out")


def _process(job: _Job, targets: dict[Path, str], save: tuple) -> list[str]:
    """All inputs, in order; a line for each that failed."""
    from ssd.media import is_video
    from ssd.results import SINKS

    sinks, faults = [SINKS[kind](job.out) for kind in save], []
    try:
        for moving, some in groupby(targets.items(), lambda target: is_video(target[0])):
            for call in _videos(job, some, sinks) if moving else _images(job, list(some), sinks):
                try:
                    call()
                except (ValueError, OSError) as error:
                    faults.append(str(error))
                    click.echo(f"error: {error}", err=True)
    finally:
        for sink in sinks:
            sink.close()
    return faults


def _images(job: _Job, targets: list[tuple[Path, str]], sinks: list) -> Iterator[Callable]:
    for (path, name), find in zip(targets, job.find_all(path for path, _ in targets), strict=True):
        yield lambda path=path, name=name, find=find: _image(job, path, name, find, sinks)


def _videos(job: _Job, targets: Iterable, sinks: list) -> Iterator[Callable]:
    for path, name in targets:
        yield lambda path=path, name=name: _video(job, path, name, sinks)


def _image(job: _Job, path: Path, name: str, find: Callable, sinks: list) -> None:
    from ssd.draw import draw
    from ssd.images import save_image
    from ssd.results import Result

    image, found = find()
    for sink in sinks:
        sink.add(Result(str(path), Path(name).stem, 0, 0.0, found))
    if job.drawing:
        save_image(job.out / name, draw(image, found))
    _report(path, Counter(found.names), job.out / name if job.drawing else None)


def _video(job: _Job, path: Path, name: str, sinks: list) -> None:
    from contextlib import ExitStack
    from itertools import tee

    from ssd.draw import draw
    from ssd.media import Frame, VideoWriter, read_video, video_length, video_rate
    from ssd.results import Result

    counts, frames = Counter(), 0
    total, rate = video_length(path), video_rate(path)
    with ExitStack() as stack:
        writer = stack.enter_context(VideoWriter(job.out / name, rate)) if job.drawing else None
        ours, theirs = tee(read_video(path))  # the network is a few frames ahead
        finds = job.find_all(frame.image for frame in theirs)
        for frame, find in track(zip(ours, finds, strict=True), path.name, total):
            image, found = find()
            for sink in sinks:
                sink.add(Result(str(path), Path(name).stem, frame.index, frame.time_s, found, of_video=True))
            if writer:
                writer.write(Frame(draw(image, found), frame.index, frame.time_s))
            counts.update(found.names)
            frames += 1
    _report(path, counts, job.out / name if job.drawing else None, f"{frames} frames, ")


def _report(path: Path, counts: Counter, target: Path | None, prefix: str = "") -> None:
    found = ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "nothing"
    click.echo(f"{path}: {prefix}{found}" + (f" -> {target}" if target else ""))


if __name__ == "__main__":
    main()
