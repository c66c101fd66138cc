"""Optimisers and schedules of a stage: what Caffe and Keras mean by them, said once."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ssd.backend import keras
from ssd.distribute import sum_over_devices
from ssd.stages import Stage

NO_DECAY = ("bias", "gamma", "beta")  # weight decay is for kernels alone
_DROP = 0.1  # of the learning rate, at a step or on a plateau


class LayerRates:
    """For an optimiser: a factor of the learning rate in some layers. Mixed in before it.

    Args:
        factors: path of a variable -> factor; 1 for every other.
        coupled_decay: times a kernel is added to its gradient, as Caffe's weight decay; it then goes
            through the momentum, as Keras' own, decoupled one does not.
        held: paths of variables whose gradient is set to zero and that do not move, as a hook of Chainer's
            optimisers did; until `release`.
        start_share: of the weights that it was built with in those that `averaged` and `keep_averages` give.
            Source: Wortsman et al. 2022, arXiv:2109.01903 (WiSE-FT), section 3.
    """

    def __init__(
        self,
        *args: object,
        factors: dict[str, float],
        coupled_decay: float = 0.0,
        held: frozenset[str] = frozenset(),
        start_share: float = 0.0,
        **options: object,
    ) -> None:
        super().__init__(*args, **options)
        self._factors, self._coupled_decay = dict(factors), coupled_decay
        self._held, self._start_share = frozenset(held), start_share
        self._starts: list = []

    def build(self, variables: list) -> None:
        if not self.built and self._start_share:
            # Among the optimiser's own variables they are stored and restored with its state.
            self._starts = [self.add_variable_from_reference(v, name="start") for v in variables]
            for start, variable in zip(self._starts, variables, strict=True):
                start.assign(_copy(variable))
        super().build(variables)

    def averages(self) -> list[tuple]:
        """(variable, its numbers as they are validated and kept); nothing where those are its own."""
        if not (self.use_ema or self._start_share):
            return []
        ends = self._model_variables_moving_average if self.use_ema else self._trainable_variables
        rows = []
        for i, (variable, end) in enumerate(zip(self._trainable_variables, ends, strict=True)):
            value = _copy(end)
            if self._start_share:
                value += self._start_share * (_copy(self._starts[i]) - value)
            rows.append((variable, value))
        return rows

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        # Keras clips on each device and adds up afterwards; the norm must be that of the sum.
        known = iter(sum_over_devices([grad for grad in grads if grad is not None]))
        grads = [grad if grad is None else next(known) for grad in grads]
        if self._held:  # before they are clipped: what is held must not count in their norm
            variables = trainable_variables or self._trainable_variables
            pairs = zip(grads, variables, strict=True)
            grads = [keras.ops.zeros_like(g) if v.path in self._held else g for g, v in pairs]
        super().apply(grads, trainable_variables)

    def finalize_variable_values(self, var_list: list) -> None:
        """Nothing: Keras would put the averages into the model after every `fit`, which is a part of an epoch
        here, and training would go on from them; see `averaged` and `keep_averages`."""

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:
        return grads_and_vars  # `apply` did

    def update_step(self, gradient: object, variable: object, learning_rate: object) -> None:
        # On TensorFlow this is a bare tf.Variable; the optimizer knows which of ours it is.
        own = self._trainable_variables[self._get_variable_index(variable)]
        if own.path in self._held:
            return
        if self._coupled_decay and own.name not in NO_DECAY:
            gradient = gradient + self._coupled_decay * keras.ops.cast(own, gradient.dtype)
        factor = self._factors.get(own.path, 1.0)
        super().update_step(gradient, variable, learning_rate * factor)

    def _use_weight_decay(self, variable: object) -> bool:
        own = self._trainable_variables[self._get_variable_index(variable)]
        return own.path not in self._held and super()._use_weight_decay(variable)

    def release(self) -> None:
        """Let go of what is held; the training step must be made anew to know of it."""
        self._held = frozenset()


class AdamW(LayerRates, keras.optimizers.AdamW):
    """AdamW with a factor of the learning rate in some layers."""


class Adam(LayerRates, keras.optimizers.Adam):
    """Adam likewise."""


class SGD(LayerRates, keras.optimizers.SGD):
    """SGD with momentum likewise; with `coupled_decay` it is Caffe's solver."""


