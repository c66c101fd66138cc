"""Frozen layers, run once: the model split in front and back, the front compiled, its maps cached.

When a stage trains only the layers behind some point, everything before it is a constant function
of the picture. `split_model` finds that point, `CompiledFront` runs the front through OpenVINO
(int8 unless told otherwise), and `FeatureCache` keeps its maps for K augmented views on disk.
"""

import hashlib
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ssd.backend import keras


def split_model(model: keras.Model, trainable: set[str]) -> tuple[keras.Model | None, keras.Model]:
    """Split a model where its first trainable layers start; both parts share its layers.

    Args:
        model: a functional model with one input.
        trainable: names of the layers that a stage trains.
    Returns:
        front: picture -> list of feature maps, no trainable layer in it; None where the first
            layer is trainable. back: those maps (or the picture) -> the outputs of the model.
    """
    frozen = _frozen_prefix(model, trainable)
    frontier = _frontier(model, frozen)
    if [t.name for t in frontier] == [t.name for t in model.inputs]:
        return None, model
    inputs = [keras.Input(t.shape[1:], dtype="float32") for t in frontier]
    known = {id(t): new for t, new in zip(frontier, inputs, strict=True)}
    for layer in model.layers:
        if layer.name in frozen:
            continue
        node = _node(model, layer)
        arguments = [known[id(t)] for t in node.input_tensors]
        known[id(node.output_tensors[0])] = layer(arguments[0] if len(arguments) == 1 else arguments)
    outputs = [known[id(t)] for t in model.outputs]
    return keras.Model(model.input, frontier), keras.Model(inputs, outputs, name=model.name)


class CompiledFront:
    """The frozen front in OpenVINO: a preprocessed picture in, its feature maps out.

    Args:
        front: first part of `split_model`.
        pictures: a few preprocessed (S, S, 3) float32 pictures; given, the front is quantised to
            int8 with them as calibration; None runs float32.
    """

    def __init__(self, front: keras.Model, pictures: list[np.ndarray] | None) -> None:
        import openvino

        from ssd.exporters.openvino_file import quantise, to_openvino

        graph = to_openvino(front)
        graph = quantise(graph, pictures) if pictures else graph
        # Without the hint OpenVINO rounds to bfloat16 whatever is not int8, where the CPU has it.
        self._compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._lock = threading.Lock()  # a compiled model serves one caller at a time
        self.shapes = [tuple(t.shape[1:]) for t in front.outputs]

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """(S, S, 3) preprocessed -> one (h, w, c) float32 map an output of the front."""
        with self._lock:
            results = self._compiled(picture[None])
            return [np.array(results[i][0]) for i in range(len(self.shapes))]


class FeatureCache:
    """Maps and truth of augmented views, in float16 files of one folder, written once.

    Views already written are kept when the same cache is opened again, so building it resumes; a
    cache of other pictures, seed or weights is refused by its key.

    Args:
        folder: where the files lie; made if missing.
        shapes: (h, w, c) of each map.
        views: how many views there are in all.
        key: whatever the content depends on, as plain data.
    Raises:
        ValueError: the folder holds a cache with another key.
    """

    def __init__(self, folder: str | Path, shapes: list[tuple], views: int, key: dict) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        header = {"key": key, "views": views, "shapes": [list(s) for s in shapes]}
        self._check(json.loads(json.dumps(header)))
        self._check_room(2 * views * sum(math.prod(s) for s in shapes))
        self._maps = [self._open(f"map{i}.f16", "float16", (views, *s)) for i, s in enumerate(shapes)]
        self._done = self._open("done.u8", "uint8", (views,))
        self._truth = self.folder / "truth"
        self._truth.mkdir(exist_ok=True)

    def __len__(self) -> int:
        return len(self._done)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk of the full cache."""
        return sum(store.nbytes for store in self._maps)

    def missing(self) -> list[int]:
        """Indices of the views that are not written yet."""
        return [int(i) for i in np.flatnonzero(self._done == 0)]

    def fill(self, make_view: Callable, indices: Iterable[int]) -> Iterator[int]:
        """Write views one by one, yielding each index when it is safely on disk.

        Args:
            make_view: index -> (list of maps, boxes (N, 4), labels (N,)).
            indices: the views to make.
        Raises:
            ValueError: a feature is beyond float16's 65,504.
        """
        for i in indices:
            maps, boxes, labels = make_view(i)
            for store, value in zip(self._maps, maps, strict=True):
                if (largest := np.abs(value).max()) > np.finfo(np.float16).max:
                    raise ValueError(
                        "cached features must lie within float16's range; take --cache-views 0. "
                        f"Received: {largest:.0f} in view {i}"
                    )
                store[i] = value
            np.savez(self._truth / f"{i}.npz", boxes=boxes, labels=labels)
            self._done[i] = 1  # last: a view counts only when all of it is there
            yield i

    def __getitem__(self, i: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Maps (float32), boxes and labels of view i."""
        with np.load(self._truth / f"{i}.npz", allow_pickle=False) as truth:
            boxes, labels = truth["boxes"], truth["labels"]
        return [np.asarray(store[i], dtype=np.float32) for store in self._maps], boxes, labels

    def _check(self, header: dict) -> None:
        file = self.folder / "cache.json"
        if not file.exists():
            file.write_text(json.dumps(header))
        elif json.loads(file.read_text()) != header:
            raise ValueError(f"a cache must be of the same pictures and weights. Received: {self.folder}")

    def _check_room(self, size: int) -> None:
        """Raise OSError where the disk has no room for the whole cache, before an hour is spent on it."""
        there = sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in self.folder.glob("map*.f16"))
        free = shutil.disk_usage(self.folder).free
        if size - there > free:
            raise OSError(
                f"the disk must have room for the cached features: {size / 1e9:.1f} GB. Received: "
                f"{free / 1e9:.1f} GB free in {self.folder}; take fewer --cache-views or another --cache"
            )

    def _open(self, name: str, dtype: str, shape: tuple) -> np.memmap:
        file = self.folder / name
        return np.memmap(file, dtype, "r+" if file.exists() else "w+", shape=shape)


