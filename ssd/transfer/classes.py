"""Classes by name: which column of a trained head becomes which column of the new one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.spec import CLASS_LISTS, COCO_CLASSES, COCO_GAPS, VOC_CLASSES

# Each line: names of one thing. Case, spaces, hyphens and underscores never count.
SYNONYMS = (
    ("aeroplane", "airplane", "plane"),
    ("motorbike", "motorcycle"),
    ("bicycle", "bike"),
    ("car", "automobile"),
    ("sofa", "couch"),
    ("tvmonitor", "tv", "television"),
    ("diningtable", "dining table"),
    ("pottedplant", "potted plant", "houseplant"),
    ("person", "people", "human", "pedestrian"),
    ("cow", "cattle"),
    ("cellphone", "mobile phone"),
    ("donut", "doughnut"),
    ("hairdrier", "hair dryer"),
    ("refrigerator", "fridge"),
)
BACKGROUND = "__background__"
STARTS = ("mean", "random", "zeros")  # how a class that the file does not know begins
_HEAD_STD = 0.005  # of random kernels, as the model's own heads start


@dataclass(frozen=True)
class ClassMap:
    """For each column of the new head (background first) the column of the old one, -1 if new."""

    source: tuple[str | None, ...]  # None: a column that was never trained
    class_names: tuple[str, ...]
    columns: tuple[int, ...]
    start: str = "mean"
    seed: int = 0

    @property
    def new(self) -> tuple[str, ...]:
        """Classes that the file does not know."""
        return tuple(n for n, c in zip(self.class_names, self.columns[1:], strict=True) if c < 0)

    @property
    def is_identity(self) -> bool:
        """Whether the old head can be taken as it is."""
        return self.columns == tuple(range(len(self.source)))

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Kernel (..., anchors * old) or bias (anchors * old,) -> (..., anchors * new).

        Carried columns are copied. A new class starts as the mean of all old classes ("mean": an
        object of no kind), as small random numbers or as zeros.
        """
        old = array.reshape(*array.shape[:-1], -1, len(self.source))
        trained = [i for i, name in enumerate(self.source) if i and name is not None]
        out = np.empty((*old.shape[:-1], len(self.columns)), old.dtype)
        for j, column in enumerate(self.columns):
            if column >= 0:
                out[..., j] = old[..., column]
            elif self.start == "mean":
                out[..., j] = old[..., trained].mean(-1)
            elif self.start == "random" and array.ndim > 1:
                rng = np.random.default_rng((self.seed, j, *array.shape))
                out[..., j] = rng.normal(0, _HEAD_STD, old.shape[:-1])
            else:
                out[..., j] = 0
        return out.reshape(*array.shape[:-1], -1)


def map_classes(
    source: tuple[str | None, ...],
    class_names: tuple[str, ...],
    synonyms: Iterable[tuple[str, ...]] = (),
    start: str = "mean",
    seed: int = 0,
) -> ClassMap:
    """Find each wanted class among the columns of a trained head.

    Args:
        source: names of the old columns, background first; None for one without a class.
        class_names: wanted classes, without background.
        synonyms: groups of names of one thing, beside SYNONYMS.
        start: one of STARTS.
        seed: of random starts.
    Raises:
        ValueError: an unknown start, or two wanted classes are the same old one.
    """
    if start not in STARTS:
        raise ValueError(f"new classes must start as {', '.join(STARTS)}. Received: {start!r}")
    groups = [*SYNONYMS, *synonyms]
    # The name itself goes before its synonyms.
    keys = [(_key(name), column) for column, name in enumerate(source) if column and name is not None]
    exact, by_group = dict(keys), {}
    for key, column in keys:
        for other in _group(key, groups):
            by_group.setdefault(other, column)
    columns = [0]
    for name in class_names:
        key = _key(name)
        columns.append(exact.get(key, by_group.get(key, -1)))
        if columns[-1] >= 0 and columns[-1] in columns[:-1]:
            other = class_names[columns.index(columns[-1]) - 1]
            old = source[columns[-1]]
            raise ValueError(f"wanted classes must differ. Received: {other!r} and {name!r}, both {old!r}")
    return ClassMap(source, tuple(class_names), tuple(columns), start, seed)


def known_columns(count: int) -> tuple[str | None, ...] | None:
    """Columns of the published heads with so many outputs: VOC's 21, COCO's 81, torchvision's 91."""
    if count == 21:
        return (BACKGROUND, *VOC_CLASSES)
    if count == 81:
        return (BACKGROUND, *COCO_CLASSES)
    if count == 91:
        names = iter(COCO_CLASSES)
        return (BACKGROUND, *(None if i in COCO_GAPS else next(names) for i in range(1, 91)))
    return None


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names of "voc", "coco", "a,b" or a text file with a name a line.

    Raises:
        ValueError: no name, one twice, or background.
        FileNotFoundError: what can only be a file is not there.
    """
    if text.lower() in CLASS_LISTS:
        return CLASS_LISTS[text.lower()]
    if "," not in text and (text.endswith(".txt") or "/" in text or Path(text).is_file()):
        if not Path(text).is_file():
            raise FileNotFoundError(f"a file of class names must exist. Received: {text!r}")
        lines = _lines(text)
    else:
        lines = text.split(",")
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) != len(names):
        raise ValueError(f"class names must be unique and at least one. Received: {text!r}")
    if {name.lower() for name in names} & {"background", BACKGROUND}:
        raise ValueError(f"background is no class: it is always there. Received: {text!r}")
    return names


def read_synonyms(path: str | Path) -> tuple[tuple[str, ...], ...]:
    """Groups of a text file: a line a thing, its names with commas between; # begins a remark.

    Raises:
        ValueError: a line with less than two names.
    """
    groups = []
    for number, line in enumerate(_lines(path), start=1):
        names = tuple(n.strip() for n in line.split("#")[0].split(",") if n.strip())
        if len(names) == 1:
            raise ValueError(f"a line must hold two or more names. Received: {path} line {number}: {line!r}")
        if names:
            groups.append(names)
    return tuple(groups)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"names must be UTF-8 text. Received: {path} ({error})") from None


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c not in " -_")


def _group(key: str, groups: list[tuple[str, ...]]) -> set[str]:
    """All keys of the things that have this key among their names."""
    sets = [{_key(name) for name in group} for group in groups]
    return {key}.union(*(s for s in sets if key in s))
