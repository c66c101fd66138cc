"""One run of `ssd detect`: boxes of every input found, drawn and written, in the order of the inputs.

Modules of videos, results and drawing are imported where they are needed, for the first picture should not
wait for them.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ssd.sources import is_video

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from ssd.detector import Detector
    from ssd.followed import Followed
    from ssd.media import Frame, VideoWriter
    from ssd.records import Detections
    from ssd.stop import Stop

FRAMES_AHEAD = 3  # decoded, waiting for the network


@dataclass
class Job:
    """One run: the detector with its limits, where the results go, and what it has counted."""

    detector: "Detector"
    limits: dict  # keywords of `Detector.find_all`: score_threshold, iou_threshold, max_detections
    classes: tuple[str, ...]  # only these; empty: all
    out: Path
    stop: "Stop"
    drawing: bool = True  # annotated copies
    save: tuple[str, ...] = ()  # kinds of result files, keys of `ssd.results.SINKS`
    tracking: bool = False
    watched: tuple = ((), ())  # points of lines and of zones
    say: Callable[[str], object] = print  # a line on each input
    complain: Callable[[str], object] = print  # a line on each that failed
    track: Callable[[Iterable, str, int | None], Iterable] = lambda items, text, total: items  # a bar
    images: int = 0
    boxes: Counter = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def process(self, targets: dict[Path, str]) -> int:
        """All inputs, each under the name of its copy, in order, until told to stop.

        Returns:
            how many of them failed; the others go on.
        Raises:
            OSError: a result file cannot be written at all.
        """
        failed = 0
        with ExitStack() as stack:
            sinks = _open_sinks(self.out, self.save, stack)
            for moving, some in groupby(targets.items(), lambda target: is_video(target[0])):
                for call in _videos(self, some, sinks) if moving else _images(self, list(some), sinks):
                    try:
                        call()
                    except (ValueError, OSError) as error:
                        failed += 1
                        self.complain(str(error))
        return failed

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

    def summary(self) -> str:
        """One line on everything."""
        seconds = time.monotonic() - self.started
        counts = ", ".join(f"{n} {name}" for name, n in self.boxes.most_common()) or "no boxes"
        rate = f"{self.images / seconds:.1f} images/s by {self.detector.network.about}"
        return f"{self.images} images, {counts}, {rate}"


def _open_sinks(out: Path, save: tuple, stack: ExitStack) -> list:
    if not save:
        return []
    from ssd.results import SINKS

    sinks = [SINKS[kind](out) for kind in dict.fromkeys(save)]
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def _images(job: Job, targets: list[tuple[Path, str]], sinks: list) -> Iterator[Callable]:
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


def _image(job: Job, path: Path, name: str, future: "Future", sinks: list) -> None:
    found, error = future.result()
    job.count(found)
    _add(sinks, path, name, found)
    if error:
        raise error
    _report(job, path, Counter(found.names), name)


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


def _videos(job: Job, targets: Iterable, sinks: list) -> Iterator[Callable]:
    for path, name in job.stop.before(targets):
        yield lambda path=path, name=name: _video(job, path, name, sinks)


def _video(job: Job, path: Path, name: str, sinks: list) -> None:
    """Three at once: a thread decodes, those of the network find, this one draws and encodes."""
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
        for future in job.track(futures, path.name, total):
            frame = waiting.popleft()
            found, seen = followed.update(future.result(), frame)
            _write_frame(writer, frame, found, followed)
            job.count(found)
            _add(sinks, path, name, found, frame, seen)
            counts.update(found.names)
            frames += 1
    prefix = f"{frames} frames, " + (f"{followed.text()}, " if followed.text() else "")
    _report(job, path, counts, name, prefix)


def _write_frame(
    writer: "VideoWriter | None", frame: "Frame", found: "Detections", followed: "Followed"
) -> None:
    from ssd.draw import draw

    if writer:
        image = draw(frame.image, found) if len(found) else frame.image
        writer.write(replace(frame, image=followed.draw(image)))


def _report(job: Job, path: Path, counts: Counter, name: str, prefix: str = "") -> None:
    found = ", ".join(f"{n} {label}" for label, n in sorted(counts.items())) or "nothing"
    job.say(f"{path}: {prefix}{found}" + (f" -> {job.out / name}" if job.drawing else ""))
