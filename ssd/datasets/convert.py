"""A data set in another layout, with its photos copied or linked."""

import os
import shutil
from pathlib import Path

from ssd.beside import replacing
from ssd.datasets.labelled import ALL, LabelledImage
from ssd.datasets.read import FORMATS, read_images, split_names


def convert(
    data: str | Path, to: str, out: str | Path, *, splits: tuple[str, ...] = (), link: bool = False
) -> dict[str, int]:
    """Write a data set in another layout.

    Boxes keep their pixels. YOLO keeps no difficult and no crowd; VOC writes crowd as difficult.

    Args:
        data: a folder or file in any of the formats.
        to: one of FORMATS.
        out: new folder.
        splits: only these; all that the data set knows unless told.
        link: link the photos, by absolute symbolic links, in place of copies.
    Returns:
        images of each split.
    Raises:
        OSError: something is missing, or `out` is there already.
        ValueError: an annotation is damaged.
    """
    chosen = {name: read_images(data, name) for name in splits or split_names(data) or (ALL,)}
    for image in (image for images in chosen.values() for image in images):
        if image.error:
            raise image.error
    write_data(out, to, chosen, link=link)
    return {name: len(images) for name, images in chosen.items()}


def write_data(
    out: str | Path, to: str, splits: dict[str, list[LabelledImage]], *, link: bool = False
) -> None:
    """Write photos and labels as a new data set, whole or not at all; arguments as `convert`."""
    out = Path(out)
    if to not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}. Received: {to!r}")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise FileExistsError(
            f"the new data set must be a new folder. Received: {out}, which is there already"
        )
    names = name_photos([image for images in splits.values() for image in images])
    with replacing(out) as beside:
        photos = beside / FORMATS[to].PHOTOS
        photos.mkdir(parents=True)
        for path, name in names.items():
            _place(path, photos / name, link)
        FORMATS[to].write_images(beside, splits, names)
        if out.exists():
            out.rmdir()


def name_photos(images: list[LabelledImage]) -> dict[Path, str]:
    """A name for each photo; where two would share a stem, the folder goes before or a number after."""
    names, taken = {}, set()
    for path in dict.fromkeys(image.path for image in images):
        stem = path.stem
        if stem.lower() in taken:
            stem = f"{path.parent.name}_{path.stem}"
        number = 2
        while stem.lower() in taken:
            stem, number = f"{path.parent.name}_{path.stem}_{number}", number + 1
        taken.add(stem.lower())
        names[path] = stem + path.suffix
    return names


def _place(path: Path, target: Path, link: bool) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"a photo must be there to be copied. Received: {path}")
    if link:
        os.symlink(path.resolve(), target)
    else:
        shutil.copyfile(path, target)
