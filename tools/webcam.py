"""ssd webcam: boxes on a camera, a stream or a clip, live."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.cli import fail, names, run, say

if TYPE_CHECKING:
    from ssd.live import Live
    from ssd.stop import Stop

SCORE = 0.5  # least score of a class for which the model has none: what looks good on a screen


@click.command()
@click.argument("source", default="0", metavar="[SOURCE]")
@click.option(
    "--model", default="default", show_default=True, help="Name of a shipped model, or a model folder."
)
@click.option(
    "--score",
    type=click.FloatRange(0, 1),
    help="Least score of a box; unless told, the model's own for each class, if it has them, else 0.5.",
)
@click.option("--iou", type=click.FloatRange(0, 1), default=0.45, show_default=True, help="Largest overlap.")
@click.option(
    "--max", "max_detections", type=click.IntRange(1), default=200, show_default=True, help="Most boxes."
)
@click.option("--classes", help="Only these classes: a,b.")
@click.option("--track", "tracking", is_flag=True, help="Give objects ids that stay with them.")
@click.option("--count-line", multiple=True, metavar="X1,Y1,X2,Y2", help="Count what crosses; repeatable.")
@click.option(
    "--count-zone", multiple=True, metavar="X1,Y1,X2,Y2,...", help="Count what is inside; repeatable."
)
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Write the drawn video here.")
@click.option(
    "--save",
    multiple=True,
    type=click.Choice(["jsonl", "csv", "voc", "coco", "yolo"]),
    help="Also write the boxes in this format; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results and saved pictures; detections unless told.",
)
@click.option("--overwrite", is_flag=True, help="Replace results of an earlier run.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds; without end unless told.")
@click.option("--no-window", is_flag=True, help="Show nothing; needs no display.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the network; all cores unless told.")
def main(
    source: str,
    model: str,
    score: float | None,
    iou: float,
    max_detections: int,
    classes: str | None,
    tracking: bool,
    count_line: tuple,
    count_zone: tuple,
    record: Path | None,
    save: tuple,
    out: Path | None,
    overwrite: bool,
    duration: float | None,
    no_window: bool,
    threads: int | None,
) -> None:
    """Find objects in SOURCE, live: a camera's number (0), a video file, or an address (rtsp://, http://).

    Always the newest frame. Keys in the window: space pauses, s saves a picture, + and - change the
    threshold, q quits.
    """
    with ExitStack() as stack:
        run(_watch, stack, **{**click.get_current_context().params})


def _watch(stack: ExitStack, source: str, model: str, **options: object) -> None:
    """Open everything, cheapest refusals first, and look until the end."""
    from ssd.capture import Capture
    from ssd.counting import Counts, parse_points
    from ssd.live import Live
    from ssd.stop import stoppable

    lines, zones = ([parse_points(t) for t in options[k]] for k in ("count_line", "count_zone"))
    counts = Counts(lines, zones)
    _check_record(options["record"], options["overwrite"])
    window = None if options["no_window"] else stack.enter_context(_window(source))
    capture = Capture(source, lambda text: click.echo(text, err=True))
    detector = _load(model, options["threads"])
    wanted = _wanted(options["classes"], detector.class_names)
    score = detector.operating_point(SCORE) if options["score"] is None else options["score"]
    limits = {"iou_threshold": options["iou"], "max_detections": options["max_detections"]}
    tracking = options["tracking"] or bool(lines or zones)
    live = Live(capture, detector, score, limits, classes=wanted, tracking=tracking, counts=counts)
    folder, sinks = _open_sinks(source, options, stack)
    name = _name(source)
    live.warm_up()
    with capture, stoppable() as stop:
        views = _shown(live, window, folder, stop, options["duration"])
        _write(views, capture.rate, options["record"], sinks, source, name)
    say(f"{source}: {live.tally.text()}" + (f"; {counts.text()}" if counts.text() else ""))
    if options["record"] and options["record"].exists():
        say(f"recorded {options['record']}")
    if stop.signal:
        raise SystemExit(stop.status)


def _window(source: str):
    from ssd.window import Window

    return Window(f"ssd webcam {source}")


def _load(model: str, threads: int | None):
    from ssd.detector import Detector

    return Detector.load(model, threads)


def _wanted(classes: str | None, known: tuple) -> tuple[str, ...]:
    wanted = names(classes)
    if unknown := set(wanted) - set(known):
        fail(f"--classes must be of {', '.join(known)}. Received: {', '.join(sorted(unknown))}", 2)
    return wanted


def _check_record(path: Path | None, overwrite: bool) -> None:
    from ssd.targets import H264_SUFFIXES

    if path and path.suffix.lower() not in H264_SUFFIXES:
        raise ValueError(f"--record must end in {', '.join(sorted(H264_SUFFIXES))}. Received: {path}")
    if path and path.exists() and not overwrite:
        raise ValueError(f"{path} is there already: use --overwrite or another --record")


def _name(source: str) -> str:
    """A file's stem for results: the clip's own, camera0, or stream."""
    from ssd.capture import is_stream

    return "stream" if is_stream(source) else f"camera{source}" if source.isdecimal() else Path(source).stem


def _open_sinks(source: str, options: dict, stack: ExitStack) -> tuple[Path, list]:
    """The folder for results, made if any are wanted, and what writes them."""
    from ssd.results import SINKS
    from ssd.targets import SHARED_RESULTS, choose_folder

    kinds = ["json" if kind == "jsonl" else kind for kind in dict.fromkeys(options["save"])]
    if not kinds:
        return options["out"] or Path("detections"), []
    planned = [f"{_name(source)}.jsonl" if kind == "json" else SHARED_RESULTS[kind] for kind in kinds]
    folder = choose_folder(options["out"], {}, planned, options["overwrite"])
    sinks = [SINKS[kind](folder) for kind in kinds]
    for sink in sinks:
        stack.callback(sink.close)
    return folder, sinks


def _shown(live: "Live", window: object, folder: Path, stop: "Stop", duration: float | None):
    """The views, put up in the window; ends with a key, a signal or the time."""
    end = time.monotonic() + duration if duration else float("inf")
    view = None
    for new in live.views(lambda: bool(stop.signal) or time.monotonic() >= end):
        view = new or view
        if window and new:
            window.show(new.picture)
        for key in window.keys() if window else ():
            answer = live.press(key, view, folder)
            if answer == "quit":
                return
            if answer:
                say(answer)
        if new:
            yield new


def _write(views: object, rate: object, record: Path | None, sinks: list, source: str, name: str) -> None:
    from ssd.live import as_frame
    from ssd.media import VideoWriter
    from ssd.results import Result

    start = None
    with VideoWriter(record, rate) if record else ExitStack() as writer:
        for view in views:
            start = view.frame.time_s if start is None else start
            if record:
                writer.write(as_frame(view, start))
            for sink in sinks:
                frame = view.frame
                sink.add(Result(source, name, frame.index, frame.time_s, view.found, True, view.counts))


if __name__ == "__main__":
    main()
