"""YOLO text: images/ and labels/ side by side, a .txt a photo, "class x y width height" a line.

The box is centre and size, divided by the photo's sides, as it is seen (EXIF rotation applied). Names
are in data.yaml (or another .yaml with `names`), classes.txt or obj.names. Sizes of photos are in
no file: they are read from the photos, which therefore must be there.
"""

from pathlib import Path

import numpy as np

from ssd.boxes import to_centres, to_corners
from ssd.datasets.labelled import ALL, LabelledImage, LabelledObject, inside, read_list, read_text
from ssd.images import IMAGE_SUFFIXES, read_size

MAX_YAML_BYTES = 1 << 20
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
SPLITS = ("train", "val", "valid", "test")
PHOTOS = Path("images")


def is_yolo(data: Path) -> bool:
    """Whether a path is a .yaml file, or a folder with one or with names and label files."""
    if data.is_file():
        return data.suffix.lower() in (".yaml", ".yml")
    return _yaml(data) is not None or any((data / name).is_file() for name in NAME_FILES)


def split_names(data: Path) -> tuple[str, ...]:
    """The splits that data.yaml names, else the folders or lists of photos that are there."""
    return tuple(_splits(data))


def read_images(data: Path, split: str) -> list[LabelledImage]:
    """The images of a split, or of all, sorted by path.

    Raises:
        OSError, ValueError: a file is missing, or names cannot be read.
    """
    splits, names = _splits(data), _names(data)
    wanted = [path for name in (splits if split == ALL else [split]) for path in splits[name]]
    root = _root(data)
    photos = [photo for path in wanted for photo in _photos(path, root)]
    return [_image(photo, root, names) for photo in dict.fromkeys(photos)]


def write_images(out: Path, splits: dict[str, list[LabelledImage]], photos: dict[Path, str]) -> None:
    """Write labels/, data.yaml and a list a split: the inverse of `read_images`; arguments as voc's.

    Splits may share photos, so each is a list of paths, as Darknet and Ultralytics read them too.
    Difficult and crowd have no place in this format and are lost.
    """
    import yaml

    names = sorted({o.name for images in splits.values() for image in images for o in image.objects})
    (out / "labels").mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        for image in images:
            lines = [_line(found, names, image) for found in image.objects]
            name = Path(photos[image.path]).with_suffix(".txt").name
            (out / "labels" / name).write_text("".join(lines), "utf-8")
        lines = "".join(f"./images/{photos[image.path]}\n" for image in images)
        (out / f"{split}.txt").write_text(lines, "utf-8")
    content = {split: f"{split}.txt" for split in splits} | {"names": dict(enumerate(names))}
    (out / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "utf-8")


def _line(found: LabelledObject, names: list[str], image: LabelledImage) -> str:
    sides = np.array([image.width, image.height] * 2, dtype=np.float64)
    box = to_centres(np.array([found.box_px], dtype=np.float64) / sides)[0]
    # 12 digits: corners in whole pixels come back whole.
    return " ".join([str(names.index(found.name)), *(f"{value:.12g}" for value in box)]) + "\n"


def _root(data: Path) -> Path:
    return data.parent if data.is_file() else data


def _yaml(data: Path) -> Path | None:
    """The .yaml file of a data set: data.yaml, or the only one that has `names`."""
    if data.is_file():
        return data
    files = [data / "data.yaml", data / "dataset.yaml", *sorted(data.glob("*.y*ml"))]
    return next(
        (file for file in files if file.is_file() and "names" in read_text(file, MAX_YAML_BYTES)), None
    )


def _content(data: Path) -> dict:
    file = _yaml(data)
    if file is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(read_text(file, MAX_YAML_BYTES))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            f"a data.yaml must be YAML. Received: {file} ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"a data.yaml must hold names and splits. Received: {file}")
    return content


def _names(data: Path) -> dict[int, str]:
    """Class number -> name."""
    names = _content(data).get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    rows = names.items() if isinstance(names, dict) else ()
    if rows and all(
        _plain(key, int, str) and str(key).isdecimal() and _plain(name, str, int, float) for key, name in rows
    ):
        return {int(key): str(name) for key, name in rows}
    if names is not None:
        raise ValueError(f"names must be a list of names or numbers with names. Received: {_yaml(data)}")
    for file in NAME_FILES:
        if (_root(data) / file).is_file():
            lines = read_text(_root(data) / file).splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip()))
    raise FileNotFoundError(f"YOLO labels need data.yaml or classes.txt for names. Received: {data}")


