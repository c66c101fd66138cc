"""The plan of a transfer: which tensor goes where and how, checked before anything is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from ssd.card import ModelCard
from ssd.spec import SPECS
from ssd.transfer.classes import ClassMap, map_classes, parse_classes, read_synonyms
from ssd.transfer.convert import Conversion, conversions, convert, converted_shape
from ssd.transfer.generation import Origin, check_generation, read_origin
from ssd.transfer.ledger import Row
from ssd.transfer.names import HEADS, VGG
from ssd.transfer.pairs import Pairs, Slot, find_pairs
from ssd.transfer.read import open_weights
from ssd.transfer.weightfile import Layer, Tensor, WeightFile

_SHOWN = 3  # misfits in an error


@dataclass(frozen=True)
class Options:
    """What a user can say of a transfer, as plain data; each field is a flag of `ssd transfer`."""

    by: tuple[str, ...] = ()  # "name", "order"; name unless an offset is given
    offset: int | str | None = None  # file index - model index; "auto" finds it
    first: str | None = None  # --from
    last: str | None = None  # --to
    skip: tuple[str, ...] = ()  # patterns of layer names
    source_classes: str | None = None  # of the file: "voc", "coco", "a,b" or a text file
    synonyms: str | None = None  # a text file
    new_classes: str = "mean"  # or "random", "zeros"
    source_spec: str | None = None
    source_clip: str | None = None  # of the anchors that its heads were trained with
    channel_order: str | None = None  # of the file: "RGB" or "BGR"
    written_by: str | None = None  # "theano" or "tensorflow"

    def __post_init__(self) -> None:
        for key in ("by", "skip"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if self.channel_order not in (None, "RGB", "BGR"):
            raise ValueError(f"--channel-order must be RGB or BGR. Received: {self.channel_order!r}")
        if self.written_by not in (None, "theano", "tensorflow"):
            raise ValueError(f"--written-by must be theano or tensorflow. Received: {self.written_by!r}")
        if self.source_spec not in (None, *SPECS):
            raise ValueError(
                f"--source-spec must be one of {', '.join(SPECS)}. Received: {self.source_spec!r}"
            )


@dataclass(frozen=True)
class Move:
    """A layer of the file on its way to a slot: role -> the tensor and what happens to it."""

    layer: Layer
    slot: Slot
    tensors: dict[str, tuple[Tensor, list[Conversion]]]


@dataclass(frozen=True)
class Plan:
    """What goes where, whole and checked.

    Args:
        file: still open.
        moves: in the order of the model.
        rows: of the ledger; every layer of the file with weights and every slot stands in one.
        remarks: texts for the ledger.
    """

    file: WeightFile
    moves: tuple[Move, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]


def open_source(path: str | Path, options: Options) -> tuple[WeightFile, Origin | None]:
    """Open a weight file as the user describes it, and read what its heads say.

    Raises:
        ValueError: as `open_weights` and `read_origin`.
        OSError: there is no such file.
    """
    file = open_weights(path)
    try:
        if options.channel_order:
            file.channel_order = options.channel_order
            file.notes += (f"channels taken as {options.channel_order}, as told",)
        if options.written_by:
            file.flipped = options.written_by == "theano"
            file.notes += (f"kernels taken as {options.written_by} writes them, as told",)
        names = parse_classes(options.source_classes) if options.source_classes else None
        return file, read_origin(file, options.source_spec, names)
    except BaseException:
        file.close()
        raise


def make_plan(
    file: WeightFile,
    origin: Origin | None,
    slots: list[Slot],
    card: ModelCard,
    options: Options,
    seed: int = 0,
) -> Plan:
    """Plan a transfer; nothing is read but what the shapes need.

    Args:
        file: from `open_source`.
        origin: from there too.
        slots: layers with weights of the model.
        card: of the model.
        options: what the user asked for.
        seed: of random starts of new classes.
    Raises:
        ValueError: anything that was asked for does not fit, named with both shapes; a slot would stay
            empty without being asked for; a crossed generation.
    """
    classes = _class_map(file, origin, card.class_names, options, seed)

    def move(layer: Layer, slot: Slot) -> Move | str:
        return _move(file, layer, slot, card.preprocessing.channel_order, classes)

    def fits(layer: Layer, slot: Slot) -> bool:
        return isinstance(move(layer, slot), Move)

    found = find_pairs(
        file, slots, fits, options.by, options.offset, options.first, options.last, options.skip
    )
    remarks = [*file.notes, *found.remarks]
    if origin:
        remarks += check_generation(origin, card.spec, {layer.canonical for layer, _ in found.pairs})
        remarks += _class_remarks(origin, classes, found)
    tried = [move(layer, slot) for layer, slot in found.pairs]
    moves = [m for m in tried if isinstance(m, Move)]
    misfits = [*found.misfits, *(text for text in tried if isinstance(text, str))]
    empty = _empty_slots(slots, {m.slot.name for m in moves}, found, backbone_only=origin is None)
    if not misfits:
        misfits = [
            f"layer {name} (index {next(s.index for s in slots if s.name == name)}) of the model gets "
            "no weights"
            for name, why in empty.items()
            if why is None
        ]
    if not moves and not misfits:
        misfits = ["no layer of the file goes anywhere"]
    if misfits:
        more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise ValueError(f"every layer must find its place. Received: {file.path}: "
                         f"{'; '.join(misfits[:_SHOWN])}{more}")  # fmt: skip
    rows = _rows(file, slots, moves, found, empty, classes)
    return Plan(file, tuple(moves), tuple(rows), tuple(remarks))


def arrays(plan: Plan) -> Iterator[tuple[Slot, dict[str, np.ndarray]]]:
    """Each slot with its arrays by role, float32, one layer in memory at a time.

    Raises:
        ValueError: a tensor is damaged or not finite.
    """
    for move in plan.moves:
        yield move.slot, {role: convert(*pair) for role, pair in move.tensors.items()}


def verify(plan: Plan) -> None:
    """Read every tensor that is to be taken once. Raises ValueError as `arrays`."""
    for _ in arrays(plan):
        pass


def source_facts(file: WeightFile) -> dict:
    """What a ledger says of a file; the hash of several files is that of all in a row."""
    digest = sha256()
    for path in file.files or (file.path,):
        with open(path, "rb") as part:
            while data := part.read(1 << 20):
                digest.update(data)
    return {
        "file": file.path.name,
        "format": file.format,
        "sha256": digest.hexdigest(),
        "parameters": file.size,
    }


def _class_map(
    file: WeightFile, origin: Origin | None, class_names: tuple[str, ...], options: Options, seed: int
) -> ClassMap | None:
    if origin is None:
        return None
    if origin.columns is None:
        raise ValueError(
            f"the classes of the file must be known: --source-classes. Received: {file.path} with heads of "
            f"{origin.outputs} outputs, background and {origin.outputs - 1} classes"
        )
    synonyms = read_synonyms(options.synonyms) if options.synonyms else ()
    return map_classes(origin.columns, class_names, synonyms, options.new_classes, seed)


def _move(
    file: WeightFile, layer: Layer, slot: Slot, channel_order: str, classes: ClassMap | None
) -> Move | str:
    """A layer's way to a slot, or the text of why it does not fit."""
    roles = {tensor.role: tensor for tensor in layer.tensors}
    where = f"layer {layer.name} (index {layer.index}) does not fit {slot.name} (index {slot.index})"
    if set(roles) != set(slot.shapes):
        return f"{where}: the file has {_and(roles)}, the model {_and(slot.shapes)}"
    tensors = {}
    for role, shape in slot.shapes.items():
        tensor = roles[role]
        steps = conversions(file, tensor, layer.canonical, shape, channel_order, classes)
        found = converted_shape(tensor.shape, steps)
        if found != shape:
            now = f", which becomes {found}" if found not in (None, tensor.shape) else ""
            return f"{where}: {tensor.name} has shape {tensor.shape}{now}, the model's {role} {shape}"
        tensors[role] = (tensor, steps)
    return Move(layer, slot, tensors)


