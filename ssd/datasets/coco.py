"""COCO JSON: images, categories and annotations with boxes (x, y, width, height) in 0-based pixels.

A data set is one JSON file, or a folder with a file a split: `instances_train2017.json` in it or in
annotations/, `train/_annotations.coco.json` as Roboflow writes it, or `train.json`.
"""

import json
from collections import defaultdict
from pathlib import Path

from ssd.datasets.labelled import (
    ALL,
    MAX_JSON_BYTES,
    LabelledImage,
    LabelledObject,
    box_px,
    inside,
    read_text,
)

SPLIT_WORDS = ("train", "val", "valid", "test")  # found in names of files
PHOTOS = Path("images")


def is_coco(data: Path) -> bool:
    """Whether a path is a JSON file, or a folder with some that look like COCO's."""
    return data.suffix.lower() == ".json" if data.is_file() else bool(_files(data))


def split_names(data: Path) -> tuple[str, ...]:
    """Names of the splits, told from the names of the files."""
    return tuple(_files(data))


def read_images(data: Path, split: str) -> list[LabelledImage]:
    """The images of a split, or of all files, in their order.

    Raises:
        OSError, ValueError: the JSON is missing or damaged; the message names it.
    """
    files = _files(data)
    root = data.parent if data.is_file() else data
    if root.name == "annotations" and data.is_file():
        root = root.parent
    chosen = list(files.values()) if split == ALL else [files[split]]
    images = {image.path: image for file in dict.fromkeys(chosen) for image in _read(file, root)}
    return list(images.values())


def write_images(out: Path, splits: dict[str, list[LabelledImage]], photos: dict[Path, str]) -> None:
    """Write annotations/instances_SPLIT.json: the inverse of `read_images`; arguments as voc's."""
    names = sorted({o.name for images in splits.values() for image in images for o in image.objects})
    numbers = {name: number for number, name in enumerate(names, start=1)}
    stems = [Path(name).stem for name in photos.values()]
    whole = all(stem.isdecimal() and len(stem) < 19 for stem in stems) and len(set(map(int, stems))) == len(
        stems
    )
    # COCO's own files are named after their ids.
    keys = {
        path: int(stem) if whole else i for i, (path, stem) in enumerate(zip(photos, stems, strict=True), 1)
    }
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        rows = [(keys[image.path], o) for image in images for o in image.objects]
        content = {
            "images": [
                {"id": keys[i.path], "file_name": photos[i.path], "width": i.width, "height": i.height}
                for i in images
            ],
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
            "annotations": [_row(i, key, numbers[o.name], o) for i, (key, o) in enumerate(rows, start=1)],
        }
        path = out / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")


def _row(number: int, image: int, category: int, found: LabelledObject) -> dict:
    x_min, y_min, x_max, y_max = (_whole(value) for value in found.box_px)
    sides = _whole(x_max - x_min), _whole(y_max - y_min)
    row = {"id": number, "image_id": image, "category_id": category, "bbox": [x_min, y_min, *sides]}
    row |= {"area": sides[0] * sides[1] if found.area is None else found.area, "iscrowd": int(found.crowd)}
    # COCO has no such field; readers that do not know it pass over it.
    return row | ({"difficult": 1} if found.difficult else {})


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _files(data: Path) -> dict[str, Path]:
    """Split name -> file."""
    if data.is_file():
        return {_split_of(data.stem) or data.stem: data}
    files = [*sorted(data.glob("*.json")), *sorted(data.glob("annotations/*.json"))]
    files += sorted(data.glob("*/_annotations.coco.json"))
    found = {}
    for file in files:
        if file.stem.startswith(("captions", "person_keypoints", "stuff", "panoptic", "image_info")):
            continue
        name = file.parent.name if file.stem == "_annotations.coco" else _split_of(file.stem)
        if name:
            found.setdefault(name, file)
    return found


def _split_of(stem: str) -> str | None:
    words = stem.lower().replace("-", "_").replace(".", "_").split("_")
    for word in words[::-1]:
        plain = word.rstrip("0123456789")  # train2017
        if plain in (*SPLIT_WORDS, "trainval", "minival"):
            return plain
    return "".join(words[1:]) or None if words[0] == "instances" else None


def _read(file: Path, root: Path) -> list[LabelledImage]:
    try:
        data = json.loads(read_text(file, MAX_JSON_BYTES))
        images, rows = data["images"], data["annotations"]
        names = {row["id"]: str(row["name"]) for row in data["categories"]}
        grouped = defaultdict(list)
        for row in rows:
            grouped[row["image_id"]].append(row)
        known = {row["id"] for row in images}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"a COCO file must be JSON with images, annotations and categories. Received: {file} "
            f"({type(error).__name__}: {error})"
        ) from None
    if lost := set(grouped) - known:
        raise ValueError(
            f"an annotation must be of an image. Received: image_id {min(lost, key=str)} in {file}"
        )
    folders = _folders(file, root)
    return [_image(row, grouped.get(row["id"], []), names, file, folders) for row in images]


def _folders(file: Path, root: Path) -> list[Path]:
    """Where the photos may lie, the likeliest first."""
    names = [*SPLIT_WORDS, "trainval", *(f"{w}2017" for w in SPLIT_WORDS), *(f"{w}2014" for w in SPLIT_WORDS)]
    bases = [file.parent, root, root / "images", root / "JPEGImages", root / "data"]
    split = _split_of(file.stem) or ""
    ours = [name for name in names if split and name.startswith(split)]
    return [base for base in bases + [b / n for b in (root, root / "images") for n in ours] if base.is_dir()]


def _image(row: dict, rows: list, names: dict, file: Path, folders: list[Path]) -> LabelledImage:
    where = f"{file}, image {row.get('id')}"
    try:
        name = str(row["file_name"])
        paths = [inside(folder, name, where) for folder in folders]
        path = next((p for p in paths if p.is_file()), paths[0])
        # The folder that held this photo holds the next one, too.
        folders.insert(0, folders.pop(paths.index(path)))
        height, width = int(row.get("height", 0)), int(row.get("width", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = ValueError(f"an image must have file_name, width and height. Received: {where} ({error})")
        return LabelledImage(
            str(row.get("id")), Path(file.parent, f"?{row.get('id')}"), file, 0, 0, error=fault
        )
    try:
        objects = tuple(_object(one, names, file) for one in rows)
    except (ValueError, KeyError, TypeError) as error:
        fault = ValueError(f"an annotation must have category_id and bbox. Received: {where} ({error})")
        return LabelledImage(str(row["id"]), path, file, height, width, error=fault)
    return LabelledImage(str(row["id"]), path, file, height, width, objects)


def _object(row: dict, names: dict, file: Path) -> LabelledObject:
    where = f"annotation {row.get('id')}"
    x, y, width, height = box_px(row["bbox"], where)
    # A number that no category has stays visible as a class that nobody knows.
    name = names.get(row["category_id"], f"category {row['category_id']}")
    crowd, area = bool(row.get("iscrowd", 0)), row.get("area")
    difficult = bool(row.get("difficult", 0))
    area = float(area) if area is not None else None
    return LabelledObject(name, (x, y, x + width, y + height), difficult, crowd, area, where)
