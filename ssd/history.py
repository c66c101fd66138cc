"""The history of a run: a row an epoch, in history.csv, and the columns most asked for in history.tsv."""

import csv
from pathlib import Path

from ssd.beside import replacing

# Columns that tell how long it took; all others are the same whenever a run is done again.
TIMES = ("seconds", "seconds_a_step", "images_per_s")
TSV = ("epoch", "stage", "loss", "acc", "val_loss", "val_acc", "val_mAP")
AP = "AP_"  # and the name of a class: its VOC07 average precision on the validation split
_TEXT = ("stage",)


def read_rows(folder: str | Path) -> list[dict[str, str]]:
    """The rows of history.csv as they stand there; none if there is no such file.

    Raises:
        ValueError: it is no CSV file whose rows number their epochs.
    """
    path = Path(folder) / "history.csv"
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        # A row that is too long has its rest under None, one that is too short has None for a value.
        if any(not row["epoch"].isdecimal() or None in row or None in row.values() for row in rows):
            raise ValueError("an epoch without its number, or a row of another length")
    except (csv.Error, KeyError, AttributeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"history.csv must have a row an epoch. Received: {path} ({error})") from None
    return rows


def read_history(folder: str | Path, first: int = 0, last: int | None = None) -> list[dict]:
    """The history of the epochs after `first` up to `last`, numbers as numbers, None where empty.

    Raises:
        ValueError: the file is damaged.
    """
    rows = [row for row in read_rows(folder) if first < int(row["epoch"])]
    rows = [row for row in rows if last is None or int(row["epoch"]) <= last]
    return [{key: _value(key, text, folder) for key, text in row.items()} for row in rows]


def write_history(folder: str | Path, rows: list[dict], short: tuple[str, ...] = TSV) -> None:
    """Write both files, each beside its name and renamed; AP_ columns come last, `short` go into the TSV."""
    names = list(dict.fromkeys(key for row in rows[::-1] for key in row))
    names.sort(key=lambda name: name.startswith(AP))
    _write(Path(folder) / "history.csv", names, rows, "excel")
    _write(Path(folder) / "history.tsv", list(short), rows, "excel-tab")


def best_row(rows: list[dict], score: str = "val_mAP") -> dict:
    """The first row of the highest score: its checkpoint is the best."""
    return max(rows, key=lambda row: float(row[score]))


def class_scores(row: dict) -> dict:
    """AP of each class of a row."""
    return {key.removeprefix(AP): value for key, value in row.items() if key.startswith(AP)}


def _write(path: Path, names: list[str], rows: list[dict], dialect: str) -> None:
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", dialect=dialect)
        writer.writeheader()
        writer.writerows(rows)


def _value(key: str, text: str, folder: str | Path) -> str | float | int | None:
    if key in _TEXT:
        return text
    try:
        return (int(text) if text.isdecimal() else float(text)) if text else None
    except ValueError:
        raise ValueError(
            f"{key} in history.csv must be a number. Received: {text!r} in {folder}/history.csv"
        ) from None
