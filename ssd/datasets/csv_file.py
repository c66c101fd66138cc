"""CSV of boxes, a row an object: filename,width,height,class,xmin,ymin,xmax,ymax.

Columns go by their names, in any order. Corners are VOC's, 1-based and inclusive, as the tables
that are made of VOC files have them. A photo without objects has one row with an empty class.
"""

import csv
import io
from pathlib import Path

from ssd.datasets.labelled import ALL, LabelledImage, LabelledObject, box_px, inside, read_text

# What a column is called -> ours. Lower case, without blanks and underscores.
_NAMES = {
    "filename": "filename image imageid imagename file path imagepath",
    "width": "width imagewidth w",
    "height": "height imageheight h",
    "class": "class label name classname category",
    "xmin": "xmin x1 left",
    "ymin": "ymin y1 top",
    "xmax": "xmax x2 right",
    "ymax": "ymax y2 bottom",
    "difficult": "difficult",
    "iscrowd": "iscrowd crowd",
}
COLUMNS = tuple(_NAMES)
PHOTOS = Path("images")
_NEEDED = ("filename", "class", "xmin", "ymin", "xmax", "ymax")


def is_csv(data: Path) -> bool:
    """Whether a path is a CSV file, or a folder with some that have these columns."""
    return data.suffix.lower() == ".csv" if data.is_file() else bool(_files(data))


def split_names(data: Path) -> tuple[str, ...]:
    """Names of the splits: those of the files, without _labels and the like."""
    return tuple(_files(data))


def read_images(data: Path, split: str) -> list[LabelledImage]:
    """The images of a split, or of all files, in the order of their first rows.

    Raises:
        OSError, ValueError: a file is missing or lacks a column; the message names it.
    """
    files = _files(data)
    root = data.parent if data.is_file() else data
    chosen = list(files.values()) if split == ALL else [files[split]]
    images = {image.path: image for file in chosen for image in _read(file, root)}
    return list(images.values())


def write_images(out: Path, splits: dict[str, list[LabelledImage]], photos: dict[Path, str]) -> None:
    """Write SPLIT.csv: the inverse of `read_images`; arguments as voc's."""
    for split, images in splits.items():
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for image in images:
            head = [photos[image.path], image.width, image.height]
            rows = [_cells(found) for found in image.objects] or [[""] * 7]
            table.writerows([*head, *row] for row in rows)
        (out / f"{split}.csv").write_text(text.getvalue(), "utf-8")


def _cells(found: LabelledObject) -> list:
    x_min, y_min, x_max, y_max = found.box_px
    corners = [f"{value:.10g}" for value in (x_min + 1, y_min + 1, x_max, y_max)]
    return [found.name, *corners, int(found.difficult), int(found.crowd)]


def _files(data: Path) -> dict[str, Path]:
    """Split name -> file."""
    paths = [data] if data.is_file() else sorted(data.glob("*.csv"))
    if data.is_dir():
        paths += sorted(data.glob("annotations/*.csv")) + sorted(data.glob("*/_annotations.csv"))
        paths = [path for path in paths if _has_columns(path)]
    found = {}
    for path in paths:
        name = path.parent.name if path.stem == "_annotations" else path.stem
        for end in ("_labels", "_annotations", "-labels", "_boxes"):
            name = name.removesuffix(end)
        found.setdefault(name, path)
    return found


def _has_columns(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        head = _head(next(csv.reader([file.readline(10_000)]), []))
    return set(_NEEDED) <= set(head)


def _head(cells: list[str]) -> list[str]:
    """Our names of the columns; "" for others."""
    known = {name: ours for ours, names in _NAMES.items() for name in names.split()}
    return [known.get(cell.strip().lower().replace("_", "").replace(" ", ""), "") for cell in cells]


def _read(file: Path, root: Path) -> list[LabelledImage]:
    text = read_text(file)
    first = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    head = _head(next(rows, []))
    if missing := [name for name in _NEEDED if name not in head]:
        raise ValueError(
            f"a CSV of boxes must have the column {missing[0]}. Received: {first.strip()!r} in {file}"
        )
    grouped: dict[str, list] = {}
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                row = dict(zip(head, (cell.strip() for cell in cells), strict=False))
                grouped.setdefault(row["filename"], []).append((rows.line_num, row))
    except csv.Error as error:
        raise ValueError(
            f"a CSV must be readable. Received: {file}, line {rows.line_num} ({error})"
        ) from None
    folders = [root, root / "images", root / "JPEGImages", root / file.stem.split("_")[0], file.parent]
    return [_image(name, group, file, [f for f in folders if f.is_dir()]) for name, group in grouped.items()]


def _image(name: str, group: list, file: Path, folders: list[Path]) -> LabelledImage:
    line, row = group[0]
    try:
        paths = [inside(folder, name, f"{file}, line {line}") for folder in folders]
        path = next((p for p in paths if p.is_file()), paths[0])
        height, width = (int(float(row.get(side) or 0)) for side in ("height", "width"))
        objects = tuple(_object(r, n, file) for n, r in group if r.get("class") or r.get("xmin"))
    except (ValueError, OverflowError) as error:
        fault = ValueError(f"a row must have a file, a class and four numbers. Received: {error} ({file})")
        return LabelledImage(Path(name).stem, file.parent / f"?{line}", file, 0, 0, error=fault)
    return LabelledImage(path.stem, path, file, height, width, objects)


def _object(row: dict, line: int, file: Path) -> LabelledObject:
    where = f"line {line}"
    if not row.get("class"):
        raise ValueError(f"no class in {where}")
    values = [row.get(key) for key in ("xmin", "ymin", "xmax", "ymax")]
    x_min, y_min, x_max, y_max = box_px(values, f"{file}, {where}")
    flags = [row.get(key) == "1" for key in ("difficult", "iscrowd")]
    return LabelledObject(row["class"], (x_min - 1, y_min - 1, x_max, y_max), *flags, where=where)
