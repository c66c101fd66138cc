"""Bottleneck features: the frozen base run once over the pictures, its maps kept in one HDF5 file.

The file holds, a group a split, `features` (N, h, w, c), `labels` and `names` in their order, and in an
attribute what they depend on: network, weights, preprocessing and hashes. It is written beside its name
and renamed when all is there; an interrupted one goes on.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from ssd.backend import keras
from ssd.classify.batches import prepare
from ssd.classify.data import MAX_BYTES, ImageSet, load_pixels, pixels_digest
from ssd.classify.network import split_top
from ssd.classify.spec import Network
from ssd.classify.start import make_classifier
from ssd.download import untracked
from ssd.features import CALIBRATION, digest

FRONTS = ("keras", "f32", "bf16", "int8")  # how the base runs
STORES = ("float32", "float16")
BATCH = 32
_META = "ssd_features"


@dataclass(frozen=True)
class Features:
    """What a file of features holds."""

    meta: dict  # network, class_names, data, weights, seed, base, front, store, preprocessing, pictures
    parts: dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]]  # split -> features, labels, names

    @property
    def network(self) -> Network:
        """Of which they are the base's maps; its top is nobody's yet."""
        return Network(**self.meta["network"])


def write_features(
    path: str | Path,
    network: Network,
    parts: dict[str, ImageSet],
    weights: str | None,
    *,
    data: str = "",
    seed: int = 0,
    front: str = "keras",
    store: str = "float32",
    say: Callable = print,
    track: Callable = untracked,
) -> Path:
    """Run the frozen base over all pictures and store its maps.

    Args:
        path: of the file; one that is there is never replaced.
        network: its extractor and input stage count; noise does nothing here.
        parts: split -> images.
        weights: as in `ssd.classify.start.make_classifier`.
        data: where the images came from.
        seed: of random weights.
        front: "keras" gives what live training gives; compiled: "f32" (the same to float error), "bf16" and
            "int8" are faster and less exact.
        store: type of the numbers in the file.
        say, track: as in `ssd.train.train`.
    Returns:
        the path.
    Raises:
        ValueError, OSError: pictures, weights or path do not do.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"features must go to a new file. Received: {path}, which exists")
    if front not in FRONTS or store not in STORES:
        raise ValueError(f"front must be of {FRONTS}, store of {STORES}. Received: {front!r}, {store!r}")
    first = next(iter(parts.values()))
    model, _ = make_classifier(network, first.class_names, weights, seed, say, track)
    base, _ = split_top(model)
    pixels = {
        split: load_pixels(images, network.image_size, track, f"reading {split}")
        for split, images in parts.items()
    }
    meta = {
        "network": asdict(network),
        "class_names": list(first.class_names),
        "data": data,
        "weights": _where(weights),
        "seed": seed,
        "base": digest(base),
        "front": front,
        "store": store,
        "preprocessing": asdict(network.preprocessing),
        "pictures": {split: pixels_digest(parts[split], pixels[split]) for split in parts},
    }
    meta = json.loads(json.dumps(meta))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".part-{path.name}")
    with _open(beside, meta, parts, base.output.shape[1:], store, say) as file:
        run = _front(base, front, pixels[next(iter(parts))], network)
        for split in parts:
            _fill(file[split], run, pixels[split], network, track, f"features of {split}")
    beside.replace(path)
    return path


def read_features(path: str | Path) -> Features:
    """Read a file of features into memory.

    Raises:
        ValueError: it is none, damaged or larger than the memory may take.
        OSError: it is missing.
    """
    meta, path = read_meta(path), Path(path)  # it is whole and never written again: no locks
    try:
        with h5py.File(path, "r", locking=False) as file:
            total = sum(file[split]["features"].nbytes for split in meta["pictures"])
            if total > MAX_BYTES:
                raise ValueError(f"{total / 1e9:.1f} GB of features; {MAX_BYTES / 1e9:.1f} GB at most")
            parts = {split: _read_part(file[split]) for split in meta["pictures"]}
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"features must be as ssd classify features writes them. Received: {path} ({error})"
        ) from None
    return Features(meta, parts)


