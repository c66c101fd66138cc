"""A classifier as plain data: its network, and the little lists that its flags are written in."""

import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, replace

from ssd.spec import PREPROCESSING, Preprocessing

# Where the extractor of a classifier ends unless told.
LAST = {"vgg16": "pool5", "vgg16_bn": "pool5", "inception_v3": "mixed10"}
# Pictures of a VGG16 that starts from random weights without normalisation are brought to about unit
# scale: the rms of a centred picture is about 64 grey levels. Each extractor's own scale else.
SCRATCH_SCALE = 1 / 64
HIDDEN = ("fc6", "fc7")  # of the top, in Caffe's names
OUTPUT = "fc8"
_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")
# Word of a list -> the form of what follows.
_INPUT_FORMS = {
    "noise": (re.compile(rf"({_NUMBER})"), "noise:0.01"),
    "upsample": (re.compile(r"(\d+)"), "upsample:2"),
    "resize": (_SIZE, "resize:224x224"),
    "conv": (re.compile(r"(\d+)x(\d+)x(\d+)"), "conv:3x3x16"),
}
LEAST_CHANNELS = 6  # of a convolution that can start as identity: x is relu(x) - relu(-x), three times


@dataclass(frozen=True)
class Network:
    """What a classifier is built from, as plain data.

    Raises:
        ValueError: a field has a value that it cannot have.
    """

    backbone: str = "vgg16"  # of ssd.backbones; "vgg16_bn": normalised behind every convolution
    cut: str | None = None  # last layer of the extractor; None: LAST
    image_size: tuple[int, int] = (224, 224)  # height and width of the pictures it is fed
    input_stage: str = ""  # layers in front of the extractor: "noise:0.01,upsample:2"
    top: str = "flatten:256"  # "flatten" or "gap", and the units of up to two hidden layers
    dropout: float = 0.5  # behind each of them
    output: str = "softmax"  # or "sigmoid": one output for two classes
    scale: float | None = None  # of the preprocessing; None: the extractor's own

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(int(side) for side in self.image_size))
        if self.backbone not in LAST:
            raise ValueError(f"backbone must be one of {', '.join(LAST)}. Received: {self.backbone!r}")
        if len(self.image_size) != 2 or not all(1 <= side <= 4096 for side in self.image_size):
            raise ValueError(f"image size must be 1 to 4096 pixels. Received: {self.image_size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a share from 0 to below 1. Received: {self.dropout}")
        if self.output not in ("softmax", "sigmoid"):
            raise ValueError(f"output must be softmax or sigmoid. Received: {self.output!r}")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be above 0. Received: {self.scale}")
        parse_input_stage(self.input_stage)
        parse_top(self.top)

    @property
    def last(self) -> str:
        """Name of the last layer of the extractor."""
        return self.cut or LAST[self.backbone]

    @property
    def preprocessing(self) -> Preprocessing:
        """What a picture goes through before the network."""
        own = PREPROCESSING[self.backbone]
        return replace(own, scale=self.scale) if self.scale else own

    def outputs(self, class_names: tuple[str, ...]) -> int:
        """Numbers that come out. Raises ValueError: sigmoid with other than two classes."""
        if self.output == "sigmoid" and len(class_names) != 2:
            raise ValueError(f"sigmoid must have 2 classes. Received: {len(class_names)}")
        return 1 if self.output == "sigmoid" else len(class_names)


@dataclass(frozen=True)
class ClassifierCard:
    """What travels with the weights of a classifier, as plain data."""

    name: str
    network: Network
    class_names: tuple[str, ...]  # in the order of the outputs
    scores: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.network, dict):
            object.__setattr__(self, "network", Network(**self.network))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if len(self.class_names) < 2 or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be two or more, unique. Received: {list(self.class_names)}")
        self.network.outputs(self.class_names)


def card_to_json(card: ClassifierCard) -> str:
    """The text of a card: the inverse of `card_from_json`."""
    return json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n"


