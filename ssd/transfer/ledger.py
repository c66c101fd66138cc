"""The ledger of a transfer: one row a layer, and sums that must come out."""

import json
import math
from dataclasses import asdict, dataclass, field, fields

ACTIONS = ("loaded", "converted", "sliced", "re-initialised", "left")


@dataclass(frozen=True)
class Row:
    """What became of a layer.

    Args:
        action: one of ACTIONS; "left": a layer of the file that goes nowhere.
        source: index, name and shapes by role in the file, None if nothing was taken.
        target: the same in the model, None if it went nowhere.
        parameters: of the model's layer, or of the file's where it was left.
        fresh: how many of them are new numbers.
        how: conversions.
        why: it was left or is new.
        file: "file", or "backbone" for the file of the extractor's weights.
    """

    action: str
    source: dict | None
    target: dict | None
    parameters: int
    fresh: int = 0
    how: tuple[str, ...] = ()
    why: str = ""
    file: str = "file"


@dataclass(frozen=True)
class Ledger:
    """A transfer, told.

    Args:
        source: file name, format, SHA-256, count of parameters.
        model: spec, backbone, cut, clip, class names, count of parameters.
        rows: layers left in the file, then the layers of the model in order.
        remarks: what a user should know.
        backbone: as `source`, of the extractor's own file.
        result: file name and SHA-256 of what was written.
    Raises:
        ValueError: the rows do not add up to the parameters of the model, or to those of the file.
    """

    source: dict
    model: dict
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    backbone: dict | None = None
    result: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        total = sum(row.parameters for row in self.rows if row.target)
        if total != self.model["parameters"]:
            raise ValueError(
                f"the rows must add up to the model's {self.model['parameters']:,} parameters. "
                f"Received: {total:,}"
            )
        told = sum(_count(row.source) for row in self.rows if row.source and row.file == "file")
        if told != self.source["parameters"]:
            raise ValueError(
                f"the rows must add up to the file's {self.source['parameters']:,} parameters. "
                f"Received: {told:,}"
            )

    @property
    def new(self) -> set[str]:
        """Layers of the model, by their top-level names, that hold new numbers."""
        return {row.target["name"].split("/")[0] for row in self.rows if row.target and row.fresh}

    @property
    def sums(self) -> dict[str, int]:
        """Parameters by action; those of the model add up to `model`."""
        sums = dict.fromkeys(ACTIONS, 0)
        for row in self.rows:
            sums[row.action] += row.parameters
        return sums | {"model": self.model["parameters"], "new numbers": sum(r.fresh for r in self.rows)}


def ledger_to_json(ledger: Ledger) -> str:
    """The text of a ledger: the inverse of `ledger_from_json`."""
    return json.dumps(asdict(ledger) | {"sums": ledger.sums}, indent=1) + "\n"


def ledger_from_json(text: str) -> Ledger:
    """Read the text of a ledger.

    Raises:
        ValueError: it is none.
    """
    try:
        values = json.loads(text)
        known = {f.name for f in fields(Ledger)}
        rows = [Row(**(row | {"how": tuple(row["how"])})) for row in values["rows"]]
        values |= {"rows": tuple(rows), "remarks": tuple(values["remarks"])}
        return Ledger(**{key: value for key, value in values.items() if key in known})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a ledger must be valid JSON. Received: {error}") from None


def ledger_to_text(ledger: Ledger) -> str:
    """A ledger for people: files, one line a layer, sums and remarks."""
    lines = [_file_line("file", ledger.source)]
    if ledger.backbone:
        lines.append(_file_line("backbone", ledger.backbone))
    names = ledger.model["class_names"]
    classes = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:6])} ... ({len(names)})"
    lines.append(f"model     {ledger.model['spec']}, {ledger.model['backbone']}; classes: {classes}")
    rows = [_cells(row) for row in ledger.rows]
    header = ("file", "layer", "shape", "", "model", "layer", "shape", "what")
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header) - 1)]
    for row in [header, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    sums = ledger.sums
    parts = " + ".join(f"{sums[a]:,} {a}" for a in ACTIONS[:4])
    lines.append(f"{parts} = {sums['model']:,} parameters, {sums['new numbers']:,} of them new")
    lines.append(f"{sums['left']:,} parameters left in the file")
    lines += [f"note: {remark}" for remark in ledger.remarks]
    if ledger.result:
        lines.append(f"result    {ledger.result['file']}  sha256 {ledger.result['sha256']}")
    return "\n".join(lines)


def _count(side: dict) -> int:
    return sum(math.prod(shape) for shape in side["shapes"].values())


def _file_line(word: str, facts: dict) -> str:
    size = f"{facts['parameters']:,} parameters"
    return f"{word:<9} {facts['file']}  {facts['format']}, {size}  sha256 {facts['sha256']}"


def _cells(row: Row) -> tuple[str, ...]:
    left, right = (_face(row.source), _face(row.target))
    mark = "b" if row.file == "backbone" else ""
    what = ": ".join(part for part in (row.action, ", ".join(row.how) or row.why) if part)
    return (mark + left[0], *left[1:], "->" if row.source and row.target else "", *right, what)


def _face(side: dict | None) -> tuple[str, str, str]:
    if side is None:
        return "-", "-", "-"
    shapes = side["shapes"]
    first = shapes.get("kernel") or next(iter(shapes.values()))
    return str(side["index"]), side["name"], "x".join(map(str, first))
