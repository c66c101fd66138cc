"""The installed command `ssd`: it finds each sub-command in tools/NAME.py and imports no other."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from ssd.stop import polite_kill, was_interrupted

# What `ssd --help` says of each, so that it need not import them.
COMMANDS = {
    "bench": "Measure what detection costs on this CPU, against other runtimes and the machine's limits.",
    "classify": "Train the network under the detector by itself, on folders of pictures.",
    "data": "Check, measure, convert, split and crop labelled photos.",
    "detect": "Find objects in images and videos and draw their boxes.",
    "evaluate": "Score a model, or detections of any program, by the rules of PASCAL VOC and COCO.",
    "export": "Compile a trained checkpoint into a model for detection.",
    "models": "List public weight files and fetch them.",
    "transfer": "Put the weights of another file or network into an SSD300, with a ledger.",
    "report": "Make the page of a training again from its run folder.",
    "serve": "A page in the browser and an API for programs.",
    "train": "Train a detector on your own labelled photos, in stages.",
    "webcam": "Find objects live in a camera, a stream or a clip.",
}
# Which extra brings a package; train brings all others.
EXTRAS = {"supervision": "track", "pygame": "live"} | dict.fromkeys(
    ("fastapi", "uvicorn", "prometheus_client", "multipart", "python_multipart"), "serve"
)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"ssd.tools.{name}").main

    def invoke(self, ctx: click.Context) -> object:
        return run(super().invoke, ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ssd", prog_name="ssd")
def main() -> None:
    """SSD300 object detection on a plain CPU."""


def run(call: Callable, *args: object, **options: object) -> object:
    """Call a library function; what it refuses becomes one line and exit status 1.

    A missing package names the extra that brings it; Ctrl-C and SIGTERM end with status 130, and at once: a
    thread that prepares pictures in C++ would abort the process if it saw Python end.
    """
    try:
        with polite_kill():
            return call(*args, **options)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        _write_to_nobody()
        sys.exit(1)
    except Exception as error:
        if was_interrupted():
            _end_interrupted()
        if not isinstance(error, ValueError | OSError | ImportError):
            raise
        text = str(error)
        if isinstance(error, ModuleNotFoundError):
            extra = EXTRAS.get((error.name or "").partition(".")[0], "train")
            text = f"this command needs {error.name}: pip install '.[{extra}]'"
        fail(text)
    except KeyboardInterrupt:
        _end_interrupted()


def _end_interrupted() -> None:
    click.echo("interrupted", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)


def say(text: str) -> None:
    """A line on standard output. Where its reader, such as head, is gone, the work goes on all the same."""
    try:
        click.echo(text)
    except BrokenPipeError:
        _write_to_nobody()


def _write_to_nobody() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(text: str, status: int = 1) -> None:
    """End with one line on standard error."""
    click.echo(f"error: {' '.join(text.split())}", err=True)
    sys.exit(status)


def names(text: str | None) -> tuple[str, ...]:
    """The parts of "a,b"."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def numbers(text: str) -> list[float]:
    """The numbers of "5e-4,1e-4". Raises click.BadParameter."""
    try:
        return [float(part) for part in names(text)]
    except ValueError:
        raise click.BadParameter(f"must be numbers, comma between. Received: {text!r}") from None


def told(options: Iterable[str]) -> set[str]:
    """Which of these options of the running command stood on the command line, defaults left out."""
    source = click.get_current_context().get_parameter_source
    return {key for key in options if source(key) is click.core.ParameterSource.COMMANDLINE}


def absolute(name_or_path: str | None) -> str | None:
    """The whole path of a file or folder that is there, for a run may go on from another folder.

    Any other name, "random" and None stay as they are.
    """
    there = name_or_path not in (None, "", "random") and Path(name_or_path).exists()
    return str(Path(name_or_path).resolve()) if there else name_or_path


def track(items: Iterable, text: str, total: int | None = None) -> Iterator:
    """Show a bar with the time left on standard error while items pass."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, text, total, console=Console(stderr=True), transient=True)
