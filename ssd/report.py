"""The page of a training, report.html, made from the files of its run folder alone."""

import json
from collections.abc import Callable
from pathlib import Path

from ssd.draw import PALETTE
from ssd.history import best_row, class_scores, read_history
from ssd.metrics.voc import count_faults
from ssd.outcome import RunData, read_data, read_detections
from ssd.page import Picture, css, figure_picture, new_figure, photo_picture, render, save_page

FAULT_SCORE = 0.5  # detections below it do not count where photos are ranked by faults
WORST = 12  # photos shown
NEEDED = "stage val_mAP val_loss seconds stage_number trainable frozen seconds_a_step images_per_s".split()
# Curves that share a figure: title, {column: label}, whether they are shares of 1.
CURVES = (
    ("loss", {"loss": "training", "val_loss": "validation"}, False),
    ("parts of the training loss", {"confidence_loss": "confidence", "location_loss": "location"}, False),
    ("distance from the hint", {"hint_loss": "training"}, False),
    (
        "accuracy",
        {
            "acc": "training, all anchors",
            "val_acc": "validation, all anchors",
            "matched_acc": "training, matched",
            "val_matched_acc": "validation, matched",
        },
        True,
    ),
    ("VOC07 mAP on validation", {"val_mAP": "mAP"}, True),
    ("learning rate at the end of the epoch", {"learning_rate": "learning rate"}, False),
)


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        folder: of the run, with at least one epoch done.
        path: of the page; report.html in the folder unless told.
    Returns:
        its path.
    Raises:
        ValueError: the folder is no run's, or a file in it is damaged.
        OSError: it cannot be read or written.
    """
    path = Path(path or Path(folder) / "report.html")
    save_page(path, report_html(folder))
    return path


def report_html(folder: str | Path) -> str:
    """The HTML of the page.

    Raises:
        ValueError, OSError: as `write_report`.
    """
    folder = Path(folder)
    shared = shared_parts(folder, NEEDED, CURVES, "val_mAP")
    data, settings, best = read_data(folder), read_settings(folder), shared["best"]
    return render(
        "training.html",
        **shared,
        scores=_scores(best, data, settings["val_split"]),
        scores_picture=_scores_picture(best),
        worst=worst_photos(folder, data),
        fault_score=FAULT_SCORE,
        class_names=data.class_names,
        splits=data.splits,
        val_split=settings["val_split"],
    )


def shared_parts(folder: Path, needed: list[str], curves: tuple, score: str) -> dict:
    """What the pages of a detector's and of a classifier's training both show.

    Args:
        folder: of the run.
        needed: columns that its history.csv must have.
        curves: rows such as those of CURVES.
        score: the column by which the best epoch is chosen.
    Raises:
        ValueError: no epoch is done, a column is missing, or a file is damaged.
    """
    settings, rows = read_settings(folder), read_history(folder)
    if not rows:
        raise ValueError(f"a report needs an epoch that is done. Received: {folder} without history.csv")
    if missing := [name for name in needed if any(row.get(name) is None for row in rows)]:
        raise ValueError(f"history.csv must have the columns {', '.join(needed)}. Received: no {missing[0]}")
    best, stages = best_row(rows, score), stage_rows(rows, settings["stages"], score)
    return {
        "title": f"Training of {folder.resolve().name}",
        "rows": rows,
        "best": best,
        "best_place": rows.index(best),
        "minutes": sum(row["seconds"] for row in rows) / 60,
        "curves": [picture for curve in curves for picture in curve_pictures(rows, *curve)],
        "stages": stages,
        "stage_rows": [list(stage.values()) for stage in stages],
        "history_rows": [list(row.values()) for row in rows],
        "settings": plain_settings(settings),
        "recipe": text_of(folder / "recipe.toml"),
    }


def worst_photos(folder: Path, data: RunData) -> list[Picture]:
    """The validation photos of most missed and false boxes at the best epoch, as pictures."""
    found = [one[one.scores >= FAULT_SCORE] for one in read_detections(folder, data)]
    faults = [count_faults(*pair, FAULT_SCORE) for pair in zip(data.samples, found, strict=True)]
    places = sorted(range(len(faults)), key=lambda i: -sum(faults[i]))[:WORST]
    return [
        photo_picture(
            data.samples[i],
            found[i],
            f"{data.samples[i].path.name}: {faults[i][0]} missed, {faults[i][1]} false",
        )
        for i in places
        if sum(faults[i])
    ]


def curve_pictures(rows: list[dict], title: str, columns: dict[str, str], is_share: bool) -> list[Picture]:
    """A figure on a linear and one on a logarithmic axis; shares of 1 show there how much is missing."""
    columns = {key: label for key, label in columns.items() if any(row.get(key) is not None for row in rows)}
    pictures = []
    if not columns:
        return pictures
    for log in (False, True):
        figure = new_figure()
        axes = figure.axes[0]
        for key, label in columns.items():
            mine = [row for row in rows if row[key] is not None]
            values = [row[key] for row in mine]
            values = [1 - v for v in values] if log and is_share else values
            # A single epoch is a point, which a line would not show.
            marker = "o" if len(rows) < 30 else None
            axes.plot([row["epoch"] for row in mine], values, label=label, marker=marker, markersize=3)
        log = log and any(line.get_ydata().max() > 0 for line in axes.get_lines())
        name = f"1 minus {title}" if log and is_share else title[0].upper() + title[1:]
        if log:
            axes.set_yscale("log", nonpositive="mask")
            low, high = axes.get_ylim()
            for which in ("major", "minor"):
                getattr(axes.yaxis, f"set_{which}_formatter")(_log_label(high / low < 10))
            axes.tick_params("y", which="minor", labelsize=7)
        elif is_share:
            axes.set_ylim(0, 1.02)
        else:
            axes.set_ylim(bottom=0)
        _mark_stages(axes, rows)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(columns) > 1:
            axes.legend(fontsize=8, frameon=False)
        pictures.append(figure_picture(figure, f"{name}, {'logarithmic' if log else 'linear'} axis"))
    return pictures


def _log_label(is_short: bool) -> Callable[[float, int], str]:
    """Labels in plain numbers; on an axis of several decades only those that start with 1, 2 or 5."""
    return lambda value, _: f"{value:g}" if is_short or f"{value:.0e}"[0] in "125" else ""


def _mark_stages(axes: object, rows: list[dict]) -> None:
    for before, row in zip([None, *rows], rows, strict=False):
        if before is None or row["stage_number"] != before["stage_number"]:
            start = row["epoch"] - 0.5
            axes.axvline(start, color="#9aa4ae", linewidth=0.9, linestyle=":")
            place = axes.get_xaxis_transform()
            axes.text(start, 1.01, f" {row['stage_number']}", transform=place, fontsize=8, color="#5b6672")


def stage_rows(rows: list[dict], planned: list[dict], score: str) -> list[dict]:
    """A row of the table a stage, in the order of the run."""
    table, plans = [], {}
    for stage in planned:
        plans.setdefault(stage["layers"], []).append(stage)
    for number in sorted({row["stage_number"] for row in rows}):
        mine = [row for row in rows if row["stage_number"] == number]
        # Stages with nothing to do have no number: the next plan of the same layers is this one's.
        same = plans.get(mine[0]["stage"])
        plan = same.pop(0) if same else {}
        table.append(
            {
                "number": number,
                "layers": mine[0]["stage"],
                "epochs": f"{mine[0]['epoch']} to {mine[-1]['epoch']}",
                "optimiser": ", ".join(str(plan[k]) for k in ("optimizer", "schedule") if k in plan),
                "trainable": mine[-1]["trainable"],
                "frozen": mine[-1]["frozen"],
                "seconds a step": _middle([row["seconds_a_step"] for row in mine]),
                "images/s": _middle([row["images_per_s"] for row in mine]),
                f"best {score}": max(row[score] for row in mine),
                "least val_loss": min(row["val_loss"] for row in mine),
            }
        )
    return table


def _scores(best: dict, data: RunData, val_split: str) -> list[tuple]:
    counts = data.splits[val_split]["classes"]
    return [(n, score, counts[n]["boxes"], counts[n]["images"]) for n, score in class_scores(best).items()]


def _scores_picture(best: dict) -> Picture:
    scores = {name: score for name, score in class_scores(best).items() if score is not None}
    order = sorted(scores, key=scores.get)
    figure = new_figure(5.4, 1.2 + 0.28 * len(order))
    axes = figure.axes[0]
    bars = axes.barh(range(len(order)), [scores[name] for name in order], color=css(PALETTE[4]))
    # Names are shown as they are: a "$" starts no formula.
    axes.set_yticks(range(len(order)), order, parse_math=False)
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.axvline(best["val_mAP"], color=css(PALETTE[5]), linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("VOC07 average precision; dashed: their mean")
    return figure_picture(figure, f"Average precision of each class in epoch {best['epoch']}")


def _middle(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None


def plain_settings(settings: dict) -> list[tuple[str, str]]:
    """Settings as rows of text, without what the recipe shows; what is not set is left out."""
    rows = {key: value for key, value in settings.items() if key != "stages" and value not in (None, [], {})}
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in rows.items()]


def read_settings(folder: Path) -> dict:
    """run.json as plain data. Raises ValueError: it is missing or damaged."""
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"a run folder must hold run.json. Received: {folder}")
    try:
        settings = json.loads(path.read_text("utf-8"))
        if not (isinstance(settings["val_split"], str) and [s["layers"] for s in settings["stages"]]):
            raise ValueError("no stages")
        return settings
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"run.json must hold the settings of a run. Received: {path} ({error})") from None


def text_of(path: Path) -> str:
    """The text of a file, empty if there is none."""
    return path.read_text("utf-8") if path.is_file() else ""
