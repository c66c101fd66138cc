"""What a comparison of two systems needs, kept in the JSON of each: the verdict on every detection.

Compressed columns in text: 500,000 detections take about 3 MB. Read back with limits, as any file.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.datasets.labelled import read_text
from ssd.metrics.bootstrap import SEED, interval, replicate_means, resample
from ssd.metrics.coco import THRESHOLDS, CocoRanking
from ssd.metrics.voc import Ranking

MAX_BYTES = 256 << 20  # of a scores file, and of one of its columns unpacked
COCO = ("AP", "AP50", "AP75")  # COCO's numbers that are compared: those of all sizes


@dataclass(frozen=True)
class Scored:
    """The JSON of an evaluation, read back."""

    path: Path
    scores: dict
    voc: list[Ranking]
    coco: list[CocoRanking]

    @property
    def class_names(self) -> list[str]:
        """In the order of the rankings."""
        return list(self.scores["voc07"]["AP"])


def pack_matches(voc: Sequence[Ranking], coco: Sequence[CocoRanking]) -> dict:
    """The columns as JSON: the inverse of `unpack_matches`."""
    bits = 1 << np.arange(len(THRESHOLDS), dtype=np.uint16)
    marks = {key: [(getattr(r, key)[0] * bits[:, None]).sum(0) for r in coco] for key in ("hits", "ignored")}
    columns = {
        "voc_counts": (np.array([len(r.image) for r in voc]), "<u4"),
        "voc_image": (_joined([r.image for r in voc]), "<u4"),
        "voc_verdict": (_joined([r.verdict for r in voc]), "|i1"),
        "voc_truths": (np.array([r.truths for r in voc]), "<u4"),
        "coco_counts": (np.array([(len(r.image), len(r.candidates)) for r in coco]), "<u4"),
        "coco_image": (_joined([r.image for r in coco]), "<u4"),
        "coco_sized": (_joined([r.sized[0] for r in coco]), "|u1"),
        "coco_candidates": (_joined([r.candidates for r in coco]), "<u4"),
        "coco_hits": (_joined(marks["hits"]), "<u2"),
        "coco_ignored": (_joined(marks["ignored"]), "<u2"),
        "coco_truths": (np.array([r.truths[0] for r in coco]), "<u4"),
    }
    return {key: _pack(values.astype(kind)) for key, (values, kind) in columns.items()}


def unpack_matches(packed: dict, classes: int) -> tuple[list[Ranking], list[CocoRanking]]:
    """The rankings, without scores, boxes and sizes.

    Raises:
        ValueError, KeyError, TypeError: the columns are damaged.
    """
    columns = {key: _unpack(packed[key]) for key in packed}
    voc, coco, at, near = [], [], 0, 0
    truths = columns["voc_truths"].reshape(classes, -1).astype(np.int64)
    ends = np.cumsum(columns["voc_counts"].astype(np.int64))
    for label in range(classes):
        part = slice(ends[label] - columns["voc_counts"][label], ends[label])
        image, verdict = _checked(columns["voc_image"][part], truths.shape[1]), columns["voc_verdict"][part]
        unknown = np.full(len(image), -1, dtype=np.int64)
        voc.append(Ranking(unknown, image, np.zeros(len(image)), verdict, unknown, truths[label]))
    truths = columns["coco_truths"].reshape(classes, -1).astype(np.int64)
    for label, (count, some) in enumerate(columns["coco_counts"].reshape(classes, 2).astype(np.int64)):
        mine, ours = slice(at, at + count), slice(near, near + some)
        image = _checked(columns["coco_image"][mine], truths.shape[1])
        candidates = _checked(columns["coco_candidates"][ours], max(1, count))
        steps = np.arange(len(THRESHOLDS))[:, None]
        marks = [(columns[f"coco_{key}"][ours] >> steps & 1).astype(bool) for key in ("hits", "ignored")]
        sized = columns["coco_sized"][mine].astype(bool)
        hits, ignored = (mark[None] for mark in marks)
        unknown = np.zeros(count, dtype=np.int64)
        coco.append(CocoRanking(image, unknown, sized[None], candidates, hits, ignored, truths[label][None]))
        at, near = at + count, near + some
    return voc, coco


def read_scored(path: str | Path) -> Scored:
    """Read what `ssd evaluate --json` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or has no matches.
    """
    path = Path(path)
    try:
        scores = json.loads(read_text(path, MAX_BYTES))
        names = list(scores["voc07"]["AP"])
        for key in ("sha256", "data", "split"):
            if not isinstance(scores["truth"][key], str):
                raise TypeError(f"truth.{key} is no text")
        return Scored(path, scores, *unpack_matches(scores["matches"], len(names)))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError) as error:
        raise ValueError(
            "a file to compare must be the JSON of ssd evaluate, with matches. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from None


def compare(first: Scored, second: Scored, resamples: int, seed: int = SEED) -> dict:
    """Differences, second minus first, with intervals of the same resampled images for both.

    Returns:
        {"voc07": {"mAP": row, "AP": {class: row}}, "voc10": the same, "coco": {"AP": row, ...}}; a
        row is {"first", "second", "difference", "interval"}.
    Raises:
        ValueError: the two are not of the same truth, classes and overlap.
    """
    _check_pair(first, second)
    values = [resample(s.voc, s.coco, resamples, seed, COCO) for s in (first, second)]
    means = [replicate_means(v) for v in values]
    out = {}
    for rule in ("voc07", "voc10"):
        scores = [s.scores[rule] for s in (first, second)]
        rows = {
            name: _row([s["AP"][name] for s in scores], values[1][rule][i] - values[0][rule][i])
            for i, name in enumerate(first.class_names)
        }
        mean = _row([s["mAP"] for s in scores], means[1][rule] - means[0][rule])
        out[rule] = {"mAP": mean, "AP": rows}
    coco = [s.scores["coco"] for s in (first, second)]
    out["coco"] = {
        name: _row([s[name] for s in coco], means[1][f"coco.{name}"] - means[0][f"coco.{name}"])
        for name in COCO
    }
    return out


def _check_pair(first: Scored, second: Scored) -> None:
    for key, what in (("sha256", "the same true boxes of the same classes"), ("iou", "the same overlap")):
        values = [s.scores["truth"].get(key) for s in (first, second)]
        if values[0] != values[1]:
            told = [
                f"{s.path} of {s.scores['truth']['data']}, split {s.scores['truth']['split']}"
                for s in (first, second)
            ]
            raise ValueError(f"two files to compare must be of {what}. Received: {' and '.join(told)}")


def _row(pair: list[float | None], differences: np.ndarray) -> dict:
    first, second = pair
    known = first is not None and second is not None
    difference = second - first if known else None
    return {
        "first": first,
        "second": second,
        "difference": difference,
        "interval": interval(differences) if known else None,
    }


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _checked(index: np.ndarray, limit: int) -> np.ndarray:
    if len(index) and int(index.max()) >= limit:
        raise ValueError(f"an index must be below {limit}. Received: {int(index.max())}")
    return index.astype(np.int64)


def _pack(values: np.ndarray) -> dict:
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes())).decode()
    return {"type": values.dtype.str, "count": values.size, "data": data}


def _unpack(packed: dict) -> np.ndarray:
    if packed["type"] not in ("<u4", "<u2", "|u1", "|i1"):
        raise ValueError(f"a column must be of whole numbers. Received: {packed['type']!r}")
    kind = np.dtype(packed["type"])
    size = int(packed["count"]) * kind.itemsize
    if not 0 <= size <= MAX_BYTES:
        raise ValueError(f"a column may have {MAX_BYTES} bytes. Received: {size}")
    try:
        # Never more than was announced: a small file may unpack to a huge one.
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(packed["data"], validate=True), size + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"a column must be compressed text ({error})") from None
    if len(data) != size:
        raise ValueError(f"a column must have {size} bytes. Received: {len(data)} or more")
    return np.frombuffer(data, dtype=kind)