def _empty_slots(
    slots: list[Slot], filled: set[str], found: Pairs, backbone_only: bool
) -> dict[str, str | None]:
    """Slots without weights -> why they may stay so; None if they may not."""
    wrapped = any("/" in slot.name for slot in slots)
    inside = any("/" in name for name in filled)
    last = max((slot.index for slot in slots if slot.name in filled), default=-1)
    empty: dict[str, str | None] = {}
    for slot in (slot for slot in slots if slot.name not in filled):
        asked, why = found.unasked.get(slot.name), None
        if wrapped and "/" in slot.name and not inside:
            why = asked or "extractor: not in the file"
        elif wrapped and (slot.name == "conv4_0" or (slot.name == "conv4_1" and asked)):
            why = "bridging layer"
        elif asked:
            why = asked
        elif backbone_only and slot.canonical not in VGG:
            # A backbone ends somewhere, but it has no holes.
            behind = slot.index > last or slot.canonical in ("conv4_3_norm", *HEADS)
            why = "the file is a backbone" if behind else None
        empty[slot.name] = why
    return empty


def _class_remarks(origin: Origin, classes: ClassMap, found: Pairs) -> list[str]:
    """What happens to which class, if heads are taken at all, and how their names were told."""
    if not any(layer.canonical in HEADS for layer, _ in found.pairs):
        return []
    remarks = []
    if origin.guessed:
        remarks.append(
            f"the classes of the file are taken for those of every file with {origin.outputs} outputs"
        )
    if classes.is_identity:
        return remarks
    kept = [n for n in classes.class_names if n not in classes.new]
    dropped = sum(name is not None for name in classes.source) - 1 - len(kept)
    told = f"classes kept: {', '.join(kept) or 'NONE'}; new: {', '.join(classes.new) or 'none'}; "
    return [*remarks, f"{told}{dropped} of the file dropped"]


