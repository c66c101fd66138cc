"""The ear in Keras' `fit`: tells a watcher of each step, times it, and stops at a loss that is not finite."""

import math
import statistics
import time

import numpy as np

from ssd.backend import COMPILES, keras
from ssd.batches import Batches
from ssd.loss import ConfidenceLoss, LocationLoss, MatchedAccuracy
from ssd.records import Sample
from ssd.stages import Stage
from ssd.watcher import Watcher

# Keras' names of what `fit` reports -> ours.
LOGS = {
    "loss": "loss",
    "class_logits_loss": "confidence_loss",
    "box_deltas_loss": "location_loss",
    "class_logits_acc": "acc",
    "class_logits_matched_acc": "matched_acc",
}
_REMEDY = (
    "The state on disk is from before it. Try a lower learning rate, a smaller clip_norm in the "
    "recipe, or look for faults in the labels of these photos"
)


class Steps(keras.callbacks.Callback):
    """Listens to one epoch, which may be fitted in several parts.

    Args:
        watcher: told of each step.
        batches: that are fitted.
        samples: that they are made of.
        epoch: from 1, for errors.
        logs: Keras' names of what is reported -> ours.
    Raises:
        ValueError: in `fit`, when a loss or, at the end of a part, a weight is not finite.
    """

    def __init__(
        self,
        watcher: Watcher,
        batches: Batches,
        samples: list[Sample],
        epoch: int,
        logs: dict[str, str] = LOGS,
    ) -> None:
        super().__init__()
        self._logs = logs
        self._watcher, self._batches, self._samples, self._epoch = watcher, batches, samples, epoch
        self._seconds: list[float] = []
        self._before = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._before = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.monotonic()
        if hasattr(self.model, "jax_state_sync"):  # on JAX the variables are empty while `fit` runs
            self.model.jax_state_sync()
        self._seconds.append(now - self._before)
        self._before = now
        own = {name: float(logs[key]) for key, name in self._logs.items()}
        if not math.isfinite(own[self._logs["loss"]]):
            terms = [name for name in own if name.endswith("_loss") and not math.isfinite(own[name])]
            self._fail(" and ".join(f"{name} {own[name]}" for name in terms or ["loss"]), "the loss", batch)
        self._watcher.batch_ended({"learning_rate": rate(self.model.optimizer), **own})

    def on_train_end(self, logs: dict | None = None) -> None:
        # A last step can break what no later loss of this part would show.
        for weight in self.model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._fail(f"{weight.path} after", "every weight", len(self._batches) - 1)

    def pace(self) -> dict[str, float]:
        """Median seconds a step, waiting for photos included, and images/s over all steps.

        The first step is left out of images/s where there are more: it builds the graph.
        """
        counted = self._seconds[1:] or self._seconds
        total = min(self._batches.batch_size, self._batches.count) * len(counted)
        return {
            "seconds_a_step": round(statistics.median(self._seconds), 4),
            "images_per_s": round(total / sum(counted), 3),
        }

    def _fail(self, received: str, what: str, batch: int) -> None:
        photos = ", ".join(str(self._samples[i].path) for i in self._batches.sample_indices(batch))
        place = f"batch {self._batches.first + batch + 1} of {self._batches.total} in epoch {self._epoch}"
        raise ValueError(
            f"{what} must be finite. Received: {received} at {place}, made of {photos}. {_REMEDY}"
        )


def compile_stage(back: keras.Model, optimizer: keras.Optimizer, stage: Stage) -> None:
    """Give a model, or its part behind the frozen layers, the losses of a stage and its optimiser."""
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="acc")
    metrics = [[accuracy, MatchedAccuracy(name="matched_acc")], []]
    confidence = ConfidenceLoss(stage.negative_ratio, stage.label_smoothing)
    losses = [confidence, LocationLoss(stage.location_weight)]
    back.compile(optimizer, loss=losses, metrics=metrics, jit_compile=COMPILES)
    optimizer.build(back.trainable_variables)


def rate(optimizer: keras.Optimizer) -> float:
    """The learning rate of its next step."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
