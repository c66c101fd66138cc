"""A run folder: what was asked for, what happened, and what is needed to go on.

run.json holds the settings, ledger.json where the start weights came from if a file was given,
history.csv a row an epoch, data.json what the photos hold, detections.json what the best model finds in
those of validation, checkpoints/ the best by mAP, the best by val_loss and the last, state.npz the last
epoch's weights and optimiser. All are replaced whole.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ssd.backend import keras
from ssd.beside import replace_text, replacing
from ssd.checkpoint import SUFFIX, save_checkpoint
from ssd.history import TSV, best_row, read_history, read_rows, write_history
from ssd.stages import Stage
from ssd.transfer.plan import Options

FRONTS = ("int8", "f32", "keras")  # how the frozen first layers run


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, as plain data."""

    data: tuple[str, ...]  # folders in VOC layout
    class_names: tuple[str, ...]
    stages: tuple[Stage, ...]
    recipe: str | None = None  # that the stages were read from
    split: str = "train"
    val_split: str = "val"
    spec: str | None = None  # None: that of `init`, else "ssd300"
    backbone: str | None = None  # None: that of `init`, else "vgg16"
    cut: str | None = None
    backbone_weights: str | None = None  # None: from keras.applications; "random": none
    init: str | None = None  # a weight file to start from, any that `ssd transfer` takes, or its name
    transfer: Options = Options()  # noqa: RUF009 - frozen; which of its layers goes where
    clip: str | None = None  # of the anchors; None: as `init` was trained, else the spec's own
    freeze: str | None = None  # layers that no stage trains, in the words of a stage
    batch_size: int = 16
    max_expand: float = 4.0
    front: str = "int8"
    seed: int = 0
    workers: int = 2
    devices: int = 1  # of this machine; the batch is divided among them
    save_every: int = 100  # batches between two states within an epoch
    cache: str | None = None  # None: cache/ in the run folder

    def __post_init__(self) -> None:
        stages = tuple(s if isinstance(s, Stage) else Stage(**s) for s in self.stages)
        object.__setattr__(self, "stages", stages)
        if not isinstance(self.transfer, Options):
            object.__setattr__(self, "transfer", Options(**self.transfer))
        object.__setattr__(self, "data", tuple(self.data))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if self.save_every < 1:
            raise ValueError(f"save_every must be 1 or more. Received: {self.save_every}")
        if not self.init and (hints := [s.hint for s in stages if s.hint and not s.teacher]):
            raise ValueError(f"a stage with a hint needs a teacher, or --init. Received: {hints[0]!r}")
        if self.front not in FRONTS:
            raise ValueError(f"front must be one of {', '.join(FRONTS)}. Received: {self.front!r}")


# What may differ between the machines of one run: where files lie, and threads.
_OWN = ("data", "init", "backbone_weights", "cache", "workers")


def shared_settings(settings: Settings) -> dict:
    """The settings that all processes of a run must have alike, as plain data."""
    return {key: value for key, value in asdict(settings).items() if key not in _OWN}


