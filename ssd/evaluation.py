"""The whole evaluation of a split: VOC's, COCO's and all that the report shows, from one set of columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ssd.datasets import coco
from ssd.datasets.labelled import ALL, LabelledImage
from ssd.datasets.read import find_format, read_images
from ssd.metrics.bootstrap import intervals
from ssd.metrics.calibration import Bin, calibrate
from ssd.metrics.coco import SIZES, CocoRanking, coco_curves, rank_coco, score_coco
from ssd.metrics.confusion import confusion_matrix
from ssd.metrics.errors import Errors, find_errors
from ssd.metrics.matches import pack_matches
from ssd.metrics.operating import Point, operating_points
from ssd.metrics.tables import Found, Truth, truth_of_images
from ssd.metrics.voc import Ranking, rank_voc, score_voc

DEFAULT_SCORE = 0.5  # of the operating point where no threshold was chosen


@dataclass(frozen=True)
class Split:
    """Labelled images of one split, as read, with the classes to score."""

    data: Path
    name: str
    images: list[LabelledImage]
    class_names: tuple[str, ...]
    known_names: tuple[str, ...]  # all classes of the data set; none where a model brings its own
    category_names: Mapping[int, str] | None  # of COCO's ids; None: the data set is not COCO's

    @cached_property
    def truth(self) -> Truth:
        """Its columns."""
        return truth_of_images(self.images, self.class_names)


def open_split(
    data: str | Path, name: str, class_names: tuple[str, ...] = (), *, photos: bool = True
) -> Split:
    """Read a split of any layout.

    Args:
        data: a folder or file.
        name: of the split.
        class_names: the classes to score; all of the data set if empty: COCO's categories, or whatever
            occurs in any of its splits.
        photos: whether every photo must be there.
    Raises:
        OSError, ValueError: as `ssd.datasets.read.read_split`; no image in the split.
    """
    data = Path(data)
    images = read_images(data, name)
    if not images:
        raise ValueError(f"split must name images. Received: {name!r} of {data}, which is empty")
    for image in images:
        if photos and not image.path.is_file() and not isinstance(image.error, ValueError):
            raise FileNotFoundError(f"image {image.image_id} of split {name} is not in {image.path.parent}")
    categories = coco.read_categories(data, name) if find_format(data) == "coco" else None
    known = tuple(dict.fromkeys((categories or {}).values()))
    if not known and not (class_names and photos):  # a model knows its own
        known = _all_classes(data, images)
    return Split(data, name, images, tuple(class_names) or known, known, categories)


def _all_classes(data: Path, images: list[LabelledImage]) -> tuple[str, ...]:
    names = {found.name for image in [*images, *read_images(data, ALL)] for found in image.objects}
    return tuple(sorted(names))


@dataclass(frozen=True)
class Evaluation:
    """Detections held against the truth of a split; each property is computed when asked for.

    Args:
        truth: the true boxes.
        found: the detections.
        iou_threshold: least overlap of a hit, by VOC's rules.
        thresholds: class name -> score of the operating point; DEFAULT_SCORE for classes without.
    """

    truth: Truth
    found: Found
    iou_threshold: float = 0.5
    thresholds: Mapping[str, float] | None = None

    @cached_property
    def voc(self) -> list[Ranking]:
        """A ranking a class by VOC's rules."""
        return rank_voc(self.truth, self.found, self.iou_threshold)

    @cached_property
    def coco(self) -> list[CocoRanking]:
        """A ranking a class by COCO's rules."""
        return rank_coco(self.truth, self.found)

    @cached_property
    def scores(self) -> dict:
        """{"voc07": {"mAP", "AP": {class: value}}, "voc10": the same, "coco": the twelve numbers}."""
        return score_voc(self.voc, self.truth.class_names) | {"coco": score_coco(self.coco)}

    def intervals(self, resamples: int) -> dict | None:
        """95 % intervals in the shape of the scores; None of no resamples."""
        if not resamples:
            return None
        return intervals(self.voc, self.coco, self.truth.class_names, resamples)

    def matches(self) -> dict:
        """What a comparison needs."""
        return pack_matches(self.voc, self.coco)

    @cached_property
    def errors(self) -> Errors:
        """Where average precision is lost."""
        return find_errors(self.truth, self.found, self.voc, self.iou_threshold)

    @property
    def confusion(self) -> np.ndarray:
        """(C + 1, C + 1), at the operating point."""
        return confusion_matrix(self.truth, self.passed, self.iou_threshold)

    @property
    def calibration(self) -> tuple[list[Bin], float | None]:
        """The reliability curve, and the expected calibration error."""
        return calibrate(self.voc)

    def operating_points(self, target: float, least: float = 0.0) -> list[Point]:
        """A threshold a class, `least` or more, that reaches a precision."""
        return operating_points(self.voc, target, least)

    @property
    def limits(self) -> np.ndarray:
        """(C,) score of the operating point."""
        chosen = self.thresholds or {}
        return np.array([chosen.get(name, DEFAULT_SCORE) for name in self.truth.class_names])

    @cached_property
    def passed(self) -> Found:
        """The detections at the operating point."""
        if not len(self.found):
            return self.found
        return self.found[self.found.scores >= self.limits[self.found.labels]]

    def by_size(self) -> dict[str, dict[str, float | None]]:
        """Class -> size -> COCO's AP, and the mean of the classes under "all classes"."""
        precision, _ = coco_curves(self.coco)
        names = [*self.truth.class_names, "all classes"]
        return {
            name: {
                size: _mean(precision[:, :, c : c + 1, a] if c < len(names) - 1 else precision[..., a])
                for a, size in enumerate(SIZES)
            }
            for c, name in enumerate(names)
        }


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if len(known) else None
