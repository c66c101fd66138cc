"""Faults of class names: unknown ones, and ones that are another name misspelt."""

from collections import Counter
from dataclasses import replace

from ssd.datasets.faults import Fault
from ssd.datasets.labelled import LabelledImage
from ssd.spec import CLASS_LISTS

RARER = 5  # a misspelling is at most this part as frequent as the right name
_PLACEHOLDERS = ("class ", "category ")  # a number without a name, as the readers of YOLO and COCO say it


def mend_classes(
    images: list[LabelledImage], class_names: tuple[str, ...] = ()
) -> tuple[list[Fault], list[LabelledImage]]:
    """Find wrong class names, each told once with the number of its boxes and the first file.

    Args:
        images: of a whole data set.
        class_names: all that may occur; unless told, a rare name that is nearly a far more frequent
            one is misspelt.
    Returns:
        the faults, and the images with misspelt names put right and unknown ones left out.
    """
    counts = Counter(found.name for image in images for found in image.objects)
    faults, new_names = [], {}
    for name, count in sorted(counts.items()):
        if name in class_names:
            continue
        right = _nearest(name, class_names) if class_names else _frequent_twin(name, counts)
        unknown = bool(class_names) or name.startswith(_PLACEHOLDERS)
        if right is None and not unknown:
            continue
        new_names[name] = right
        first = next(image for image in images if any(found.name == name for found in image.objects))
        where = next(found.where for found in first.objects if found.name == name)
        text = f"class {name!r} of {count} boxes (first: {where})"
        kind = "misspelt_class" if right else "unknown_class"
        faults.append(
            Fault(kind, first.source, f"{text} should be {right!r}" if right else f"{text} is not known")
        )
    return faults, [_renamed(image, new_names) for image in images] if new_names else images


def edit_distance(a: str, b: str) -> int:
    """Least number of letters to insert, delete, replace or exchange with the next to turn a into b."""
    before, row = [], list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        older, before, row = before, row, [i]
        for j, other in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                row[j] = min(row[j], older[j - 2] + 1)
    return row[-1]


def _renamed(image: LabelledImage, new_names: dict[str, str | None]) -> LabelledImage:
    kept = [found for found in image.objects if new_names.get(found.name, found.name)]
    return replace(
        image, objects=tuple(replace(found, name=new_names.get(found.name) or found.name) for found in kept)
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _near(name: str, other: str) -> bool:
    """Equal but for case and signs, or for one letter, two in long names; digits count as they are."""
    a, b = _plain(name), _plain(other)
    if a == b:
        return True
    shorter = min(len(a), len(b))
    numbers = ["".join(filter(str.isdigit, text)) for text in (a, b)]
    if shorter < 4 or numbers[0] != numbers[1]:
        return False
    return edit_distance(a, b) <= (1 if shorter < 7 else 2)


def _nearest(name: str, class_names: tuple[str, ...]) -> str | None:
    near = [other for other in class_names if _near(name, other)]
    return min(near, key=lambda other: edit_distance(_plain(name), _plain(other))) if near else None


def _frequent_twin(name: str, counts: Counter) -> str | None:
    real = {known for names in CLASS_LISTS.values() for known in names}  # boat and goat are both real
    for other, count in counts.most_common():
        same = _plain(name) == _plain(other) and count > counts[name]
        rare = count >= RARER * counts[name] and name not in real
        if other != name and (same or (rare and _near(name, other))):
            return other
    return None
