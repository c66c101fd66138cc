"""Batches of pictures or of stored features, made in Keras' input thread."""

from collections.abc import Callable

import numpy as np

from ssd.backend import keras
from ssd.spec import Preprocessing


class ClassBatches(keras.utils.PyDataset):
    """Batches of an epoch, in an order and with changes that follow from seed and epoch alone.

    Args:
        get: (rows, random generator) -> inputs of the network, (B, ...) float32.
        labels: (N,) int64.
        batch_size: the last batch may be smaller.
        column: labels as (B, 1) floats, for one output with sigmoid.
        seed: of the order; None keeps the order of the samples.
        drop_rest: leave out a last batch that is smaller.
    """

    def __init__(
        self,
        get: Callable,
        labels: np.ndarray,
        batch_size: int,
        *,
        column: bool = False,
        seed: int | None = None,
        drop_rest: bool = False,
    ) -> None:
        super().__init__(workers=1, max_queue_size=4)
        self._get, self._labels, self._column, self._seed = get, labels, column, seed
        self.batch_size, self.count, self.first = batch_size, len(labels), 0
        self._drop_rest = drop_rest and self.count >= batch_size
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch."""
        self._epoch, self._order = epoch, np.arange(self.count)
        if self._seed is not None:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self.count)

    @property
    def total(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch_size if self._drop_rest else -(-self.count // self.batch_size)

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        # The draws do not depend on which thread asks for which batch first.
        rng = np.random.default_rng([self._seed or 0, self._epoch, index])
        labels = self._labels[rows]
        return self._get(rows, rng), labels[:, None].astype(np.float32) if self._column else labels

    def sample_indices(self, index: int) -> list[int]:
        """Which samples batch `index` is made of."""
        return self._order[index * self.batch_size : (index + 1) * self.batch_size].tolist()


def from_pixels(pixels: np.ndarray, preprocessing: Preprocessing, augment: dict[str, float]) -> Callable:
    """What `ClassBatches` gets its inputs from: decoded pictures, changed if wanted, preprocessed."""

    def get(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        batch = pixels[rows]
        return prepare(change(batch, augment, rng) if augment else batch, preprocessing)

    return get


def from_features(features: np.ndarray) -> Callable:
    """The same for stored features."""
    return lambda rows, rng: features[rows].astype(np.float32, copy=False)


def change(pixels: np.ndarray, augment: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Mirrored by half and shifted up to a share of the sides, edges repeated: (B, H, W, 3) anew."""
    count, height, width = pixels.shape[:3]
    reach = augment.get("shift", 0.0)
    down, right = (
        rng.integers(-round(reach * side), round(reach * side) + 1, count) for side in (height, width)
    )
    rows = np.clip(np.arange(height) + down[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
    if "mirror" in augment:
        turned = rng.random(count) < 0.5
        columns = np.where(turned[:, None], width - 1 - columns, columns)
    return pixels[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def prepare(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """(B, H, W, 3) uint8 RGB -> float32 as the extractor wants it, as `ssd.images.preprocess` does it."""
    turned = pixels[..., ::-1] if preprocessing.channel_order == "BGR" else pixels
    return (turned - np.float32(preprocessing.mean)) * np.float32(preprocessing.scale)
