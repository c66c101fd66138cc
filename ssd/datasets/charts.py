"""Pictures of a data set's counts, drawn by Matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssd.beside import replacing
from ssd.datasets.ceiling import SIZES
from ssd.datasets.stats import SIDE, Stats
from ssd.draw import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 40  # classes in a chart; rarer ones are left out


def draw_charts(stats: Stats, folder: str | Path, title: str) -> list[Path]:
    """Write classes.png, sizes.png, shapes.png and objects.png.

    Args:
        stats: of at least one box.
        folder: made if missing; files of these names are replaced.
        title: of the data, over each picture.
    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: there are no boxes.
        OSError: the folder cannot be written.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    if not len(stats.labels):
        raise ValueError(f"charts need boxes. Received: none in {title}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"classes": _classes, "sizes": _sizes, "shapes": _shapes, "objects": _objects}
    paths = []
    for name, chart in charts.items():
        rows = len(_frequent(stats))
        height = max(4, 0.28 * rows + 1.5) if name in ("classes", "shapes") else 4.5
        figure = Figure((8, height), layout="constrained")
        axes = figure.subplots()
        chart(axes, stats)
        axes.set_title(f"{title}: {axes.get_title()}", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        path = folder / f"{name}.png"
        with replacing(path) as beside:
            figure.savefig(beside, dpi=110)
        paths.append(path)
    return paths


_BLUE, _ORANGE, _GREEN = ([v / 255 for v in PALETTE[i]] for i in (4, 0, 2))


def _frequent(stats: Stats) -> np.ndarray:
    """Labels, the most frequent first."""
    counts = np.bincount(stats.labels, minlength=len(stats.class_names))
    return np.argsort(-counts, kind="stable")[: min(MOST, (counts > 0).sum())]


def _classes(axes: "Axes", stats: Stats) -> None:
    order = _frequent(stats)
    names = [stats.class_names[i] for i in order]
    easy, hard = (
        np.bincount(stats.labels[mask], minlength=len(stats.class_names))[order]
        for mask in (~stats.difficult, stats.difficult)
    )
    axes.barh(names, easy, color=_BLUE, label="boxes")
    if hard.any():
        axes.barh(names, hard, left=easy, color=_ORANGE, label="of them difficult")
    axes.barh(names, [stats.images[name] for name in names], height=0.25, color=_GREEN, label="images")
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("boxes and images a class")


def _sizes(axes: "Axes", stats: Stats) -> None:
    axes.hist(stats.pixels, bins=np.linspace(0, SIDE, 61), color=_BLUE)
    for name, (low, high) in SIZES.items():
        edge = np.sqrt(low)
        share = np.mean((stats.pixels >= edge) & (stats.pixels < np.sqrt(high)))
        if low:
            axes.axvline(edge, color=_ORANGE)
        axes.text(edge + 3, 0.98, f"{name}\n{share:.0%}", transform=axes.get_xaxis_transform(), va="top")
    axes.set_ylim(top=1.2 * axes.get_ylim()[1])  # room for the words
    axes.set(
        xlabel=f"square root of the area, pixels of the {SIDE}x{SIDE} square", ylabel="boxes", xlim=(0, SIDE)
    )
    axes.set_title("sizes as the network sees them")


def _shapes(axes: "Axes", stats: Stats) -> None:
    order = _frequent(stats)
    rows = [np.log2(stats.aspect[stats.labels == i]) for i in order]
    axes.boxplot(rows, orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.6)
    axes.set_yticks(range(1, len(order) + 1), [stats.class_names[i] for i in order])
    axes.invert_yaxis()
    ticks = np.arange(-3, 4)
    axes.set_xticks(ticks, [f"{2.0**t:g}" for t in ticks])
    axes.axvline(0, color="0.8", zorder=0)
    axes.set_xlabel("width by height in the photo; box: half of the boxes, line: nine in ten")
    axes.set_title("shapes a class")


def _objects(axes: "Axes", stats: Stats) -> None:
    most = int(stats.objects.max())
    width = max(1, -(-most // 40))
    axes.hist(stats.objects, bins=np.arange(0, most + width + 1, width) - 0.5, color=_BLUE, rwidth=0.9)
    axes.set(xlabel="boxes in an image", ylabel="images", xlim=(-0.5 * width - 0.5, None))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(
        f"objects an image ({len(stats.objects)} images, {np.mean(stats.objects == 0):.0%} without)"
    )
