"""ssd detect: images and videos in, annotated copies and result files out."""

import importlib
from pathlib import Path

import click

from ssd.cli import fail, names, run, say, track

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
    from ssd.job import Job
    from ssd.sources import find_sources, is_video
    from ssd.stop import stoppable
    from ssd.targets import choose_folder, name_targets, planned_names

    watched = run(_parse_watched, count_line, count_zone)
    if tracking := tracking or any(watched):
        run(importlib.import_module, "supervision")  # before the work of hours
    files, faults = find_sources(list(sources))
    for fault in faults:
        _complain(fault)
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
        job = Job(
            detector, limits, wanted, out, stop, drawing=not no_draw, save=save, tracking=tracking,
            watched=watched, say=say, complain=_complain, track=track,
        )  # fmt: skip
        failed = len(faults) + run(job.process, targets)
    say(job.summary())
    if stop.signal:
        click.echo("interrupted; what is written is complete as far as it goes", err=True)
        raise SystemExit(stop.status)
    if failed:
        click.echo(f"{failed} of the inputs failed", err=True)
        raise SystemExit(1)


def _complain(fault: str) -> None:
    click.echo(f"error: {fault}", err=True)


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


if __name__ == "__main__":
    main()
