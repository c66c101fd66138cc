"""The formats in which programs write detections, as rows: COCO results, VOC comp4 text, our own.

All of it is untrusted: sizes are limited, and every fault is named with its file and line.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ssd.datasets.labelled import MAX_JSON_BYTES, read_text

MAX_TEXT_BYTES = 1 << 30  # of a table; the 500,000 detections of COCO val2017 need 30 MB
OURS = ("detections.json", "detections.csv")
CSV_COLUMNS = ("source", "label", "score", "xmin", "ymin", "xmax", "ymax")


class Entry(NamedTuple):
    """The place of an entry in a JSON list; its line is looked up when a message needs it."""

    path: Path
    text: str
    key: str  # of the list, "" for the whole file
    number: int
    part: str = ""

    def __str__(self) -> str:
        try:
            start = self.text.index(f'"{self.key}"') if self.key else 0
            line = self.text.count("\n", 0, self._find(self.text.index("[", start) + 1)) + 1
        except (ValueError, IndexError):
            return f"{self.path}, entry {self.number}{self.part}"
        return f"{self.path}, line {line}, entry {self.number}{self.part}"

    def _find(self, place: int) -> int:
        decoder = json.JSONDecoder()
        for _ in range(self.number):
            place = decoder.raw_decode(self.text, self._skip(place))[1]
        return self._skip(place)

    def _skip(self, place: int) -> int:
        while self.text[place] in " \t\r\n,":
            place += 1
        return place


class Row(NamedTuple):
    """One detection as its file has it."""

    image: object  # id or path
    name: str  # of the class
    score: object
    box: Sequence  # x, y, width, height, or corners
    where: object  # file and line, for messages
    corners: bool = True


def read_rows(
    path: Path, class_names: Sequence[str], categories: Mapping[int, str], other_classes: bool
) -> Iterator[Row]:
    """The detections of a file or folder, one by one; what fits no class is left to the caller.

    Args:
        path: as `ssd.datasets.detections.read_detections` takes it.
        class_names: those that are scored; comp4 text has a file of each.
        categories: of COCO's category ids.
        other_classes: let a folder of comp4 text have files of other classes.
    Raises:
        OSError: a file is missing.
        ValueError: it is in no known format, or damaged.
    """
    if path.is_dir():
        ours = [path / name for name in OURS if (path / name).is_file()]
        if ours and not any(path.glob("*.txt")):
            return read_rows(ours[0], class_names, categories, other_classes)
        return _comp4_folder(path, class_names, other_classes)
    if not path.is_file():
        raise FileNotFoundError(f"detections must be a file or folder. Received: {path}")
    readers = {".json": _json_rows, ".jsonl": _json_lines, ".csv": _csv_rows, ".txt": _comp4_file}
    if path.suffix.lower() not in readers:
        raise ValueError(f"detections must be in one of {', '.join(readers)}. Received: {path}")
    return readers[path.suffix.lower()](path, class_names, categories)


def _comp4_folder(folder: Path, class_names: Sequence[str], other_classes: bool) -> Iterator[Row]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"a folder of detections must have a *_CLASS.txt a class. Received: {folder}")
    by_name: dict[str, Path] = {}
    for file in files:
        name = _class_of(file, class_names)
        if name is None and not other_classes:
            raise ValueError(
                f"the name of a class file must end in _CLASS.txt, CLASS one of {', '.join(class_names)} "
                f"(--classes takes some and leaves out others). Received: {file}"
            )
        if name in by_name:
            raise ValueError(f"a class must have one file. Received: {by_name[name]} and {file}")
        if name is not None:
            by_name[name] = file
    if missing := [name for name in class_names if name not in by_name]:
        raise FileNotFoundError(
            f"every class must have a file, if an empty one (--classes leaves out others). "
            f"Received: none for {', '.join(missing)}, which would be *_{missing[0]}.txt in {folder}"
        )
    for name in class_names:
        yield from _comp4_lines(by_name[name], name)


def _comp4_file(path: Path, class_names: Sequence[str], _: Mapping) -> Iterator[Row]:
    name = _class_of(path, class_names)
    if name is None or len(class_names) > 1:
        raise ValueError(
            "a single class file must be of the only class that is scored (--classes NAME). "
            f"Received: {path} for {', '.join(class_names)}"
        )
    return _comp4_lines(path, name)


def _class_of(file: Path, class_names: Sequence[str]) -> str | None:
    """The class of a file; the longest that its name ends with: light_red before red."""
    fits = [name for name in class_names if file.stem == name or file.stem.endswith(f"_{name}")]
    return max(fits, key=len) if fits else None


def _comp4_lines(file: Path, name: str) -> Iterator[Row]:
    """VOC's lines: image id, score, corners in 1-based inclusive pixels."""
    for number, line in enumerate(read_text(file, MAX_TEXT_BYTES).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        cells = line.strip().rsplit(None, 5)
        if len(cells) != 6:
            raise ValueError(
                f"a line must have 6 columns: image, score, xmin, ymin, xmax, ymax. "
                f"Received: {len(cells)} in {where}"
            )
        corners = finite(cells[2:], where)
        yield Row(cells[0], name, cells[1], (corners[0] - 1, corners[1] - 1, *corners[2:]), where)


def _json_rows(path: Path, _: Sequence, categories: Mapping) -> Iterator[Row]:
    try:
        text = read_text(path, MAX_JSON_BYTES)
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"detections must be readable JSON. Received: {path} ({error})") from None
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        return _coco_set(path, text, data, categories)
    if not isinstance(data, list):
        raise ValueError(
            "JSON of detections must be a list of COCO results, the detections.json of ssd detect, or a COCO "
            f"data set with scores. Received: {path}"
        )
    if data and isinstance(data[0], dict) and "detections" in data[0]:
        return _our_images((Entry(path, text, "", i), image) for i, image in enumerate(data))
    return _coco_results(path, text, "", data, categories)


