"""ssd report: a run folder in, its page out."""

from pathlib import Path

import click

from ssd.cli import run, say


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The page; RUN/report.html unless told."
)
def main(folder: Path, out: Path | None) -> None:
    """Make the page of the training in RUN again, or for the first time, from the files in it.

    It shows curves, stages, average precision a class, the worst validation photos, data and settings,
    and is one HTML file that needs nothing else.
    """
    say(f"report: {run(_write, folder, out)}")


def _write(folder: Path, out: Path | None) -> Path:
    from ssd.classify import report as classification
    from ssd.report import write_report

    write = classification.write_report if classification.is_classifier(folder) else write_report
    return write(folder, out)


if __name__ == "__main__":
    main()
