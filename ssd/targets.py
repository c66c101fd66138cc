"""What a run of detection will write: names that do not meet, in a folder where nothing is lost."""

from pathlib import Path

from ssd.images import IMAGE_SUFFIXES
from ssd.sources import is_video

H264_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv"))  # containers that may keep their suffix
SHARED_RESULTS = {
    "json": "detections.json",
    "csv": "detections.csv",
    "coco": "detections.coco.json",
    "voc": "voc",
    "yolo": "labels",
}


def name_targets(files: list[Path]) -> dict[Path, str]:
    """The name of each annotated copy; a name that is taken in this run gets a number."""
    taken, targets = set(), {}
    for path in files:
        suffix = path.suffix.lower()
        allowed, instead = (H264_SUFFIXES, ".mp4") if is_video(path) else (IMAGE_SUFFIXES - {".gif"}, ".png")
        stem, number = path.stem, 2
        while stem in taken:
            stem, number = f"{path.stem}_{number}", number + 1
        taken.add(stem)
        targets[path] = stem + (path.suffix if suffix in allowed else instead)
    return targets


def planned_names(targets: dict[Path, str], save: tuple, drawing: bool) -> list[str]:
    """Names of everything that the run will write."""
    names = list(targets.values()) if drawing else []
    if "json" in save:
        names += [f"{Path(name).stem}.jsonl" for path, name in targets.items() if is_video(path)]
    return names + [SHARED_RESULTS[kind] for kind in save]


def choose_folder(out: Path | None, targets: dict[Path, str], planned: list[str], overwrite: bool) -> Path:
    """The folder for the results; what is there is replaced only if told, and inputs never are."""
    inputs = {path.resolve() for path in targets}
    folders = [out] if out else [Path(f"detections{n}") for n in ("", *(f"-{i}" for i in range(2, 1000)))]
    for folder in folders:
        there = [folder / name for name in planned if (folder / name).exists()]
        if replaced := [path for path in there if path.resolve() in inputs]:
            if out is None:
                continue
            raise ValueError(
                f"results must not replace an input; choose another --out. Received: {replaced[0]}"
            )
        if overwrite or not there:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    raise ValueError(f"{there[0]} is there already: use --overwrite or another --out")