def card_from_json(text: str, where: str) -> ClassifierCard:
    """Read the text of a card; `where` names it in errors. Raises ValueError: it is none."""
    try:
        values = json.loads(text)
        if unknown := set(values) - {f.name for f in fields(ClassifierCard)}:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return ClassifierCard(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"the card of a classifier must be valid. Received: {where} ({error})") from None


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "224" or "160x224". Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"a size must look like 224 or 160x224, height first. Received: {text!r}")
    return int(found[1]), int(found[2] or found[1])


def parse_input_stage(text: str) -> tuple[tuple[str, tuple], ...]:
    """Kinds and numbers of the layers of "noise:0.01,upsample:2,resize:HxW,conv:3x3x16".

    Raises:
        ValueError: a word that there is none of, or a number that it cannot have.
    """
    parsed = []
    for part in [part.strip() for part in text.split(",") if part.strip()]:
        kind, _, value = part.partition(":")
        form, example = _INPUT_FORMS.get(kind, (None, ""))
        found = form.fullmatch(value) if form else None
        if not found:
            known = example or ", ".join(example for _, example in _INPUT_FORMS.values())
            raise ValueError(f"an input stage must be made of {known}. Received: {part!r} in {text!r}")
        numbers = parse_size(value) if kind == "resize" else tuple(float(n) for n in found.groups())
        _check_numbers(kind, numbers, part)
        parsed.append((kind, numbers))
    return tuple(parsed)


def parse_top(text: str) -> tuple[str, tuple[int, ...]]:
    """How a map becomes a vector, and the units of the hidden layers, of "flatten:256" or "gap:512,256".

    Raises:
        ValueError: anything else, or more than two hidden layers.
    """
    pool, _, rest = text.partition(":")
    units = [unit.strip() for unit in rest.split(",") if unit.strip()]
    good = pool in ("flatten", "gap") and all(unit.isdecimal() and 0 < int(unit) <= 65536 for unit in units)
    if not good or len(units) > len(HIDDEN):
        raise ValueError(
            f"a top must look like flatten:256, flatten:4096,4096, gap or gap:256. Received: {text!r}"
        )
    return pool, tuple(int(unit) for unit in units)


def parse_augment(text: str) -> dict[str, float]:
    """What is done to training pictures: {"mirror": 1, "shift": 0.1} of "mirror,shift:0.1"; none of "none".

    Raises:
        ValueError: a word that there is none of.
    """
    done = {}
    for part in [part.strip() for part in text.split(",") if part.strip() not in ("", "none")]:
        kind, _, value = part.partition(":")
        if part == "mirror":
            done["mirror"] = 1.0
        elif kind == "shift" and re.fullmatch(_NUMBER, value) and 0 < float(value) <= 0.5:
            done["shift"] = float(value)
        else:
            raise ValueError(
                f"augment must be made of mirror and shift:0.1 (a share of the side up to 0.5), or none. "
                f"Received: {part!r} in {text!r}"
            )
    return done


def _check_numbers(kind: str, numbers: tuple, part: str) -> None:
    if kind == "noise" and numbers[0] > 1:
        raise ValueError(f"noise must be a share of the grey range, 0 to 1. Received: {part!r}")
    if kind != "noise" and min(numbers) < 1:
        raise ValueError(f"an input stage must have numbers above 0. Received: {part!r}")
    if kind in ("upsample", "resize") and max(numbers) > (64 if kind == "upsample" else 4096):
        raise ValueError(f"an input stage must make pictures of at most 4096 pixels. Received: {part!r}")
    if kind == "conv" and (numbers[2] < LEAST_CHANNELS or numbers[0] % 2 == 0 or numbers[1] % 2 == 0):
        raise ValueError(
            f"conv of an input stage must have odd sides and {LEAST_CHANNELS} channels or more, to start as "
            f"identity. Received: {part!r}"
        )
