"""What `ssd data` shows on the screen, as text."""

from collections import defaultdict
from typing import TYPE_CHECKING

from ssd.terminal import table_text

if TYPE_CHECKING:
    from ssd.datasets.doctor import Checkup

SHOWN = 5  # faults of a kind


def faults_text(report: "Checkup", show_all: bool = False) -> str:
    """Faults by kind, errors first, SHOWN of each unless all are wanted, and how many there are."""
    lines, groups = [], defaultdict(list)
    for fault in report.faults:
        groups[fault.level, fault.kind, fault.remedy].append(fault)
    order = ("error", "warning", "note")
    for (level, kind, remedy), faults in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        lines.append(f"{level} {kind} ({len(faults)}): {remedy}")
        shown = faults if show_all else faults[:SHOWN]
        for fault in shown:
            lines.append(f"  {fault.file}: {fault.text}")
        if len(shown) < len(faults):
            lines.append(f"  and {len(faults) - len(shown)} more (--all shows them)")
    counts = [sum(fault.level == level for fault in report.faults) for level in order]
    said = ", ".join(f"{n} {level}{'' if n == 1 else 's'}" for n, level in zip(counts, order, strict=True))
    return "\n".join([*lines, f"{report.images} images, {report.boxes} boxes: {said}"])


def counts_text(facts: dict) -> str:
    """The table of `ssd.datasets.stats.summary` with `data` and `split`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    columns = ("boxes", "difficult", "images", "small", "medium", "large")
    title = f"{facts['data']}, split {facts['split']}"
    table = Table("class", title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in (*columns, "side", "aspect"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in sorted(facts["classes"].items(), key=lambda item: -item[1]["boxes"]):
        cells = [str(row[key]) for key in columns]
        if row["boxes"]:
            cells += [f"{row['side'][1]:.0f}", "{0:.1f}-{2:.1f}".format(*row["aspect"])]
        table.add_row(name, *cells)
    lines = [table_text(table)]
    per_image = facts["objects_per_image"]
    lines.append(f"{facts['images']} images ({facts['background']} without a box), {facts['boxes']} boxes")
    if per_image:
        lines.append(
            "boxes in an image: {1:g} in the middle, {0:g} to {2:g} in nine of ten".format(*per_image)
        )
    lines.append(
        "in the 300x300 square: small below 32x32 pixels, large from 96x96; side: the middle root of area"
    )
    lines.append("aspect: width by height in the photo, of nine boxes in ten")
    return "\n".join(lines)


def fit_text(facts: dict) -> str:
    """The table of `ssd.datasets.fit.fit` with `data` and `split`, scales and flags."""
    from rich.table import Table

    now, proposed = facts["ceiling"], facts["proposed"]
    then = proposed["ceiling"] if proposed else None
    title = f"share of boxes with an anchor of IoU 0.5: {facts['spec']} on {facts['data']}, {facts['split']}"
    table = Table("boxes", facts["spec"], *(["proposed"] if then else []), title=title)
    for group in ("by_class", "by_size"):
        for name in now[group]:
            table.add_row(name, *(_share(c[group][name]) for c in (now, then) if c))
        table.add_section()
    for key, text in (("ceiling", "all"), ("bipartite", "with no anchor but by the bipartite step")):
        table.add_row(text, *(_share(c[key]) for c in (now, then) if c))
    table.add_row("anchors a box", *(str(c["anchors_per_box"]) for c in (now, then) if c))
    lines = [table_text(table)]
    for name, scales in ((facts["spec"], facts["scales"]), ("proposed", proposed)):
        if scales:
            pairs = zip(scales["min_size"], scales["max_size"], strict=True)
            said = ", ".join(f"{low:g}" if high is None else f"{low:g} to {high:g}" for low, high in pairs)
            lines.append(f"{name}: scales of the feature maps {said} pixels")
    for flag in facts["flags"]:
        lines.append(f"note: {flag}")
    if not proposed:
        lines.append(f"no other scales bring a point more: keep those of {facts['spec']}")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "no boxes" if value is None else f"{value:.3f}"


def parts_text(made: dict) -> str:
    """The table of `ssd.datasets.parts.split_data`."""
    from rich.table import Table

    table = Table("class", *made)
    names = sorted({name for part in made.values() for name in part["boxes"]})
    for name in names:
        table.add_row(name, *(str(part["boxes"].get(name, 0)) for part in made.values()))
    table.add_section()
    table.add_row("images", *(str(part["images"]) for part in made.values()))
    lines = [table_text(table)]
    if lacking := [name for name in names if any(name not in part["boxes"] for part in made.values())]:
        lines.append(f"note: too rare for every part: {', '.join(lacking)}")
    return "\n".join(lines)
