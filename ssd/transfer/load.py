"""Put the weights of a file into a model, as a plan says; the model is touched only when all is checked."""

from collections.abc import Callable
from glob import escape
from pathlib import Path

from ssd.backend import keras
from ssd.card import ModelCard
from ssd.download import untracked
from ssd.known import resolve
from ssd.model import L2Normalize, build_model
from ssd.transfer.ledger import Ledger
from ssd.transfer.names import VGG, canonical_name
from ssd.transfer.pairs import Slot
from ssd.transfer.plan import (
    Options,
    Plan,
    arrays,
    make_plan,
    open_source,
    source_facts,
    verify,
    with_backbone,
)
from ssd.transfer.weightfile import WeightFile

# Names of ImageNet weights among the known files.
IMAGENET = {"vgg16": "vgg16-imagenet", "vgg16_bn": "vgg16-imagenet", "inception_v3": "inception_v3-imagenet"}
_ROLES = {"moving_mean": "mean", "moving_variance": "variance"}


def describe(model: keras.Model) -> list[Slot]:
    """The layers with weights of a detector, those inside its extractor in its place."""
    slots = []
    for index, layer in enumerate(model.layers):
        if isinstance(layer, keras.Model):
            counts = {"conv": 0, "bn": 0}
            for inner in (inner for inner in layer.layers if inner.weights):
                slots.append(
                    Slot(index, f"{layer.name}/{inner.name}", _shapes(inner), _inner_name(inner, counts))
                )
        elif layer.weights:
            slots.append(Slot(index, layer.name, _shapes(layer), canonical_name(layer.name)))
    return slots


def transfer(
    model: keras.Model,
    card: ModelCard,
    path: str | Path,
    options: Options = Options(),  # noqa: B008 - frozen
    backbone_weights: str | Path | None = None,
    seed: int = 0,
) -> Ledger:
    """Load the weights of a file into a model.

    Args:
        model: from `ssd.model.build_model`; untouched if this raises.
        card: of the model: spec, extractor, class names, preprocessing.
        path: a weight file of any known format.
        options: which tensor goes where.
        backbone_weights: a file for layers of the extractor that `path` does not fill.
        seed: of random starts of new classes.
    Returns:
        what became of every layer.
    Raises:
        ValueError: anything does not fit, or is damaged; named.
        OSError: a file is missing.
    """
    return _transfer(model, card, path, options, backbone_weights, seed, apply=True)


def rehearse(
    model: keras.Model,
    card: ModelCard,
    path: str | Path,
    options: Options = Options(),  # noqa: B008 - frozen
    backbone_weights: str | Path | None = None,
    seed: int = 0,
) -> Ledger:
    """All of `transfer` but the loading: the same ledger, the same errors, the model untouched."""
    return _transfer(model, card, path, options, backbone_weights, seed, apply=False)


def build_transferred(
    card: ModelCard,
    path: str | Path,
    options: Options,
    backbone_weights: str | Path | None = None,
    seed: int = 0,
    say: Callable = print,
    track: Callable = untracked,
    load: Callable = transfer,
) -> tuple[keras.Model, Ledger]:
    """Build the model of a card and transfer the weights of a file into it.

    Args:
        card: of the model.
        path: of the file.
        options: which tensor goes where.
        backbone_weights: a path or a known name; "random": none; None: ImageNet's, if the extractor is
            cut out of another network and `path` has no weights for it.
        seed: of layers that get no weights.
        say: told what goes on; without a network, that the extractor starts random.
        track: shows the progress of a download.
        load: `transfer`, or `rehearse` to load nothing.
    Raises:
        ValueError, OSError: as `transfer`; a given file cannot be had.
    """
    keras.utils.set_random_seed(seed)
    model = build_model(card.ssd_spec, len(card.class_names), card.backbone, card.cut)
    if backbone_weights == "random":
        weights = None
    elif backbone_weights is not None:
        weights = resolve(backbone_weights, say, track)
    else:
        weights = (
            imagenet_weights(card.backbone, say, track)
            if _leaves_extractor(model, card, path, options)
            else None
        )
    return model, load(model, card, path, options, weights, seed)


def imagenet_weights(backbone: str, say: Callable = print, track: Callable = untracked) -> Path | None:
    """The file of an extractor's ImageNet weights; None without a network, and `say` is told so.

    Raises:
        ValueError, OSError: the file is damaged or cannot be written.
    """
    try:
        return resolve(IMAGENET[backbone], say, track)
    except ConnectionError as error:
        say(f"warning: {error}")
        say("warning: the extractor starts RANDOM and will learn little; give --backbone-weights FILE")
        return None