def _plain(value: object, *kinds: type) -> bool:
    """No list of lists of lists, whose text could fill the memory."""
    return isinstance(value, kinds)


def _splits(data: Path) -> dict[str, list[Path]]:
    """Split name -> folders or lists of its photos."""
    root, content = _root(data), _content(data)
    found = {}
    lists = [key for key, value in content.items() if isinstance(value, str) and value.endswith(".txt")]
    for key in dict.fromkeys([*SPLITS, *lists]):
        value = content.get(key)
        if value:
            values = value if isinstance(value, list) else [value]
            if not all(_plain(one, str) for one in (*values, content.get("path") or "")):
                raise ValueError(
                    f"a split must be a path or a list of paths. Received: {key} in {_yaml(data)}"
                )
            paths = [_resolve(root, content.get("path"), one, str(_yaml(data))) for one in values]
            found[key] = [path for path in paths if path is not None]
    if not any(found.values()):
        found = {
            name: [root / f]
            for name in SPLITS
            for f in (f"images/{name}", f"{name}/images", f"{name}.txt")
            if (root / f).exists()
        }
    found = {name: paths for name, paths in found.items() if paths}
    return found or {ALL: [root / "images" if (root / "images").is_dir() else root]}


def _resolve(root: Path, base: str | None, value: str, where: str) -> Path | None:
    """What an entry of data.yaml means, below the folder of that file; None if it is not there.

    `path` is the author's folder and seldom ours; Roboflow writes ../train/images for train/images.
    """
    while value.startswith("../"):
        value = value[3:]
    prefix = (base or "").strip("/")
    names = [value, f"{prefix}/{value}" if prefix and ".." not in prefix else value]
    paths = [inside(root, name, where) for name in names]
    return next((path for path in paths if path.exists()), None)


def _photos(path: Path, root: Path) -> list[Path]:
    if path.is_dir():
        return [p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [path]
    rows = [(i, line) for i, line in enumerate(read_list(path), start=1)]
    return [inside(root, line.removeprefix(f"{root}/"), f"{path}, line {i}") for i, line in rows]


def _label_file(photo: Path, root: Path) -> Path:
    """The .txt of a photo: in labels/ where its path has images/, else beside it."""
    parts = photo.relative_to(root).parts
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        return root.joinpath(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
    beside = photo.with_suffix(".txt")
    return beside if beside.is_file() else root / "labels" / beside.name


def _image(photo: Path, root: Path, names: dict[int, str]) -> LabelledImage:
    file = _label_file(photo, root)
    try:
        if not photo.is_file():
            raise FileNotFoundError(f"YOLO labels need the photo for its size. Received: none at {photo}")
        height, width = read_size(photo)
    except (OSError, ValueError) as error:
        return LabelledImage(photo.stem, photo, file, 0, 0, error=error)
    if not file.is_file():  # as YOLO has it: a photo without a label file shows nothing
        return LabelledImage(photo.stem, photo, file, height, width)
    try:
        lines = enumerate(read_text(file).splitlines(), start=1)
        objects = tuple(_object(line, i, file, names, height, width) for i, line in lines if line.strip())
    except (OSError, ValueError) as error:
        return LabelledImage(photo.stem, photo, file, height, width, error=error)
    return LabelledImage(photo.stem, photo, file, height, width, objects)


def _object(line: str, number: int, file: Path, names: dict, height: int, width: int) -> LabelledObject:
    """A box (a fifth number is a score) or the box around a polygon of three or more points."""
    words = line.split()
    try:
        label, values = int(words[0]), np.array([float(word) for word in words[1:]])
        if len(values) not in (4, 5) and (len(values) < 6 or len(values) % 2):
            raise ValueError
        if not np.isfinite(values).all():
            raise ValueError
    except ValueError:
        raise ValueError(
            "a YOLO line must be a class number and four numbers. "
            f"Received: {line[:80]!r} in {file}, line {number}"
        ) from None
    if len(values) > 5:
        points = values.reshape(-1, 2)
        box = np.concatenate([points.min(0), points.max(0)])
    else:
        box = to_corners(values[None, :4])[0]
    # A millionth of a pixel: whole pixels that were divided come back whole.
    box = np.round(box * np.array([width, height, width, height], np.float64), 6)
    return LabelledObject(names.get(label, f"class {label}"), tuple(box.tolist()), where=f"line {number}")
