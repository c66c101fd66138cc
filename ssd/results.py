"""Results on disk: JSON, JSON lines, CSV, VOC XML, COCO JSON and YOLO text of detections.

Every file is written beside its name, line by line, and renamed when it is complete. None keeps results in
memory.
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ssd.boxes import to_centres
from ssd.datasets.voc import annotation_xml
from ssd.records import Detections


@dataclass(frozen=True)
class Result:
    """What was found in one image or one frame of a video."""

    source: str  # as the user gave it
    name: str  # stem of the annotated copy, unique in the run
    frame: int  # 0 in an image
    time_s: float  # 0 in an image
    detections: Detections
    of_video: bool = False
    counts: dict | None = None  # of lines and zones, where any are watched

    @property
    def key(self) -> str:
        """Stem for files that hold one picture's result."""
        return f"{self.name}_{self.frame:06d}" if self.of_video else self.name

    def as_dict(self) -> dict:
        """The object of the JSON formats: 0-based pixels, right and bottom edges exclusive."""
        found = self.detections
        rows = zip(found.names, found.ids, found.scores, found.boxes_px, strict=True)
        counts = {"counts": self.counts} if self.counts else {}
        return {
            "source": self.source,
            "frame": self.frame,
            "time_s": round(self.time_s, 6),
            "width": found.width,
            "height": found.height,
            "detections": [
                {"label": name, "score": _rounded(score, 4), "box_px": [_rounded(v, 2) for v in box]}
                | ({} if found.track_ids is None else {"track_id": number})
                for name, number, score, box in rows
            ],
        } | counts


class _Sink:
    """Takes results one by one; `close` completes the files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[Path, TextIO] = {}

    def add(self, result: Result) -> None:
        raise NotImplementedError

    def close(self) -> None:
        for path, file in self._open.items():
            file.close()
            _beside(path).replace(path)
        self._open.clear()

    def _file(self, path: Path, start: Callable[[TextIO], object] = lambda file: None) -> TextIO:
        """The open file that will become `path`; `start` writes its head."""
        if path not in self._open:
            self._open[path] = open(  # noqa: SIM115, closed by close()
                _beside(path), "w", buffering=1, encoding="utf-8", newline=""
            )
            start(self._open[path])
        return self._open[path]

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file(path).write(text)
        self._open.pop(path).close()
        _beside(path).replace(path)


class JsonSink(_Sink):
    """detections.json for all images, NAME.jsonl for each video."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._images: _Rows | None = None

    def add(self, result: Result) -> None:
        if result.of_video:
            self._file(self.folder / f"{result.name}.jsonl").write(_json(result.as_dict()) + "\n")
            return
        if self._images is None:
            self._images = _Rows(self._file(self.folder / "detections.json"))
        self._images.add(result.as_dict())

    def close(self) -> None:
        if self._images:
            self._images.end("\n")
        super().close()


class CsvSink(_Sink):
    """detections.csv: a row a detection; where the first result is tracked, a last column with ids."""

    HEAD = "source frame time_s width height label score xmin ymin xmax ymax".split()

    def add(self, result: Result) -> None:
        if not self._open:
            self._tracked = result.detections.track_ids is not None
        head = [*self.HEAD, "track_id"] if self._tracked else self.HEAD
        file = self._file(self.folder / "detections.csv", lambda f: csv.writer(f).writerow(head))
        row = result.as_dict()
        row.pop("counts", None)
        found = row.pop("detections")
        for one in found:
            ids = [one.get("track_id")] if self._tracked else []
            csv.writer(file).writerow([*row.values(), one["label"], one["score"], *one["box_px"], *ids])


class VocSink(_Sink):
    """voc/NAME.xml for each image or frame."""

    def add(self, result: Result) -> None:
        text = annotation_xml(result.detections, Path(result.source).name)
        self._write(self.folder / "voc" / f"{result.key}.xml", text)


class CocoSink(_Sink):
    """detections.coco.json: a COCO data set with a score in each annotation.

    Annotations wait in a temporary file, because they stand behind all images.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._target = self._file(folder / "detections.coco.json", lambda file: file.write('{"images": '))
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115, closed by close()
        self._images, self._annotations = _Rows(self._target), _Rows(self._spool)
        self._categories: list[dict] = []

    def add(self, result: Result) -> None:
        found = result.detections
        self._categories = [{"id": i + 1, "name": name} for i, name in enumerate(found.class_names)]
        image = {"id": self._images.count + 1, "file_name": result.source, "frame": result.frame}
        self._images.add(image | {"width": found.width, "height": found.height})
        rows = zip(found.labels, found.ids, found.scores, found.boxes_px, strict=True)
        for label, number, score, box in rows:
            sides = box[2:] - box[:2]
            self._annotations.add(
                {
                    "id": self._annotations.count + 1,
                    "image_id": image["id"],
                    "category_id": int(label) + 1,
                    "bbox": [_rounded(v, 2) for v in (*box[:2], *sides)],
                    "area": _rounded(sides[0] * sides[1], 2),
                    "iscrowd": 0,
                    "score": _rounded(score, 4),
                }
                | ({} if found.track_ids is None else {"track_id": number})
            )

    def close(self) -> None:
        self._images.end(', "annotations": ')
        self._annotations.end(f', "categories": {_json(self._categories)}}}\n')
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, self._target)
        self._spool.close()
        super().close()


class YoloSink(_Sink):
    """labels/NAME.txt for each image or frame: class, centre, size in [0, 1], score, and id if tracked."""

    def add(self, result: Result) -> None:
        found = result.detections
        rows = zip(found.labels, to_centres(found.boxes), found.scores, found.ids, strict=True)
        lines = [
            " ".join([str(label), *(f"{v:.6f}" for v in (*box, score)), *([str(number)] if number else [])])
            for label, box, score, number in rows
        ]
        self._write(self.folder / "labels" / f"{result.key}.txt", "".join(f"{x}\n" for x in lines))
        if not (self.folder / "classes.txt").exists():
            self._write(self.folder / "classes.txt", "".join(f"{c}\n" for c in found.class_names))


SINKS = {"json": JsonSink, "csv": CsvSink, "voc": VocSink, "coco": CocoSink, "yolo": YoloSink}


def _beside(path: Path) -> Path:
    return path.with_name(f".part-{path.name}")


class _Rows:
    """A JSON list that is written as it grows, a row a line."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.count = file, 0

    def add(self, row: dict) -> None:
        self.file.write((",\n" if self.count else "[\n") + _json(row))
        self.count += 1

    def end(self, after: str) -> None:
        self.file.write(("\n]" if self.count else "[]") + after)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rounded(value: float, digits: int) -> float:
    return round(float(value), digits)
