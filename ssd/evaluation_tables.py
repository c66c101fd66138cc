"""The tables of `ssd evaluate` on the terminal."""

from pathlib import Path

from rich.table import Table

from ssd.terminal import table_text


def scores_text(scores: dict) -> str:
    """AP of every class, mAP and COCO's numbers of what `ssd evaluate --json` holds."""
    boxes, intervals = scores["truth"]["boxes"], scores.get("intervals", {})
    title = f"{scores.get('model') or scores['detections']} on {scores['images']} images"
    table = Table("class", "boxes", "VOC07", "VOC2010+", title=title)
    rules = ("voc07", "voc10")
    for name in scores["voc07"]["AP"]:
        cells = [_number(scores[r]["AP"][name], intervals.get(r, {}).get("AP", {}).get(name)) for r in rules]
        table.add_row(name, str(boxes[name]), *cells)
    table.add_section()
    cells = [_number(scores[r]["mAP"], intervals.get(r, {}).get("mAP")) for r in rules]
    table.add_row("mAP", str(sum(boxes.values())), *cells)
    lines = [table_text(table)]
    table = Table("COCO", "value", title=None)
    for name, value in scores["coco"].items():
        table.add_row(name, _number(value, intervals.get("coco", {}).get(name)))
    lines.append(table_text(table))
    if intervals:
        lines.append(f"in brackets: 95 % intervals, {intervals['resamples']} resamples of the images")
    return "\n".join(lines)


def points_text(points: dict) -> str:
    """Its operating points: a threshold a class, with precision and recall."""
    title = f"thresholds for a precision of {points['target']:g}"
    table = Table("class", "score", "precision here", "recall here", "precision held out", title=title)
    for name, row in points["classes"].items():
        held = row["held_out"]
        if row["threshold"] is None:
            table.add_row(name, "none reaches it", "", "", "")
            continue
        shown = f"{_number(held['precision'], held['interval'])} of {held['count']}"
        table.add_row(
            name, f"{row['threshold']:.4f}", _number(row["precision"]), _number(row["recall"]), shown
        )
    held = "held out: chosen on 4 of 5 parts of the photos, measured on the fifth; Wilson's 95 % interval"
    return f"{table_text(table)}\n{held}"


def comparison_text(result: dict, pair: tuple[Path, Path]) -> str:
    """What `ssd evaluate --compare` found, of a pair of files."""
    table = Table("", *(path.name for path in pair), "difference", title="second minus first, same photos")
    for rule, title in (("voc07", "VOC07"), ("voc10", "VOC2010+")):
        for name, row in result[rule]["AP"].items():
            table.add_row(f"{title} {name}", *_compared(row))
        table.add_row(f"{title} mAP", *_compared(result[rule]["mAP"]))
        table.add_section()
    for name, row in result["coco"].items():
        table.add_row(f"COCO {name}", *_compared(row))
    about = f"in brackets: 95 % intervals, {result['resamples']} resamples, the same photos for both"
    return f"{table_text(table)}\n{about}"


def _compared(row: dict) -> list[str]:
    difference = "" if row["difference"] is None else _number(row["difference"], row["interval"], "+")
    return [_number(row["first"]), _number(row["second"]), difference]


def _number(value: float | None, interval: list[float] | None = None, sign: str = "") -> str:
    if value is None:
        return "no boxes"
    around = f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else ""
    return f"{value:{sign}.4f}{around}"