def _rows(
    file: WeightFile,
    slots: list[Slot],
    moves: list[Move],
    found: Pairs,
    empty: dict,
    classes: ClassMap | None,
) -> list[Row]:
    """Layers of the file that stay, then every slot in the order of the model."""
    rows = []
    by_slot = {m.slot.name: m for m in moves}
    moved = {m.layer.name for m in moves}
    for layer in file.layers:
        if layer.tensors and layer.name not in moved:
            rows.append(Row("left", _face(layer), None, layer.size, 0, (), found.skipped[layer.name]))
    for slot in slots:
        size = sum(int(np.prod(shape)) for shape in slot.shapes.values())
        target = {"index": slot.index, "name": slot.name, "shapes": _lists(slot.shapes)}
        if slot.name not in by_slot:
            rows.append(Row("re-initialised", None, target, size, size, (), empty[slot.name]))
            continue
        move = by_slot[slot.name]
        how = tuple(dict.fromkeys(step.text for _, steps in move.tensors.values() for step in steps))
        sliced = _is_conf(move.layer) and classes and not classes.is_identity
        fresh = size * len(classes.new) // len(classes.columns) if sliced else 0
        action = "sliced" if sliced else "converted" if how else "loaded"
        rows.append(Row(action, _face(move.layer), target, size, fresh, how, ""))
    return rows


def _face(layer: Layer) -> dict:
    shapes = {tensor.role: tensor.shape for tensor in layer.tensors}
    return {"index": layer.index, "name": layer.name, "shapes": _lists(shapes)}


def _lists(shapes: dict) -> dict:
    return {role: list(shape) for role, shape in shapes.items()}


def _is_conf(layer: Layer) -> bool:
    return "_mbox_conf" in (layer.canonical or "")


def _and(names: object) -> str:
    return " and ".join(sorted(names)) or "nothing"


def with_backbone(rows: tuple[Row, ...], other: tuple[Row, ...]) -> tuple[Row, ...]:
    """Rows of a plan whose empty slots are filled by the plan of a backbone file."""
    filled = {r.target["name"]: r for r in other if r.target and r.source}
    merged = []
    for row in rows:
        if row.action == "re-initialised" and row.target["name"] in filled:
            row = replace(filled[row.target["name"]], file="backbone")
        merged.append(row)
    return tuple(merged)
