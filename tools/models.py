"""ssd models: public weight files, listed, described and fetched."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssd.cli import run, track

if TYPE_CHECKING:
    from ssd.known import KnownFile

SHORT = ("name", "spec", "classes", "size", "licence", "score")


@click.group()
def main() -> None:
    """Public weight files: list them, describe one, fetch one."""


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON.")
def list_models(as_json: bool) -> None:
    """List the files that can be had by name; detectors come first."""
    from ssd.known import KNOWN

    if as_json:
        click.echo(json.dumps([asdict(file) for file in KNOWN.values()], indent=2))
        return
    rows = [SHORT, *(_row(file) for file in KNOWN.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@main.command()
@click.argument("name", metavar="NAME|FILE")
def show(name: str) -> None:
    """Show all that is known of NAME and whether it is here, or what FILE, a weight file, holds."""
    run(_show, name)


@main.command()
@click.argument("name", metavar="NAME|ADDRESS")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that holds the file: copy it from there.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for it; unless told, the cache, where other commands find it by its name.",
)
@click.option("--sha256", metavar="HEX", help="What its SHA-256 must be, or begin with.")
def fetch(name: str, source: Path | None, folder: Path | None, sha256: str | None) -> None:
    """Fetch NAME, or any file at an http(s) ADDRESS, check it and print its path."""
    click.echo(run(_fetch, name, source, folder, sha256))


def _row(file: "KnownFile") -> tuple[str, ...]:
    size = "" if file.size is None else f"{file.size / 1e6:.1f} MB"
    texts = (file.name, file.spec, file.classes, size, file.licence, file.score)
    return tuple(text or "-" for text in texts)


def _show(name: str) -> None:
    from ssd.known import KNOWN

    if name in KNOWN and not Path(name).is_file():
        _show_known(name)
    elif Path(name).exists() or Path(f"{name}.index").is_file():
        _show_file(Path(name))
    else:
        _show_known(name)


def _show_known(name: str) -> None:
    from ssd.known import cache_folder, check, find_known

    file = find_known(name)
    values = {key: "-" if value in (None, "") else value for key, value in asdict(file).items()}
    path = cache_folder() / file.file_name
    values["by_hand"] = "yes" if file.by_hand else "no"
    values["cached"] = f"no; its place is {path}"
    if path.is_file():
        try:
            check(path, file)
            values["cached"] = path
        except ValueError as error:
            values["cached"] = f"damaged: {error}"
    for key, value in values.items():
        click.echo(f"{key:<13}  {value}")


def _show_file(path: Path) -> None:
    from ssd.transfer.plan import Options, open_source

    file, origin = open_source(path, Options())
    with file:
        click.echo(f"{path}: {file.format}, {file.size:,} parameters")
        if origin is None:
            click.echo("a backbone: no heads")
        else:
            spec = origin.spec or "scales unknown"
            click.echo(f"a detector: {spec} ({origin.why}), {origin.outputs} outputs with background")
        click.echo(f"first convolution: {file.channel_order}{', kernels turned' if file.flipped else ''}")
        for note in file.notes:
            click.echo(f"note: {note}")
        for layer in file.layers:
            shapes = "  ".join(f"{t.role} {'x'.join(map(str, t.shape))}" for t in layer.tensors)
            known = f"  = {layer.canonical}" if layer.canonical not in (None, layer.name) else ""
            place = f"{layer.index:>4}" if file.ordered else "   -"
            click.echo(f"{place}  {layer.name}{known}  {shapes}".rstrip())


def _fetch(name: str, source: Path | None, folder: Path | None, sha256: str | None) -> Path:
    from ssd.known import fetch, find_known, from_address

    file = from_address(name) if "://" in name else find_known(name)
    if sha256:
        if file.sha256 and not sha256.lower().startswith(file.sha256):
            raise ValueError(f"--sha256 must begin with {file.sha256} for {name}. Received: {sha256}")
        file = replace(file, sha256=sha256.lower())
    return fetch(file, folder, source, say=lambda text: click.echo(text, err=True), track=track)


if __name__ == "__main__":
    main()
