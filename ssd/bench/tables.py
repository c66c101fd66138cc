"""A measurement as tables, for the screen and in Markdown."""

from typing import NamedTuple

from ssd.bench.visit import PARTS

HEADS = {"boxes": "boxes + NMS"}
FAILED = "the parts do NOT sum to the whole within 5 %; more rounds or a quieter machine may help:"


class Table(NamedTuple):
    """Texts, ready to print."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def tables(report: dict) -> list[Table]:
    """Everything that was measured.

    Args:
        report: from `ssd.bench.run.bench`, or its JSON file.
    """
    found = [_cost(report), _models(report)]
    found += [_ratios(report)] if report["ratios"] else []
    found += [_limits(report)] if report["limits"] else []
    found += [_rates(report["rates"])] if report["rates"] else []
    return found


def markdown(report: dict) -> str:
    """The tables, and a paragraph on the machine in front of them."""
    parts = [f"{about(report)}\n"]
    for table in tables(report):
        lines = [table.header, ["---"] * len(table.header), *table.rows]
        text = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        notes = "".join(f"\n- {note}" for note in table.notes)
        parts.append(f"**{table.title}**\n\n{text}\n" + (f"{notes}\n" if notes else ""))
    return "\n".join(parts)


def about(report: dict) -> str:
    """Machine, load, versions and settings in a few sentences."""
    m, s = report["machine"], report["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    return (
        f"{m['date']}, {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {' '.join(m['capabilities'])}; "
        f"{s['threads']} threads, batch {s['batch']}; {s['rounds']} rounds over {s['photos']} photos; "
        f"load {_load(m['load_before'])} before, {_load(m['load_after'])} after; "
        f"Python {m['python']}, {versions}."
    )


def _cost(report: dict) -> Table:
    header = [
        "ms a photo, p50 / p95",
        *(HEADS.get(p, p) for p in PARTS),
        "sum",
        "whole",
        "gap",
        "photo to boxes",
    ]
    rows, notes = [], []
    for r in report["rows"]:
        parts = [_marks(r["parts_ms"][p]) for p in PARTS]
        total, gap = _number(r["sum_of_parts_ms"]), f"{r['gap_percent']:+.1f} %"
        rows.append([r["name"], *parts, total, _marks(r["whole_ms"]), gap, _marks(r["photo_to_boxes_ms"])])
        if not r["adds_up"]:
            notes.append(f"{r['name']}: {FAILED} {gap}")
    if not notes:
        notes = ["the parts sum to the whole, timed on its own, within 5 % in every row"]
    return Table("What a photo costs", header, rows, notes)


def _models(report: dict) -> Table:
    header = "network,MB,ms,GFLOP,GFLOP/s,of limit,memory MB,cold start s,mAP VOC07,score difference"
    rows, notes = [], []
    for r in report["rows"]:
        start, found = r["cold_start_s"], r["map"]
        rows.append(
            [
                r["name"],
                _number(r["size_mb"]),
                _number(r["parts_ms"]["network"]["p50"]),
                _number(r["network_gflop"]),
                _number(r["network_gflop_per_s"], 0),
                _percent(r["fraction_of_limit"]),
                _number(r["memory_mb"], 0),
                f"{start['median']:.2f} (first {start['first']:.2f})" if start else "",
                f"{100 * found['voc07']:.2f}" if found and found["voc07"] is not None else "",
                f"{r['score_difference']:.2g}" if r["score_difference"] is not None else "other classes",
            ]
        )
        if r["note"]:
            notes.append(f"{r['name']}: {r['note']}")
        if r["precision"] == "bf16" and "BF16" not in report["machine"]["capabilities"]:
            notes.append(f"{r['name']}: this CPU has no bfloat16; the runtime computes in something else")
    return Table("Models and runtimes", header.split(","), rows, notes)


def _ratios(report: dict) -> Table:
    header = ["times as long as the first model", "what", "median", "quartiles", "least to most", "rounds"]
    rows = []
    for r in report["ratios"]:
        quartiles, ends = (f"{r[a]:.2f} to {r[b]:.2f}" for a, b in (("q1", "q3"), ("min", "max")))
        what = r["what"].replace("_", " ")
        rows.append([r["of"], what, f"{r['median']:.2f}", quartiles, ends, str(r["rounds"])])
    return Table(f"Against {report['ratios'][0]['to']}", header, rows, _fastest(report))


def _fastest(report: dict) -> list[str]:
    """The two sentences that the ratios are measured for."""
    precision = {r["name"]: r["precision"] for r in report["rows"]}
    some = [r for r in report["ratios"] if r["what"] == "photo_to_boxes" and precision[r["of"]] == "f32"]
    if not some or precision[some[0]["to"]] == "f32":
        return []
    best = min(some, key=lambda r: r["median"])
    return [f"photo to boxes, {best['median']:.2f} times faster than the fastest in float32, {best['of']}"]


def _limits(report: dict) -> Table:
    rows, notes = [], []
    for precision, limit in report["limits"].items():
        if limit is None:
            notes.append(f"{precision}: this CPU has none of its own")
            continue
        for name, values in limit["probes"].items():
            mark = " (the limit)" if name == limit["by"] else ""
            ends = f"{values['min']:.0f} to {values['max']:.0f}"
            rows.append([precision, name + mark, f"{values['median']:.0f}", ends])
    return Table("Limits of this machine", ["precision", "by", "GFLOP/s", "least to most"], rows, notes)


def _rates(found: dict) -> Table:
    rows = []
    for name in ("network", "folder", "video"):
        if name not in found:
            continue
        speed, part = found[name]["images_per_s"], found[name].get("of_network")
        ends = f"{speed['min']:.2f} to {speed['max']:.2f}"
        of = f"{part['median']:.2f} ({part['min']:.2f} to {part['max']:.2f})" if part else ""
        title = {"network": "network alone", "video": f"ssd detect {found['video_file']}"}.get(name)
        rows.append([title or f"ssd detect, {found['photos']} photos", f"{speed['median']:.2f}", ends, of])
    header = ["rate", "images/s", "least to most", "of the network alone"]
    return Table(f"Many pictures, {found['model']}", header, rows, [])


def _marks(values: dict) -> str:
    return f"{_number(values['p50'])} / {_number(values['p95'])}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _load(values: list | None) -> str:
    return "unknown" if values is None else " ".join(f"{value:.2f}" for value in values)
