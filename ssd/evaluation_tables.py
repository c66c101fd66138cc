"""The tables of `ssd evaluate` on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table


def print_scores(scores: dict) -> None:
    """AP of every class, mAP and COCO's numbers of what `ssd evaluate --json` holds."""
    console, boxes = Console(), scores["truth"]["boxes"]
    intervals = scores.get("intervals", {})
    title = f"{scores.get('model') or scores['detections']} on {scores['images']} images"
    table = Table("class", "boxes", "VOC07", "VOC2010+", title=title)
    rules = ("voc07", "voc10")
    for name in scores["voc07"]["AP"]:
        cells = [_number(scores[r]["AP"][name], intervals.get(r, {}).get("AP", {}).get(name)) for r in rules]
        table.add_row(name, str(boxes[name]), *cells)
    table.add_section()
    cells = [_number(scores[r]["mAP"], intervals.get(r, {}).get("mAP")) for r in rules]
    table.add_row("mAP", str(sum(boxes.values())), *cells)
    console.print(table)
    table = Table("COCO", "value", title=None)
    for name, value in scores["coco"].items():
        table.add_row(name, _number(value, intervals.get("coco", {}).get(name)))
    console.print(table)
    if intervals:
        print(f"in brackets: 95 % intervals, {intervals['resamples']} resamples of the images")


def print_points(points: dict) -> None:
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
    Console().print(table)
    print("held out: chosen on 4 of 5 parts of the photos, measured on the fifth; Wilson's 95 % interval")


def print_comparison(result: dict, pair: tuple[Path, Path]) -> None:
    """What `ssd evaluate --compare` found, of a pair of files."""
    table = Table("", *(path.name for path in pair), "difference", title="second minus first, same photos")
    for rule, title in (("voc07", "VOC07"), ("voc10", "VOC2010+")):
        for name, row in result[rule]["AP"].items():
            table.add_row(f"{title} {name}", *_compared(row))
        table.add_row(f"{title} mAP", *_compared(result[rule]["mAP"]))
        table.add_section()
    for name, row in result["coco"].items():
        table.add_row(f"COCO {name}", *_compared(row))
    Console().print(table)
    print(f"in brackets: 95 % intervals, {result['resamples']} resamples, the same photos for both")


def _compared(row: dict) -> list[str]:
    difference = "" if row["difference"] is None else _number(row["difference"], row["interval"], "+")
    return [_number(row["first"]), _number(row["second"]), difference]


def _number(value: float | None, interval: list[float] | None = None, sign: str = "") -> str:
    if value is None:
        return "no boxes"
    around = f" [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]" if interval else ""
    return f"{value:{sign}.4f}{around}"
