"""The card that travels with every weight file: what a model is and how it must be fed."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ssd.spec import PREPROCESSING, Preprocessing, SSDSpec, get_spec

CARD_NAME = "card.json"


@dataclass(frozen=True)
class ModelCard:
    """Everything that is needed to use a weight file rightly, as plain data.

    Raises:
        ValueError: an unknown spec or extractor, or class names that are empty or not unique.
    """

    name: str
    spec: str
    backbone: str
    class_names: tuple[str, ...]  # in the order of the logits; background is not one
    cut: str | None = None
    clip: str | None = None  # of the anchors; None: the spec's own
    preprocessing: Preprocessing | None = None  # None: the extractor's own
    score_threshold: float = 0.01
    iou_threshold: float = 0.45
    max_detections: int = 200
    thresholds: dict[str, float] = field(default_factory=dict)  # class -> least score; see ssd evaluate
    precision: str = "f32"
    sha256: dict[str, str] = field(default_factory=dict)  # file name -> hash
    scores: dict = field(default_factory=dict)  # measured: what, on which data
    notes: dict = field(default_factory=dict)  # data, command, licence, date

    def __post_init__(self) -> None:
        get_spec(self.spec, self.clip)
        if self.backbone not in PREPROCESSING:
            known = ", ".join(PREPROCESSING)
            raise ValueError(f"backbone must be one of {known}. Received: {self.backbone!r}")
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be unique. Received: {list(self.class_names)}")
        for name, value in dict(self.thresholds).items():
            if name not in self.class_names or not 0 <= float(value) <= 1:
                raise ValueError(
                    f"thresholds must be of {', '.join(self.class_names)} and in [0, 1]. "
                    f"Received: {name} {value}"
                )
        if self.preprocessing is None:
            object.__setattr__(self, "preprocessing", PREPROCESSING[self.backbone])

    @property
    def ssd_spec(self) -> SSDSpec:
        """The spec itself."""
        return get_spec(self.spec, self.clip)


def card_to_json(card: ModelCard) -> str:
    """The text of a card: the inverse of `card_from_json`."""
    return json.dumps(asdict(card), indent=2) + "\n"


def card_from_json(text: str, where: str = "the given text") -> ModelCard:
    """Read the text of a card; `where` names it in errors.

    Raises:
        ValueError: it is no JSON object, or a field is missing, unknown or wrong.
    """
    try:
        values = json.loads(text)
        values["preprocessing"] = _preprocessing(values.get("preprocessing"))
        unknown = set(values) - {f.name for f in fields(ModelCard)}
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return ModelCard(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a model card must be valid. Received: {where} ({error})") from None


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _preprocessing(values: dict | None) -> Preprocessing | None:
    if values is None:
        return None
    mean = tuple(float(v) for v in values["mean"])
    if len(mean) != 3 or values["channel_order"] not in ("RGB", "BGR"):
        raise ValueError(f"preprocessing must have three means and RGB or BGR: {values}")
    return Preprocessing(values["channel_order"], mean, float(values["scale"]))