def load_backbone(
    model: keras.Model,
    name: str,
    path: str | Path | None = None,
    choose: Callable[[WeightFile], list[Slot]] | None = None,
) -> list[str]:
    """Put weights into the extractor of a model, such as ImageNet's.

    Args:
        model: a detector, or any network with the layers of an extractor.
        name: its extractor.
        path: a weight file of any known format; None takes the known file of ImageNet weights, from
            the cache or the network.
        choose: open file -> the layers to fill; those of a detector's extractor unless given.
    Returns:
        names of the layers of `model` that got weights.
    Raises:
        ValueError: the file does not fit.
        OSError: the file is missing; ConnectionError: none was given and it cannot be fetched.
    """
    file, _ = open_source(resolve(IMAGENET[name]) if path is None else path, Options())
    with file:
        # Only the extractor of the card counts here.
        slots = choose(file) if choose else _backbone_slots(file, model)
        plan = _plan_backbone(file, slots, ModelCard("backbone", "ssd300", name, ("any",)))
        verify(plan)
        _apply(model, plan)
    return list(dict.fromkeys(move.slot.name.split("/")[0] for move in plan.moves))


def _transfer(
    model: keras.Model,
    card: ModelCard,
    path: str | Path,
    options: Options,
    backbone_weights: str | Path | None,
    seed: int,
    apply: bool,
) -> Ledger:
    file, origin = open_source(path, options)
    with file:
        plan = make_plan(file, origin, describe(model), card, options, seed)
        verify(plan)
        facts = {
            "spec": card.spec, "backbone": card.backbone, "cut": card.cut, "clip": card.ssd_spec.clip,
            "class_names": list(card.class_names), "parameters": model.count_params(),
        }  # fmt: skip
        if not backbone_weights:
            ledger = Ledger(source_facts(file), facts, plan.rows, plan.remarks)
            _apply_all(model, [plan] if apply else [])
            return ledger
        other, _ = open_source(backbone_weights, Options())
        with other:
            second = _plan_backbone(other, _backbone_slots(other, model), card)
            verify(second)
            left = sum(row.parameters for row in second.rows if row.action == "left")
            remarks = (*plan.remarks, *second.remarks)
            if left:
                remarks += (f"{left:,} parameters left in the backbone file: of layers that are not here",)
            rows = with_backbone(plan.rows, second.rows)
            ledger = Ledger(source_facts(file), facts, rows, remarks, source_facts(other))
            # The file goes before its backbone.
            _apply_all(model, [second, plan] if apply else [])
    return ledger


def _leaves_extractor(model: keras.Model, card: ModelCard, path: str | Path, options: Options) -> bool:
    """Whether a file has nothing for an extractor that is wrapped as a layer of its own."""
    slots = describe(model)
    if not any("/" in slot.name for slot in slots):
        return False
    file, origin = open_source(path, options)
    with file:
        plan = make_plan(file, origin, slots, card, options)
    return not any("/" in move.slot.name for move in plan.moves)


def _backbone_slots(file: WeightFile, model: keras.Model) -> list[Slot]:
    """The layers of the extractor, or the VGG16 part of an uncut detector."""
    slots = describe(model)
    inside = [slot for slot in slots if "/" in slot.name]
    own = {layer.canonical for layer in file.layers if layer.tensors}
    return inside or [
        slot
        for slot in slots
        if slot.name in VGG or (slot.name in own and slot.name.removesuffix("_bn") in (*VGG, "fc6", "fc7"))
    ]


def _plan_backbone(file: WeightFile, slots: list[Slot], card: ModelCard) -> Plan:
    """Only these layers, by name."""
    places = {slot.canonical for slot in slots}
    skip = tuple(escape(x.name) for x in file.layers if x.tensors and x.canonical not in places)
    lost = [x.name for x in file.layers if x.tensors and (x.canonical or "").removesuffix("_bn") in places]
    if lost := [name for name in lost if escape(name) in skip]:
        raise ValueError(
            f"backbone weights must fit {card.backbone}, without batch normalisation. "
            f"Received: {file.path} with {lost[0]}; remedy: --backbone vgg16_bn"
        )
    try:
        return make_plan(file, None, slots, card, Options(skip=skip))
    except ValueError as error:
        raise ValueError(f"backbone weights must fit {card.backbone}: {error}") from None


def _apply_all(model: keras.Model, plans: list[Plan]) -> None:
    for plan in plans:
        _apply(model, plan)


def _apply(model: keras.Model, plan: Plan) -> None:
    for slot, values in arrays(plan):
        layer = model
        for part in slot.name.split("/"):
            layer = layer.get_layer(part)
        for variable in layer.weights:
            variable.assign(values[_role(layer, variable)])


def _shapes(layer: keras.layers.Layer) -> dict[str, tuple[int, ...]]:
    return {_role(layer, variable): tuple(variable.shape) for variable in layer.weights}


def _role(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    if isinstance(layer, L2Normalize):
        return "scale"
    return _ROLES.get(variable.name, variable.name)


def _inner_name(layer: keras.layers.Layer, counts: dict[str, int]) -> str | None:
    """Canonical name inside an extractor: by name in VGG16, by order of its kind in InceptionV3."""
    known = canonical_name(layer.name)
    kinds = {keras.layers.Conv2D: "conv", keras.layers.BatchNormalization: "bn"}
    kind = kinds.get(type(layer))
    if known or kind is None:
        return known
    counts[kind] += 1
    return f"inception_v3/{kind}{counts[kind] - 1}"
