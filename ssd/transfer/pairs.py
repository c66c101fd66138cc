"""Which layer of a file goes to which layer of the model: by offset, by name, by order."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ssd.transfer.names import CLASSIFIER
from ssd.transfer.weightfile import Layer, WeightFile

MODES = ("name", "order")
_LEAST_RUN = 3  # layers; fewer that fit in a row may do so by chance


@dataclass(frozen=True)
class Slot:
    """A layer with weights of the model.

    Args:
        index: its place in `model.layers`; layers inside a nested model share that model's.
        name: of the layer; "model/layer" inside a nested model.
        shapes: role -> shape.
        canonical: its Caffe name, if the network is known.
    """

    index: int
    name: str
    shapes: dict[str, tuple[int, ...]]
    canonical: str | None


@dataclass
class Pairs:
    """Layers of the file with their slots, and what was left out on purpose.

    Args:
        pairs: in the order of the slots.
        skipped: layer of the file -> why it stays.
        unasked: name of a slot -> why it gets nothing, where that was asked for.
        misfits: texts of what was asked for and cannot be.
        remarks: texts for the ledger.
    """

    pairs: list[tuple[Layer, Slot]]
    skipped: dict[str, str]
    unasked: dict[str, str]
    misfits: list[str]
    remarks: list[str]


def find_pairs(
    file: WeightFile,
    slots: list[Slot],
    fits: Callable[[Layer, Slot], bool],
    by: tuple[str, ...] = (),
    offset: int | str | None = None,
    first: str | None = None,
    last: str | None = None,
    skip: tuple[str, ...] = (),
) -> Pairs:
    """Pair the layers of a file with slots; an offset first, then the modes in their order.

    Args:
        file: an open weight file.
        slots: of the model.
        fits: whether the shapes of a layer can become those of a slot.
        by: of MODES; "name" if neither this nor an offset is given.
        offset: file index - model index, or "auto" for the one with the longest run of fitting layers.
        first: name or index of the first layer of the file to take.
        last: of the last.
        skip: patterns of names of layers to leave, of the file or of the model.
    Raises:
        ValueError: an unknown mode, a range outside the file, an offset in a file without order, or no
            offset that is surely best.
    """
    by = by or (("name",) if offset is None else ())
    if unknown := set(by) - set(MODES):
        raise ValueError(f"--by must be one of {', '.join(MODES)}. Received: {', '.join(sorted(unknown))}")
    state = Pairs([], {}, {}, [], [])
    wanted = _select(file, slots, first, last, skip, state)
    if offset is not None:
        if not file.ordered:
            raise ValueError(
                "--offset needs a file that keeps the order of its layers. "
                f"Received: {file.path}, {file.format}; remedy: --by name"
            )
        if offset == "auto":
            offset, wanted = _best_offset(wanted, slots, fits, state, narrow=not (first or last or by))
        _by_offset(wanted, slots, int(offset), state, leave=bool(by))
    if "order" in by and not file.ordered:
        raise ValueError(f"--by order needs a file that keeps the order of its layers; remedy: --by name. "
                         f"Received: {file.path}, {file.format}")  # fmt: skip
    for mode in by:
        _MODES[mode](_left(wanted, state), slots, state)
    _sort_out(file, wanted, slots, state, by_offset=offset is not None, cut_out=bool(first or last), by=by)
    state.pairs.sort(key=lambda pair: pair[1].index)
    return state


def _select(
    file: WeightFile, slots: list[Slot], first: str | None, last: str | None, skip: tuple, state: Pairs
):
    """Layers with weights inside the range that no pattern leaves out."""
    start, end = _place(file, first, 0), _place(file, last, len(file.layers) and file.layers[-1].index)
    if start > end:
        raise ValueError(f"--from must stand before --to. Received: {first} (index {start}), {last} ({end})")
    wanted = []
    for layer in (layer for layer in file.layers if layer.tensors):
        hit = next((p for p in skip if _named(layer, p)), None)
        if layer.index < start:
            state.skipped[layer.name] = f"skipped on purpose, before --from {first}"
        elif layer.index > end:
            state.skipped[layer.name] = f"skipped on purpose, behind --to {last}"
        elif hit:
            state.skipped[layer.name] = f"skipped on purpose, --skip {hit}"
        elif layer.canonical in CLASSIFIER:
            state.skipped[layer.name] = "of the classifier"
        else:
            wanted.append(layer)
    for slot in slots:
        if hit := next(
            (p for p in skip if fnmatchcase(slot.name, p) or fnmatchcase(slot.canonical or "", p)), None
        ):
            state.unasked[slot.name] = f"skipped on purpose, --skip {hit}"
    used = {p for p in skip for layer in file.layers if _named(layer, p)}
    used |= {text.removeprefix("skipped on purpose, --skip ") for text in state.unasked.values()}
    if unused := [p for p in skip if p not in used]:
        raise ValueError(f"--skip must name layers of the file or the model. Received: {', '.join(unused)}")
    return wanted


def _by_offset(wanted: list[Layer], slots: list[Slot], offset: int, state: Pairs, leave: bool) -> None:
    by_place = _by_index(slots)
    names = {slot.canonical: slot for slot in slots if slot.canonical}
    grouped = _by_index(wanted)
    for index, layers in grouped.items():
        own = by_place.get(index - offset, [])
        if not own or len(own) != len(layers):
            if not leave:
                what = "is not there or has no weights" if not own else f"has {len(own)} layers inside"
                state.misfits.append(
                    f"{layers[0].name} (index {index}) goes by offset {offset} to place {index - offset}, "
                    f"which {what}"
                )
            continue
        for layer, slot in zip(layers, own, strict=True):
            # A neighbour of the same shape would take the weights without a word.
            proper = names.get(layer.canonical)
            if proper and proper != slot:
                state.misfits.append(
                    f"{layer.name} (index {index}) goes by offset {offset} to {slot.name} (index "
                    f"{slot.index}), but the model has {proper.name} at {proper.index}: offset "
                    f"{index - proper.index}"
                )
            elif slot.name not in state.unasked:
                state.pairs.append((layer, slot))


def _best_offset(wanted: list[Layer], slots: list[Slot], fits: Callable, state: Pairs, narrow: bool):
    """The offset with the longest run of layers that fit one after the other."""
    by_place, grouped = _by_index(slots), _by_index(wanted)
    runs = []
    for offset in sorted({i - j for i in grouped for j in by_place}):
        best, run = [], []
        for index, layers in grouped.items():
            own = by_place.get(index - offset, [])
            good = len(own) == len(layers) and all(map(fits, layers, own))
            run = [*run, *layers] if good else []
            best = run if len(run) > len(best) else best
        runs.append((len(best), offset, best))
    runs.sort(key=lambda r: (-r[0], abs(r[1])))
    count, offset, best = runs[0] if runs else (0, 0, [])
    second = runs[1] if len(runs) > 1 else (0, 0, [])
    told = (
        f"{count} layers in a row fit offset {offset} ({best[0].name} to {best[-1].name})"
        if best
        else "none fit"
    )
    told += f"; next best: {second[0]} at {second[1]}"
    if count < _LEAST_RUN or count < 1.5 * second[0]:
        raise ValueError(f"--offset auto must find one offset that is surely best. Received: {told}")
    sure = 1 - second[0] / count
    state.remarks.append(f"offset {offset} found: {told}; {count} of {len(wanted)} layers, {sure:.0%} ahead")
    if narrow:
        inside = {layer.name for layer in best}
        for layer in wanted:
            if layer.name not in inside:
                state.skipped[layer.name] = (
                    f"outside the run of --offset auto ({best[0].name} to {best[-1].name})"
                )
        wanted = best
    return offset, wanted


def _by_name(wanted: list[Layer], slots: list[Slot], state: Pairs) -> None:
    taken = _taken(state)
    free = [slot for slot in slots if slot.name not in taken and slot.name not in state.unasked]
    names = {slot.canonical: slot for slot in free if slot.canonical}
    own = {slot.name: slot for slot in free}
    for layer in wanted:
        # Each slot takes one layer: a second one of the same name finds no place, and is told.
        slot = names.pop(layer.canonical, None) if layer.canonical else own.pop(layer.name, None)
        if slot:
            state.pairs.append((layer, slot))


def _by_order(wanted: list[Layer], slots: list[Slot], state: Pairs) -> None:
    taken = _taken(state)
    free = [slot for slot in slots if slot.name not in taken and slot.name not in state.unasked]
    names = [slot.canonical for slot in free]
    start = names.index(wanted[0].canonical) if wanted and wanted[0].canonical in names else 0
    proper = {slot.canonical: slot for slot in slots if slot.canonical}
    for layer, slot in zip(wanted, free[start:], strict=False):
        if layer.canonical in proper and proper[layer.canonical] != slot:
            state.misfits.append(
                f"{layer.name} (index {layer.index}) goes by order to {slot.name} (index {slot.index}), but "
                f"the model has {proper[layer.canonical].name}: --by name"
            )
        state.pairs.append((layer, slot))
    for slot in free[:start] + free[start + len(wanted) :]:
        state.unasked[slot.name] = "outside --by order"
    for layer in wanted[len(free) - start :]:
        state.skipped[layer.name] = "--by order: the model ends before it"


_MODES = {"name": _by_name, "order": _by_order}


def _sort_out(
    file: WeightFile,
    wanted: list[Layer],
    slots: list[Slot],
    state: Pairs,
    by_offset: bool,
    cut_out: bool,
    by: tuple,
) -> None:
    """Name what was left over without being asked for."""
    taken = _taken(state)
    if taken and ((by_offset and not by) or (cut_out and not by_offset)):
        places = [slot.index for slot in slots if slot.name in taken]
        for slot in slots:
            if not min(places) <= slot.index <= max(places):
                state.unasked.setdefault(slot.name, "outside the range that was asked for")
    left_out = {layer.canonical: state.skipped.get(layer.name) for layer in file.layers if layer.tensors}
    for slot in slots:
        if left_out.get(slot.canonical) and slot.name not in taken:
            state.unasked.setdefault(slot.name, left_out[slot.canonical])
    for layer in _left(wanted, state):
        if not state.misfits:
            state.misfits.append(_homeless(layer, slots, taken))


def _homeless(layer: Layer, slots: list[Slot], taken: set[str]) -> str:
    free = [slot.name for slot in slots if slot.name not in taken]
    what = f"is {layer.canonical}, which the model has not" if layer.canonical else "has no known name"
    if layer.canonical in {slot.canonical for slot in slots if slot.name in taken}:
        what = f"is {layer.canonical}, which another layer of the file took"
    near = f"; without weights are {', '.join(free[:4])}" if free else ""
    return f"layer {layer.name} of the file {what}{near} (--skip {layer.name} leaves it out)"


def _left(wanted: list[Layer], state: Pairs) -> list[Layer]:
    paired = {layer.name for layer, _ in state.pairs} | set(state.skipped)
    return [layer for layer in wanted if layer.name not in paired]


def _taken(state: Pairs) -> set[str]:
    return {slot.name for _, slot in state.pairs}


def _by_index(items: list) -> dict[int, list]:
    grouped: dict[int, list] = {}
    for item in items:
        grouped.setdefault(item.index, []).append(item)
    return grouped


def _named(layer: Layer, pattern: str) -> bool:
    return fnmatchcase(layer.name, pattern) or fnmatchcase(layer.canonical or "", pattern)


def _place(file: WeightFile, name: str | None, default: int) -> int:
    """The index of a layer given by its name, canonical name or index."""
    if name is None:
        return default
    if name.lstrip("-").isdigit():
        if 0 <= int(name) <= file.layers[-1].index:
            return int(name)
        raise ValueError(f"an index must be 0 to {file.layers[-1].index}. Received: {name}")
    for layer in file.layers:
        if name in (layer.name, layer.canonical):
            return layer.index
    known = [layer.name for layer in file.layers if layer.tensors]
    raise ValueError(f"--from and --to must be a layer of the file: {', '.join(known)}. Received: {name!r}")
