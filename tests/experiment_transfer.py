"""What staged transfer is worth: a trained detector goes to other data, behind another extractor.

Run it: python tests/experiment_transfer.py SOURCE DATA --backbone vgg16 --cut block3_pool
    --backbone-weights FILE [--out runs/transfer] [--bridge 4] [--all 2] [--straight 4] [--batch 4]
SOURCE is a checkpoint of the same generation. Five rows, all scored on DATA's val split:
a  transferred, everything frozen, nothing trained
b  then the bridging layers, and heads of classes that SOURCE did not know, alone
c  then everything (b and c are one run of two stages)
d  transferred, everything trained from the start
e  not transferred: only the extractor has weights, everything trained
A run that is there already is not done again.
"""

import argparse
import csv
from pathlib import Path

from ssd.backend import keras
from ssd.batches import Batches, Views
from ssd.checkpoint import read_card
from ssd.datasets.read import find_classes, read_split
from ssd.run import Settings
from ssd.stages import Stage
from ssd.start import start
from ssd.train import train
from ssd.transfer.plan import Options
from ssd.validate import validate

RATES = {"bridge": 5e-4, "then": 2e-4, "straight": 5e-4}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("data")
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--cut", required=True)
    parser.add_argument("--backbone-weights", required=True)
    parser.add_argument("--out", default="runs/transfer")
    parser.add_argument("--bridge", type=int, default=4)
    parser.add_argument("--all", type=int, default=2)
    parser.add_argument("--straight", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    given = parser.parse_args()
    folder = Path(given.out) / f"{Path(given.data).name}-{given.backbone}"
    staged = (
        Stage("bridge", given.bridge, RATES["bridge"], cache_views=min(3, given.bridge)),
        Stage("all", given.all, RATES["then"]),
    )
    straight = (Stage("all", given.straight, RATES["straight"]),)
    rows = [("a", _frozen(_settings(given, staged, given.source)))]
    history = _run(folder / "bc", _settings(given, staged, given.source))
    rows += [("b", history[given.bridge - 1]), ("c", history[-1])]
    rows += [("d", _run(folder / "d", _settings(given, straight, given.source))[-1])]
    rows += [("e", _run(folder / "e", _settings(given, straight, None))[-1])]
    print(f"{Path(given.data).name}, {given.backbone} cut at {given.cut}, batch {given.batch}")
    print(f"| run | epochs | minutes | {' | '.join((*_SHOWN, *_COUNTS))} |")
    print("|" + "---|" * (3 + len(_SHOWN) + len(_COUNTS)))
    for name, row in rows:
        numbers = [f"{float(row[key]):.3f}" if row[key] != "" else "" for key in _SHOWN]
        numbers += [f"{int(row[key]):,}" for key in _COUNTS]
        print(f"| {name} | {row['epoch']} | {float(row['minutes']):.1f} | {' | '.join(numbers)} |")


_SHOWN = ("seconds_a_step", "val_loss", "val_acc", "val_matched_acc", "val_mAP")
_COUNTS = ("trainable", "frozen")


def _settings(given: argparse.Namespace, stages: tuple, init: str | None) -> Settings:
    return Settings(
        (given.data,),
        find_classes(given.data, "train"),
        stages,
        spec=read_card(given.source).spec,
        backbone=given.backbone,
        cut=given.cut,
        backbone_weights=given.backbone_weights,
        init=init,
        transfer=Options(first="conv4_2"),  # what stands before are the bridging layers
        batch_size=given.batch,
        max_expand=2.0,
    )


def _frozen(settings: Settings) -> dict:
    """Scores of the network as transfer leaves it."""
    keras.utils.set_random_seed(settings.seed)
    begin = start(settings, "frozen", lambda text: None, None)
    samples = read_split(settings.data[0], "val", settings.class_names)
    views = Views(samples, begin.card.ssd_spec, begin.card.preprocessing, max_expand=None)
    batches = Batches(views, len(samples), begin.card.ssd_spec, settings.batch_size)
    scores = validate(begin.model, batches, samples, begin.card.ssd_spec, settings.class_names, [])
    counts = {"trainable": 0, "frozen": begin.model.count_params()}
    return scores | counts | {"epoch": 0, "minutes": 0, "seconds_a_step": ""}


def _run(folder: Path, settings: Settings) -> list[dict]:
    """The history of a run; the minutes of a row are those of all epochs so far."""
    if not (folder / "finished").exists():
        train(settings, folder, print)
        (folder / "finished").touch()
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seconds = [float(row["seconds"]) for row in rows]
    return [row | {"minutes": sum(seconds[: i + 1]) / 60} for i, row in enumerate(rows)]


if __name__ == "__main__":
    main()