def frozen_features(
    front: keras.Model,
    views: Callable,
    val_views: Callable,
    precision: str,
    cache_views: int,
    folder: Path,
    say: Callable,
    track: Callable,
    beside: Callable | None = None,
) -> tuple[Callable, Callable]:
    """Put the compiled front behind views, through a cache on disk if wanted.

    Args:
        front: first part of `split_model`.
        views, val_views: `ssd.batches.Views` of training and validation.
        precision: "int8", calibrated on training pictures, or "f32".
        cache_views: views of each training sample to cache; 0: none, the front runs every time.
        folder: where caches lie.
        say, track: as in `ssd.train.train`.
        beside: gives more maps of each training picture, (H, W, 3) uint8, and has their `shapes` and a `key`.
    Returns:
        two functions, view index -> (maps, boxes, labels).
    """
    pictures = None
    if precision == "int8":
        say("quantising the frozen layers to int8")
        plain, step = views.plain(), max(1, len(views.samples) // CALIBRATION)
        pictures = [plain(i)[0] for i in range(0, len(views.samples), step)]
    compiled = CompiledFront(front, pictures)
    both = (
        (views, cache_views, "training", beside),
        (val_views, min(cache_views, 1), "validation", None),
    )
    getters = []
    for source, repeats, text, more in both:
        through = _through(compiled, source, more)
        if not repeats:
            getters.append(through)
            continue
        key = source.key | {"front": digest(front), "precision": precision} | (more.key if more else {})
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        count = len(source.samples) * repeats
        shapes = [*compiled.shapes, *(more.shapes if more else [])]
        cache = FeatureCache(folder / f"{count}-views-{name}", shapes, count, key)
        missing = cache.missing()
        say(f"{text} features: {count} views, {cache.size_bytes / 1e9:.1f} GB in {cache.folder}")
        for _ in track(cache.fill(through, missing), f"{text} features", len(missing)):
            pass
        getters.append(cache.__getitem__)
    return getters[0], getters[1]


CALIBRATION = 24  # pictures that int8 is calibrated on; ImageNet features need no more


def leading_to(model: keras.Model, name: str) -> tuple[keras.KerasTensor, set[str]]:
    """What a layer of a model gives, and the names of all layers that this takes, its own too."""
    tensor = _node(model, model.get_layer(name)).output_tensors[0]
    found, wanted = set(), {id(tensor)}
    for layer in model.layers[::-1]:
        node = _node(model, layer)
        if wanted & {id(t) for t in node.output_tensors}:
            found.add(layer.name)
            wanted |= {id(t) for t in node.input_tensors}
    return tensor, found


def _through(compiled: CompiledFront, source: Callable, beside: Callable | None) -> Callable:
    def get(i: int) -> tuple:
        if beside:
            image, boxes, labels = source.picture(i)
            maps = [*compiled(source.prepare(image)), *beside(image)]
        else:
            picture, boxes, labels = source(i)
            maps = compiled(picture)
        if not all(np.isfinite(values).all() for values in maps):
            photo = source.samples[i % len(source.samples)].path
            raise ValueError(
                "the frozen layers must give finite features; take --front keras. "
                f"Received: NaN or infinity in view {i}, made of {photo}"
            )
        return maps, boxes, labels

    return get


def digest(front: keras.Model) -> str:
    """A hash of all weights of a model."""
    digest = hashlib.sha256()
    for weight in front.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _node(model: keras.Model, layer: keras.layers.Layer):
    """The call of a layer inside this model (a layer may have been called elsewhere too)."""
    own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    return next(node for node in layer._inbound_nodes if id(node) in own)


def _frozen_prefix(model: keras.Model, trainable: set[str]) -> set[str]:
    """Names of the layers that no trainable layer feeds and that are not trainable themselves."""
    frozen, constant = set(), {id(t) for t in model.inputs}
    for layer in model.layers:
        inputs = _node(model, layer).input_tensors
        if layer.name not in trainable and all(id(t) in constant for t in inputs):
            frozen.add(layer.name)
            constant |= {id(t) for t in _node(model, layer).output_tensors}
    return frozen


def _frontier(model: keras.Model, frozen: set[str]) -> list[keras.KerasTensor]:
    """The tensors that leave the frozen part: in the order of the layers that take them, then outputs."""
    made = {
        id(t) for layer in model.layers if layer.name in frozen for t in _node(model, layer).output_tensors
    }
    taken = {}
    for layer in model.layers:
        if layer.name not in frozen:
            taken |= {id(t): t for t in _node(model, layer).input_tensors if id(t) in made}
    taken |= {id(t): t for t in model.outputs if id(t) in made}
    return list(taken.values())