class RunFolder:
    """The files of a run; opening one makes the folder.

    A run of another kind than a detector's sets the class variables: the column that its best epoch is
    chosen by, the columns of history.tsv, and what writes a checkpoint.

    Args:
        path: of the folder.
        writes: False: keep the folder as it is; another process writes it.
    """

    score = "val_mAP"
    short = TSV
    save = staticmethod(save_checkpoint)

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.checkpoints = self.path / "checkpoints"
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    @property
    def best(self) -> Path:
        """The checkpoint of the highest score on the validation split: VOC07 mAP of a detector."""
        return self.checkpoints / f"best{SUFFIX}"

    def write_settings(self, settings: object) -> None:
        """Store the settings: the inverse of `read_settings`."""
        self.write_text("run.json", json.dumps(asdict(settings), indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Store a text file, replaced in one step."""
        if self.writes:
            replace_text(self.path / name, text)

    def rows(self, first: int, last: int) -> list[dict]:
        """The history of the epochs after `first` up to `last`, numbers as numbers."""
        return read_history(self.path, first, last)

    def add_epoch(self, model: keras.Model, card: object, row: dict) -> bool:
        """Write a row of the history and a checkpoint, and drop checkpoints that are not kept.

        Args:
            model: as it is after the epoch.
            card: of the model; the scores of the row are added.
            row: epoch, stage, losses, accuracies and the score.
        Returns:
            whether it is the best checkpoint of the run so far.
        """
        if not self.writes:
            return False
        rows = self._add_row(row)
        scores = {key: row[key] for key in ("val_loss", "val_acc", self.score)}
        name = f"epoch-{row['epoch']:03d}-{row['val_loss']:.2f}-{row['val_acc']:.3f}{SUFFIX}"
        card = replace(card, scores=scores, notes=card.notes | {"epoch": row["epoch"]})
        self.save(self.checkpoints / name, model, card)
        best = best_row(rows, self.score)
        least = min(rows, key=lambda r: float(r["val_loss"]))
        kept = {int(best["epoch"]), int(least["epoch"]), row["epoch"]}
        for path in self.checkpoints.glob(f"epoch-*{SUFFIX}"):
            if int(path.name.split("-")[1]) not in kept or (
                path.name.startswith(f"epoch-{row['epoch']:03d}-") and path.name != name
            ):
                path.unlink()
        _link(self.checkpoints / f"last{SUFFIX}", self.checkpoints / name)
        for link, row_of in ((self.best, best), (self.checkpoints / f"best-loss{SUFFIX}", least)):
            _link(link, next(self.checkpoints.glob(f"epoch-{int(row_of['epoch']):03d}-*")))
        return best is row

    def save_state(self, model: keras.Model, optimizer: keras.Optimizer, meta: dict) -> None:
        """Store what the next epoch starts from; `meta` is plain data."""
        if not self.writes:
            return
        arrays = {f"model/{i}": w for i, w in enumerate(model.get_weights())}
        arrays |= {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
        with replacing(self.path / "state.npz") as beside:
            np.savez(beside, meta=json.dumps(meta), **arrays)

    def load_state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """The stored meta and arrays; both empty in a new run.

        Raises:
            ValueError: the file is damaged.
        """
        file = self.path / "state.npz"
        if not file.exists():
            return {}, {}
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
            return json.loads(str(arrays.pop("meta"))), arrays
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"state.npz must be whole. Received: {file} ({error})") from None

    def _add_row(self, row: dict) -> list[dict]:
        """All rows after adding one; an epoch that is done again after a kill replaces its row."""
        rows = [r for r in read_rows(self.path) if int(r["epoch"]) < row["epoch"]] + [row]
        write_history(self.path, rows, self.short)
        return rows


def read_settings(path: str | Path) -> Settings:
    """The settings of a run folder.

    Raises:
        ValueError: the folder holds no valid run.json.
    """
    file = Path(path) / "run.json"
    if not file.is_file():
        raise ValueError(f"a run folder must hold run.json. Received: {path}")
    try:
        values = json.loads(file.read_text("utf-8"))
        if "mosaic" in values:  # runs begun before it was a key of each stage
            share = values.pop("mosaic")
            values["stages"] = [{"mosaic": share} | stage for stage in values["stages"]]
        return Settings(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"run.json must hold the settings of a run. Received: {file} ({error})") from None


def restore(
    arrays: dict[str, np.ndarray], model: keras.Model, optimizer: keras.Optimizer | None = None
) -> None:
    """Put the arrays of a state into a model and, if given, its optimiser."""
    model.set_weights([arrays[f"model/{i}"] for i in range(len(model.weights))])
    for i, variable in enumerate(optimizer.variables if optimizer else []):
        variable.assign(arrays[f"optimizer/{i}"])


def _link(link: Path, target: Path) -> None:
    """A second name for a file, replaced in one step."""
    with replacing(link) as beside:  # removes it too where renaming onto the same file did nothing (POSIX)
        beside.hardlink_to(target)