def make_optimizer(
    stage: Stage, steps: int, factors: dict[str, float], held: frozenset[str] = frozenset()
) -> keras.Optimizer:
    """The optimiser of a stage with its schedule.

    Args:
        stage: what is asked for.
        steps: batches of the whole stage.
        factors: of `variable_factors`.
        held: paths of variables that do not move until `LayerRates.release`.
    """
    options: dict = {"factors": factors, "held": held, "global_clipnorm": stage.clip_norm or None}
    if stage.ema:
        options |= {"use_ema": True, "ema_momentum": stage.ema}
    options["start_share"] = stage.start_share
    rate = learning_rate(stage, steps)
    if stage.optimizer == "sgd":
        return SGD(rate, momentum=0.9, coupled_decay=stage.weight_decay, **options)
    if stage.optimizer == "adam":
        return Adam(rate, coupled_decay=stage.weight_decay, **options)
    optimizer = AdamW(rate, weight_decay=stage.weight_decay, **options)
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer


def variable_factors(model: keras.Model, factors: dict[str, float]) -> dict[str, float]:
    """Factors of layers as factors of their variables, those inside a nested model too.

    Args:
        model: the detector.
        factors: name of a top-level layer -> factor of its learning rate.
    """
    rows = [(model.get_layer(name), factor) for name, factor in factors.items()]
    return {variable.path: factor for layer, factor in rows for variable in layer.weights}


def learning_rate(stage: Stage, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over the steps of a stage; of "plateau" its start.

    "cosine" rises linearly from a twentieth of the peak, then falls to a hundredth; "exponential"
    is multiplied by `decay` after each epoch; "multistep" by 0.1 after each share in `drops`.
    """
    schedules, peak = keras.optimizers.schedules, stage.learning_rate
    if stage.schedule == "cosine":
        warm_up = max(1, int(stage.warm_up * steps))
        return schedules.CosineDecay(
            peak / 20, max(1, steps - warm_up), alpha=0.01, warmup_target=peak, warmup_steps=warm_up
        )
    if stage.schedule == "exponential":
        epoch = max(1, steps // stage.epochs)
        return schedules.ExponentialDecay(peak, epoch, stage.decay, staircase=True)
    if stage.schedule == "multistep":
        # Keras keeps a value up to and including its boundary.
        places = [max(0, int(drop * steps) - 1) for drop in stage.drops]
        return schedules.PiecewiseConstantDecay(places, [peak * _DROP**i for i in range(len(places) + 1)])
    return peak


def plateau_rate(stage: Stage, val_losses: list[float], factor: float = _DROP, least: float = 0.0) -> float:
    """Learning rate of the next epoch of a "plateau" schedule.

    Args:
        stage: for its start rate and `plateau`.
        val_losses: of the epochs of this stage so far; or any number that should fall.
        factor: of the rate at a plateau.
        least: rate below which it does not fall.
    Returns:
        the start rate, times `factor` for each time that `plateau` epochs in a row brought no lower loss.
    """
    rate, best, waited = stage.learning_rate, float("inf"), 0
    for loss in val_losses:
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == stage.plateau:
            rate, waited = max(least, rate * factor), 0
    return rate


def has_converged(stage: Stage, val_maps: list[float]) -> bool:
    """Whether the last `patience` epochs of a stage brought no higher mAP; never with patience 0."""
    if not stage.patience or len(val_maps) <= stage.patience:
        return False
    return max(val_maps[-stage.patience :]) <= max(val_maps[: -stage.patience])


@contextmanager
def averaged(optimizer: keras.Optimizer) -> Iterator[None]:
    """Put the averaged weights into the model for a while, if a stage has `ema` or `start_share`."""
    averages = optimizer.averages()
    kept = [(variable, _copy(variable)) for variable, _ in averages]
    _assign(averages)
    try:
        yield
    finally:
        _assign(kept)


def keep_averages(optimizer: keras.Optimizer) -> None:
    """Put the averaged weights into the model for good."""
    _assign(optimizer.averages())


def _assign(rows: list[tuple]) -> None:
    for variable, value in rows:
        variable.assign(value)


def _copy(variable: keras.Variable) -> np.ndarray:
    """Its numbers: two variables of JAX that share an array are both gone after the next step."""
    return np.array(keras.ops.convert_to_numpy(variable))
