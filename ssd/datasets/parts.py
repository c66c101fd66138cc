"""Splitting a data set: every class in every part, twins in one part."""

from collections import Counter
from pathlib import Path

import numpy as np

from ssd.beside import replace_text
from ssd.datasets.labelled import ALL, LabelledImage
from ssd.datasets.photos import find_twins, look_at
from ssd.datasets.read import lists_folder, read_images, split_names

HELD_OUT = "test"


def split_data(
    data: str | Path,
    parts: dict[str, float],
    *,
    pool: str = ALL,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, dict]:
    """Write lists of images that every reader here knows as splits: ImageSets/Main/PART.txt.

    Args:
        data: a folder or file in any of the formats.
        parts: share of the images of each part; they must sum to 1.
        pool: the split that is divided; all labelled photos unless told, but for those of a split "test"
            that is there and is not made anew.
        seed: of the order in which images are dealt.
        overwrite: replace lists of these names.
    Returns:
        of each part: its `images` and `boxes`, the latter by class.
    Raises:
        ValueError: the shares do not sum to 1, or an annotation is damaged.
        OSError: a split of that name is there already.
    """
    _check(parts)
    folder = lists_folder(data)
    if not overwrite and (there := [name for name in parts if name in split_names(data)]):
        raise FileExistsError(f"a split of that name is there already: {there[0]}; --overwrite replaces it")
    images = read_images(data, pool)
    if pool == ALL and HELD_OUT in split_names(data) and HELD_OUT not in parts:
        held = {image.path for image in read_images(data, HELD_OUT)}
        images = [image for image in images if image.path not in held]
    for image in images:
        if image.error:
            raise image.error
    if not images:
        raise ValueError(f"there must be images to divide. Received: none in {data}, split {pool!r}")
    owner = deal(images, group_twins(images), parts, seed)
    chosen = {
        part: [image for image, own in zip(images, owner, strict=True) if own == part] for part in parts
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, members in chosen.items():
        replace_text(folder / f"{part}.txt", "".join(f"{_line(image, data)}\n" for image in members))
    return {part: {"images": len(members), "boxes": _boxes(members)} for part, members in chosen.items()}


def group_twins(images: list[LabelledImage]) -> np.ndarray:
    """(N,) number of the group of each image; photos that show the same share one."""
    group = np.arange(len(images))
    for first, second, _ in find_twins(list(look_at([image.path for image in images]))):
        group[group == group[second]] = group[first]
    return group


def deal(images: list[LabelledImage], group: np.ndarray, parts: dict[str, float], seed: int) -> list[str]:
    """The part of each image: rare classes first, each to the part that lacks it most.

    Every part gets an image of a class as long as there are as many groups of it as parts.

    Args:
        images: to deal.
        group: (N,) images of one group stay together.
        parts: share of each part.
        seed: of the order of equals.
    Source: Sechidis et al. 2011, "On the Stratification of Multi-Label Data", section 3; here with a
    class counted by groups that hold it.
    """
    members = [np.flatnonzero(group == number) for number in np.unique(group)]
    members = [members[i] for i in np.random.default_rng(seed).permutation(len(members))]
    classes = [{o.name for i in rows for o in images[i].objects} for rows in members]
    frequency = Counter(name for names in classes for name in names)
    names = list(parts)
    share = np.array([parts[name] for name in names])
    lacking = {name: share * total for name, total in frequency.items()}
    room = share * len(images)
    owner = [""] * len(images)
    for name in [*sorted(frequency, key=lambda name: (frequency[name], name)), None]:
        for rows, held in zip(members, classes, strict=True):
            if owner[rows[0]] or (name is not None and name not in held):
                continue
            want = lacking[name] if name is not None else room
            # First a part without any, then the one that lacks most, then the one with most room.
            empty = share * frequency[name] - want < 0.5 if name is not None else np.zeros(len(share), bool)
            place = max(range(len(share)), key=lambda k: (empty[k], round(want[k], 6), room[k]))
            for i in rows:
                owner[i] = names[place]
            room[place] -= len(rows)
            for one in held:
                lacking[one][place] -= 1
    return owner


def _check(parts: dict[str, float]) -> None:
    if len(parts) < 2 or min(parts.values()) <= 0 or abs(sum(parts.values()) - 1) > 1e-6:
        raise ValueError(f"two or more parts must have shares that sum to 1. Received: {parts}")
    if wrong := [
        name for name in parts if name == ALL or not name.replace("_", "").replace("-", "").isalnum()
    ]:
        raise ValueError(
            f"a part must have a name of letters and digits, not {ALL!r}. Received: {wrong[0]!r}"
        )


def _line(image: LabelledImage, data: str | Path) -> str:
    """The id in a VOC folder, else the path below the data set, which is unique."""
    root = Path(data) if Path(data).is_dir() else Path(data).parent
    if root.joinpath("Annotations") == image.source.parent:
        return image.image_id
    return image.path.relative_to(root).as_posix() if image.path.is_relative_to(root) else image.path.name


def _boxes(images: list[LabelledImage]) -> dict[str, int]:
    return dict(sorted(Counter(found.name for image in images for found in image.objects).items()))
