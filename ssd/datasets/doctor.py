"""The doctor: every fault of a data set named once, with file and remedy, and a mended copy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ssd.datasets.box_faults import ONE_BASED, mend_image, mend_order, mend_origin
from ssd.datasets.class_faults import mend_classes
from ssd.datasets.convert import write_data
from ssd.datasets.faults import ERROR, Fault
from ssd.datasets.labelled import ALL, LabelledImage
from ssd.datasets.photo_faults import mend_size, notes_of, unusable
from ssd.datasets.photos import PhotoFacts, find_twins, look_at
from ssd.datasets.read import find_format, read_images, split_names

# Splits that must share no photo. One that does stays in the split of higher worth, which scores.
SPLITS = ("test", "val", "valid", "train")


@dataclass
class Checkup:
    """What the doctor found.

    Args:
        faults: in the order of the checks.
        images: photos that were looked at; boxes likewise.
        owner: the one split of each photo that can be used.
        mended: its labels without faults.
    """

    faults: list[Fault] = field(default_factory=list)
    images: int = 0
    boxes: int = 0
    owner: dict[Path, str] = field(default_factory=dict)
    mended: dict[Path, LabelledImage] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """How many faults are errors."""
        return sum(fault.level == ERROR for fault in self.faults)


def check(
    data: Iterable[str | Path],
    splits: tuple[str, ...] = (),
    class_names: tuple[str, ...] = (),
    track: Callable | None = None,
) -> Checkup:
    """Examine labels and photos of data sets; nothing is written.

    Args:
        data: folders or files in any of the formats; twins are looked for across all of them.
        splits: unless told, train, val, valid and test, whichever exist, else all photos.
        class_names: all that may occur; unless told, only misspellings and numbers are found.
        track: shows progress: track(items, text, total).
    Raises:
        OSError, ValueError: a data set or split is missing or holds no image, or a file of all labels is
            damaged.
    """
    report, looked_at = Checkup(), []
    for root in map(Path, data):
        owners = _owners(root, splits or choose_splits(root), report)
        images = [image for _, image in owners]
        if not images:
            raise ValueError(f"a data set must hold images. Received: none in {root}")
        facts = look_at([image.path for image in images])
        facts = list(track(facts, f"reading {root.name}", len(images)) if track else facts)
        report.images += len(images)
        report.boxes += sum(len(image.objects) for image in images)
        for image in _examine(images, facts, find_format(root), class_names, report):
            report.mended[image.path] = image
        report.owner |= {image.path: split for split, image in owners}
        looked_at += [(split, image.path, fact) for (split, image), fact in zip(owners, facts, strict=True)]
        if not splits:
            report.faults += _unlisted(root, images)
    _tell_twins(looked_at, report)
    return report


def choose_splits(root: Path) -> tuple[str, ...]:
    """The splits that must share no photo: train, val, valid and test, else all photos together."""
    known = split_names(root)
    return tuple(name for name in SPLITS if name in known) or (ALL,)


def fix(report: Checkup, data: str | Path, out: str | Path) -> dict[str, int]:
    """Write a mended copy of the data set that was checked, in VOC layout; photos are copied as they are.

    What cannot be mended is left out; a photo in two splits stays in the one that scores.

    Returns:
        images of each split.
    Raises:
        OSError: `out` is there already, or cannot be written.
    """
    owned = set(report.owner.values())
    splits = {
        name: [i for i in report.mended.values() if report.owner[i.path] == name] for name in sorted(owned)
    }
    for name in split_names(data):
        if name not in splits:
            images = [report.mended[i.path] for i in read_images(data, name) if i.path in report.mended]
            splits |= {name: images} if images else {}
    write_data(out, "voc", splits)
    return {name: len(images) for name, images in splits.items()}


def _owners(root: Path, splits: tuple[str, ...], report: Checkup) -> list[tuple[str, LabelledImage]]:
    """Each photo once, with the split it belongs to; the first of `splits` that lists it."""
    found: dict[Path, tuple[str, LabelledImage]] = {}
    for split in splits:
        for image in read_images(root, split):
            owner = found.setdefault(image.path, (split, image))[0]
            if owner != split:
                text = f"the photo is on the lists of {owner} and {split}"
                report.faults.append(Fault("twin_across_splits", image.path, text))
            elif found[image.path][1] is not image:
                report.faults.append(Fault("twin", image.path, f"the photo is twice on the list of {split}"))
    return list(found.values())


def _examine(
    images: list[LabelledImage], facts: list[PhotoFacts], kind: str, class_names: tuple, report: Checkup
) -> list[LabelledImage]:
    """All checks but those between photos; the mended images."""
    usable, one_based = [], kind in ONE_BASED
    for image, fact in zip(images, facts, strict=True):
        fault, sized = unusable(image, fact), None
        if fault is None:
            fault, sized = mend_size(image, fact, kind)
        report.faults += [fault] if fault else []
        usable += [sized] if sized else []
    for mend in (mend_order, mend_origin):
        faults, usable = mend(usable, one_based)
        report.faults += faults
    faults, usable = mend_classes(usable, class_names)
    report.faults += faults
    mended = []
    for image in usable:
        faults, whole = mend_image(image, one_based)
        report.faults += faults
        mended.append(whole)
    told = {fault.file for fault in report.faults if fault.kind == "part_box"}
    report.faults += notes_of([image for image in images if image.source not in told])
    return mended


def _unlisted(root: Path, images: list[LabelledImage]) -> list[Fault]:
    listed = {image.path for image in images}
    for name in split_names(root):
        listed |= {image.path for image in read_images(root, name)}
    left = [image for image in read_images(root, ALL) if image.path not in listed]
    if not left:
        return []
    return [
        Fault("unlisted", left[0].source, f"{len(left)} labelled photos (first: this one) are in no split")
    ]


def _tell_twins(looked_at: list[tuple[str, Path, PhotoFacts]], report: Checkup) -> None:
    """Name photos that show the same, and leave exact twins out of the split that does not score."""
    worth = {name: place for place, name in enumerate(SPLITS)}
    # Better splits first, so that the later one of a pair is the one to leave out.
    rows = sorted(looked_at, key=lambda row: worth.get(row[0], len(SPLITS)))
    for first, second, exact in find_twins([fact for _, _, fact in rows]):
        (split, path, _), (other_split, other, _) = rows[first], rows[second]
        kind = ("twin" if exact else "near_twin") + ("_across_splits" if split != other_split else "")
        same = "is the same file as" if exact else "looks like"
        report.faults.append(Fault(kind, other, f"({other_split}) {same} {path.name} ({split})"))
        if exact:
            report.mended.pop(other, None)