def read_meta(path: str | Path) -> dict:
    """What a file of features depends on. Raises ValueError, OSError: as `read_features`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"a file of features must exist. Received: {path}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            meta = json.loads(file.attrs[_META])
        Network(**meta["network"])
        if not {"class_names", "data", "weights", "seed", "base", "pictures"} <= set(meta):
            raise ValueError("its head is not whole")
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"features must be as ssd classify features writes them. Received: {path} ({error})"
        ) from None
    return meta


def classifier_of(
    features: Features, network: Network, say: Callable = print, track: Callable = untracked
) -> tuple[keras.Model, set[str]]:
    """The whole classifier whose base made the features, with a random top.

    Raises:
        ValueError: its base is not the same any more.
    """
    meta = features.meta
    names = tuple(meta["class_names"])
    model, _ = make_classifier(network, names, meta["weights"], meta["seed"], say, track)
    base, top = split_top(model)
    if digest(base) != meta["base"]:
        raise ValueError(
            f"the base must be that of the features. Received: other weights in {meta['weights']}"
        )
    return model, {layer.name for layer in top.layers if layer.weights}


def _open(beside: Path, meta: dict, parts: dict, shape: tuple, store: str, say: Callable) -> h5py.File:
    """The unfinished file, that of an interrupted call if it has the same content."""
    if beside.exists():
        try:
            file = h5py.File(beside, "r+")
            if json.loads(file.attrs[_META]) == meta:
                say(f"going on with {beside}")
                return file
            file.close()
        except (OSError, KeyError, ValueError):
            pass  # it was killed before it had a head
    size = sum(len(images) for images in parts.values()) * int(np.prod(shape)) * np.dtype(store).itemsize
    if size > shutil.disk_usage(beside.parent).free:
        raise OSError(
            f"the disk must have room for {size / 1e9:.1f} GB of features. Received: {beside.parent}"
        )
    file = h5py.File(beside, "w")
    for split, images in parts.items():
        group = file.create_group(split)
        group.create_dataset("features", (len(images), *shape), store)
        group["labels"] = images.labels
        group["names"] = np.frombuffer("\n".join(images.names).encode(), np.uint8)
        group["done"] = np.zeros(1, np.int64)
    file.attrs[_META] = json.dumps(meta)
    file.flush()
    return file


def _fill(
    group: h5py.Group, run: Callable, pixels: np.ndarray, network: Network, track: Callable, text: str
) -> None:
    starts = range(int(group["done"][0]), len(pixels), BATCH)
    for start in track(starts, text, len(starts)):
        end = min(start + BATCH, len(pixels))
        group["features"][start:end] = run(prepare(pixels[start:end], network.preprocessing))
        group.file.flush()
        group["done"][0] = end  # last: rows count only when they are there
        group.file.flush()


def _front(base: keras.Model, front: str, pixels: np.ndarray, network: Network) -> Callable:
    if front == "keras":
        return base.predict_on_batch
    import openvino

    from ssd.exporters.openvino_file import quantise, to_openvino

    graph = to_openvino(base, batch=None)
    if front == "int8":
        step = max(1, len(pixels) // CALIBRATION)
        graph = quantise(graph, list(prepare(pixels[::step], network.preprocessing)))
    hint = {} if front == "int8" else {"INFERENCE_PRECISION_HINT": front}
    compiled = openvino.Core().compile_model(graph, "CPU", hint)
    return lambda pictures: compiled(pictures)[0]


def _read_part(group: h5py.Group) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    features, labels = group["features"][...], group["labels"][...].astype(np.int64)
    names = tuple(group["names"][...].tobytes().decode("utf-8").split("\n"))
    if not len(features) == len(labels) == len(names) == int(group["done"][0]):
        raise ValueError(f"{group.name} is not whole")
    return features, labels, names


def _where(weights: str | None) -> str | None:
    return str(Path(weights).resolve()) if weights and Path(weights).exists() else weights
