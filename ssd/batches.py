"""Training input: samples -> augmented, preprocessed, encoded batches, in Keras' worker threads."""

import hashlib
from collections.abc import Callable

import numpy as np

from ssd.anchors import encode_targets, make_anchors
from ssd.augment import SSDAugmentation, mosaic
from ssd.backend import keras
from ssd.card import file_sha256
from ssd.images import load_image, preprocess
from ssd.records import Sample
from ssd.spec import Preprocessing, SSDSpec


class Views:
    """Augmented views of samples: view i is sample i modulo N, and the same at every call.

    Args:
        samples: N labelled pictures.
        spec: decides the size.
        preprocessing: the extractor's.
        seed: every view follows from it and its index.
        max_expand: of the augmentation; None: no augmentation at all, for validation.
        mosaic: share of the views that are put together from this sample's and three others.
    """

    def __init__(
        self,
        samples: list[Sample],
        spec: SSDSpec,
        preprocessing: Preprocessing,
        seed: int = 0,
        max_expand: float | None = 4.0,
        mosaic: float = 0.0,
    ) -> None:
        self.samples, self.spec, self.seed, self.max_expand = samples, spec, seed, max_expand
        self.mosaic = mosaic
        self.preprocessing = preprocessing
        self._augment = SSDAugmentation(spec.image_size, max_expand) if max_expand else None

    def __call__(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """View i: (S, S, 3) float32 preprocessed, (M, 4) boxes, (M,) labels."""
        image, boxes, labels = self.picture(i)
        return self.prepare(image), boxes, labels

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (S, S, 3) float32 preprocessed."""
        return preprocess(image, self.spec.image_size, self.preprocessing)

    def picture(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """View i before preprocessing: (H, W, 3) uint8, (M, 4) boxes, (M,) labels."""
        rng = np.random.default_rng([self.seed, i]) if self._augment and self.mosaic else None
        if rng and rng.random() < self.mosaic:
            chosen = [i, *rng.integers(len(self.samples), size=3)]
            parts = [self._view(n, [self.seed, i, place]) for place, n in enumerate(chosen, start=2)]
            return mosaic(parts, tuple(rng.uniform(0.3, 0.7, 2)))
        return self._view(i, [self.seed, i])

    def _view(self, i: int, seeds: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A view of sample i, before preprocessing."""
        sample = self.samples[i % len(self.samples)]
        image, boxes, labels = load_image(sample.path), sample.boxes, sample.labels
        if self._augment:
            seed = np.random.SeedSequence(seeds).generate_state(1)[0]
            image, boxes, labels = self._augment(image, boxes, labels, int(seed))
        return image, boxes, labels

    def with_mosaic(self, share: float) -> "Views":
        """The same with another share of mosaics."""
        return Views(self.samples, self.spec, self.preprocessing, self.seed, self.max_expand, share)

    def plain(self) -> "Views":
        """The same samples without augmentation."""
        return Views(self.samples, self.spec, self.preprocessing, max_expand=None)

    @property
    def key(self) -> dict:
        """What the views depend on, as plain data, for a cache."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.image_id} {file_sha256(sample.path)} ".encode())
            digest.update(sample.boxes.tobytes() + sample.labels.tobytes())
        plain = {"seed": self.seed, "max_expand": self.max_expand, "spec": self.spec.name}
        if self.mosaic:  # a cache from before there was one stays good
            plain["mosaic"] = self.mosaic
        return plain | {"samples": digest.hexdigest()}


class Batches(keras.utils.PyDataset):
    """Batches of an epoch, in an order that follows from seed and epoch alone.

    Epoch e takes the views e * N to e * N + N - 1, so no view is seen twice; `views_per_sample`
    repeats them after that many epochs, as a cache must.

    Args:
        get: view index -> (inputs of the network, boxes, labels); inputs are one array or a list.
        count: samples N.
        spec: decides the anchors.
        batch_size: the last batch of an epoch may be smaller.
        seed: of the order; None keeps the order of the samples.
        views_per_sample: different views there are of each sample; None: endless.
        drop_rest: leave out a last batch that is smaller.
        workers: threads that prepare batches, at least 2: by a single one Keras has TensorFlow's own thread
            do it, and an error within `fit` then waits for that thread for ever. On JAX the main thread does
            it: Keras looks at a first batch there, and its threads then give that one and others twice.
    """

    def __init__(
        self,
        get: Callable,
        count: int,
        spec: SSDSpec,
        batch_size: int,
        seed: int | None = None,
        views_per_sample: int | None = None,
        drop_rest: bool = False,
        workers: int = 2,
    ) -> None:
        threads = max(2, workers) if keras.backend.backend() == "tensorflow" else 1
        super().__init__(workers=threads, max_queue_size=4)
        self._get, self.count, self._spec = get, count, spec
        self.batch_size, self.seed, self.views_per_sample = batch_size, seed, views_per_sample
        self._anchors = make_anchors(spec)
        self._drop_rest = drop_rest and count >= batch_size
        self.start_epoch(0)

    def start_epoch(self, epoch: int, first: int = 0, last: int | None = None) -> None:
        """Draw the order of an epoch, and take only its batches from `first` to before `last`."""
        view_set = epoch if self.views_per_sample is None else epoch % self.views_per_sample
        order = np.arange(self.count)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        self._order = order + view_set * self.count
        self.first, self._last = first, last

    @property
    def total(self) -> int:
        """Batches of a whole epoch."""
        return self.count // self.batch_size if self._drop_rest else -(-self.count // self.batch_size)

    def __len__(self) -> int:
        return (self.total if self._last is None else self._last) - self.first

    def __getitem__(self, index: int) -> tuple:
        """Inputs; target classes (B, A) and box targets (B, A, 5): box_deltas and matched or not."""
        return self.share(index, 0, 1)

    def share(self, index: int, device: int, devices: int) -> tuple:
        """The part of batch `index` that one of `devices` takes: equal stretches, in their order."""
        chosen = self._views(index)
        size = len(chosen) // devices
        rows = [self._get(int(i)) for i in chosen[device * size : (device + 1) * size]]
        inputs = [row[0] if isinstance(row[0], list) else [row[0]] for row in rows]
        stacked = [np.stack(maps) for maps in zip(*inputs, strict=True)]
        return (stacked[0] if len(stacked) == 1 else tuple(stacked)), self.targets(rows)

    def targets(self, rows: list[tuple]) -> object:
        """What the network must give for these rows of `get`."""
        targets = [encode_targets(self._spec, self._anchors, boxes, labels) for _, boxes, labels in rows]
        classes = np.stack([c for c, _ in targets])
        deltas = np.stack([d for _, d in targets])
        matched = (classes > 0)[..., None].astype(np.float32)
        return classes, np.concatenate([deltas, matched], axis=-1)

    def sample_indices(self, index: int) -> list[int]:
        """Which samples batch `index` is made of."""
        return [int(i) % self.count for i in self._views(index)]

    def _views(self, index: int) -> np.ndarray:
        index += self.first
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]