def _coco_results(
    path: Path, text: str, key: str, rows: list, categories: Mapping, files: Mapping | None = None
) -> Iterator[Row]:
    for number, row in enumerate(rows):
        where = Entry(path, text, key, number)
        try:
            image, category, box, score = (row[k] for k in ("image_id", "category_id", "bbox", "score"))
            name = categories.get(category)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"a result must have image_id, category_id, bbox and score. Received: {error} in {where}"
            ) from None
        if name is None:
            raise ValueError(
                f"category_id must be of the data set. Received: {category!r}, known "
                f"{', '.join(f'{k} {v}' for k, v in list(categories.items())[:20])}, in {where}"
            )
        yield Row(image if files is None else files.get(image, image), name, score, box, where, corners=False)


def _coco_set(path: Path, text: str, data: dict, categories: Mapping) -> Iterator[Row]:
    """A data set whose annotations have scores, such as our detections.coco.json."""
    try:
        # Its own names and files come before the numbers of the truth, which may be others.
        own = {row["id"]: str(row["name"]) for row in data.get("categories", [])}
        files = {row["id"]: str(row["file_name"]) for row in data.get("images", []) if "file_name" in row}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"a COCO file must have categories and images with ids. Received: {path} ({error})"
        ) from None
    return _coco_results(path, text, "annotations", data["annotations"], own or categories, files)


def _json_lines(path: Path, *_: object) -> Iterator[Row]:
    """A video: a frame a line; images are told by NAME_FRAME, as `ssd detect --save voc` calls them."""

    def frames() -> Iterator[tuple[str, object]]:
        for number, line in enumerate(read_text(path, MAX_TEXT_BYTES).splitlines(), start=1):
            try:
                yield f"{path}, line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"a line must be JSON. Received: {path}, line {number} ({error})") from None

    return _our_images(frames(), of_video=True)


def _our_images(images: Iterator, of_video: bool = False) -> Iterator[Row]:
    for where, image in images:
        try:
            source, found = image["source"], image["detections"]
            rows = [(one["label"], one["score"], one["box_px"]) for one in found]
            if of_video:
                source = f"{PurePosixPath(source).stem}_{int(image['frame']):06d}"
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "an image must have source and detections with label, score and box_px. "
                f"Received: {error} in {where}"
            ) from None
        for place, (name, score, box) in enumerate(rows):
            part = f", detection {place}"
            where_part = where._replace(part=part) if isinstance(where, Entry) else f"{where}{part}"
            yield Row(source, name, score, box, where_part)


def _csv_rows(path: Path, *_: object) -> Iterator[Row]:
    table = csv.DictReader(io.StringIO(read_text(path, MAX_TEXT_BYTES)), strict=True)
    if missing := [name for name in CSV_COLUMNS if name not in (table.fieldnames or ())]:
        raise ValueError(f"a CSV of detections must have the column {missing[0]}. Received: {path}, line 1")
    try:
        for row in table:
            where = f"{path}, line {table.line_num}"
            if None in row or None in row.values():
                raise ValueError(
                    f"a row must have {len(table.fieldnames)} columns. Received: another count in {where}"
                )
            yield Row(row["source"], row["label"], row["score"], [row[k] for k in CSV_COLUMNS[3:]], where)
    except csv.Error as error:
        raise ValueError(
            f"a CSV must be readable. Received: {path}, line {table.line_num} ({error})"
        ) from None


def finite(
    values: Sequence, where: str, rule: str = "a box must have four finite numbers"
) -> tuple[float, ...]:
    """The values as floats.

    Raises:
        ValueError: one is no finite number; the message begins with the rule.
    """
    try:
        numbers = tuple(float(v) for v in values if not isinstance(v, bool))
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != len(values) or not all(map(math.isfinite, numbers)):
        shown = values[0] if len(values) == 1 else list(values)
        raise ValueError(f"{rule}. Received: {shown!r} in {where}")
    return numbers
