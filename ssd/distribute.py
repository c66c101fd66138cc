"""More than one device: the same training over several of a machine, or over several processes.

Every device takes an equal share of each batch and holds all weights. What is divided by the matches
of a batch, and the norm that clips gradients, are of the whole batch, so N devices train as one does.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from ssd.backend import keras

_EXAMPLE = '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'


def sum_over_devices(values: object) -> object:
    """Within a training step on one of N devices: the sum over all N; elsewhere the values themselves.

    Args:
        values: a tensor or a list of tensors.
    """
    if keras.backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


class Devices:
    """What a training runs on; made before anything else touches TensorFlow.

    The variable TF_CONFIG, where it names several workers, makes this process one of them. They are
    all given the same command; the first writes the run folder, which all of them must see.

    Args:
        count: devices of this machine: its GPUs, or parts of its CPU if there are none.
    Raises:
        ValueError: TF_CONFIG is wrong, there are fewer devices, or Keras does not run on TensorFlow.
    """

    def __init__(self, count: int = 1) -> None:
        self.workers, self.worker = _read_tf_config()
        self._strategy, self._error = None, None
        if self.workers == 1 and count == 1:
            return
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "more than one device needs KERAS_BACKEND=tensorflow. Received: " + keras.backend.backend()
            )
        if self.workers > 1 and count > 1:
            raise ValueError(
                f"devices must be 1 beside TF_CONFIG: a worker takes its GPUs. Received: {count}"
            )
        self._strategy = _join_workers() if self.workers > 1 else _mirror(count)
        self._sum_up = _make_sum(self._strategy)

    @property
    def count(self) -> int:
        """Devices of all workers together."""
        return self._strategy.num_replicas_in_sync if self._strategy else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.worker == 0

    def check(self, batch_size: int, samples: int) -> None:
        """Refuse batches that do not divide equally. Raises ValueError."""
        if batch_size % self.count:
            raise ValueError(
                f"batch_size must be a multiple of the {self.count} devices. Received: {batch_size}"
            )
        if self.count > 1 and samples < batch_size:
            raise ValueError(
                f"a batch must be full on {self.count} devices. Received: batch_size {batch_size} and "
                f"{samples} training images"
            )

    def scope(self) -> AbstractContextManager:
        """Where models, and optimisers with their variables, must be made."""
        return self._strategy.scope() if self._strategy else nullcontext()

    def alone(self, model: keras.Model) -> keras.Model:
        """The same layers as a model that one process can run by itself, for validation."""
        return keras.Model(model.inputs, model.outputs) if self._strategy else model

    def fit(self, model: keras.Model, batches: object, callbacks: list) -> dict[str, list[float]]:
        """Keras' `fit` over `ssd.batches.Batches`: its history.

        Raises:
            OSError: another worker is gone.
        """
        options = {"epochs": 1, "verbose": 0, "shuffle": False, "callbacks": callbacks}
        if not self._strategy:
            return model.fit(batches, **options).history
        example = batches.share(0, 0, self.count)
        if model.train_function is None:  # since the last `compile`
            _make_train_function(model, self._strategy, example)
        with self._named_errors():
            shares = _shares(batches, example, self._strategy, self._keep_error)
            return model.fit(shares, steps_per_epoch=len(batches), **options).history

    def from_chief(self, call: Callable) -> object:
        """Call on the first worker alone; all get its result, which is plain data, and wait for it."""
        if self.workers == 1:
            return call()
        text = json.dumps(call()).encode() if self.is_chief else b""
        with self._named_errors():
            place = np.zeros(int(self._sum(np.int32(len(text)))), np.int32)
            place[: len(text)] = list(text)
            return json.loads(bytes(self._sum(place).tolist()))

    @contextmanager
    def chief_first(self) -> Iterator[None]:
        """A block that the first worker leaves before the others enter it: they find its files."""
        if not self.is_chief:
            self.from_chief(_nothing)
        yield
        if self.is_chief:
            self.from_chief(_nothing)

    def agree(self, **parts: object) -> None:
        """Refuse to train unless every worker has what the first has, as plain data.

        Raises:
            ValueError: a part differs.
        """
        parts = json.loads(json.dumps(parts))
        first = self.from_chief(lambda: parts)
        if other := [name for name, value in parts.items() if value != first[name]]:
            raise ValueError(
                f"every worker must start with the same {', '.join(other)} as the first. "
                f"Received: others in worker {self.worker}"
            )

    def _sum(self, value: np.ndarray) -> np.ndarray:
        total = self._strategy.experimental_local_results(self._sum_up(value))[0].numpy()
        return total // (self.count // self.workers)  # each device of a worker brought the same

    def _keep_error(self, error: Exception) -> None:
        self._error = error

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """TensorFlow wraps what went wrong in a batch, and what it says of a lost worker is long."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            if self._error:
                raise self._error from None
            if self.workers > 1:
                raise OSError(
                    "every worker must stay to the end; start all again, with --resume. "
                    f"Received: {type(error).__name__} in worker {self.worker}"
                ) from None
            raise


def _read_tf_config() -> tuple[int, int]:
    """How many workers there are, and which this is."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 1, 0
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        jobs = [(kind, i) for kind in ("chief", "worker") for i in range(len(cluster.get(kind, [])))]
        return len(jobs), jobs.index((task["type"], int(task["index"])))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"TF_CONFIG must look like {_EXAMPLE}. Received: {text}") from None


def _join_workers() -> object:
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy()


def _mirror(count: int) -> object:
    import tensorflow as tf

    gpus, (cpu, *_) = (tf.config.list_physical_devices(kind) for kind in ("GPU", "CPU"))
    if gpus and len(gpus) < count:
        raise ValueError(f"devices must be at most the {len(gpus)} GPUs of this machine. Received: {count}")
    if not gpus and len(tf.config.get_logical_device_configuration(cpu) or []) != count:
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            raise ValueError(f"devices must be told before TensorFlow runs. Received: {count}") from None
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(count)])


def _make_sum(strategy: object) -> Callable:
    import tensorflow as tf

    def sum_up(value: tf.Tensor) -> tf.Tensor:
        return sum_over_devices(tf.identity(value))  # a copy that lies on a device

    return tf.function(lambda value: strategy.run(sum_up, args=(value,)), reduce_retracing=True)


def _make_train_function(model: keras.Model, strategy: object, example: tuple) -> None:
    """What `fit` calls for a step, in place of Keras' own.

    With several processes Keras 3.15 builds from a batch that is not gathered, and takes the mean
    of a number over its first axis; both end in an error.
    """
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def step(iterator: object) -> dict:
        logs = strategy.run(model.train_step, args=(next(iterator),))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

    with strategy.scope():
        model._symbolic_build(data_batch=example)
    model.train_function = step
    model._maybe_symbolic_build = _nothing


def _shares(batches: object, example: tuple, strategy: object, keep_error: Callable) -> object:
    """Each device's share of each batch, as `fit` takes it; prepared by `batches.workers` threads."""
    import tensorflow as tf

    devices = strategy.num_replicas_in_sync
    flat = tf.nest.flatten(example)

    def read(place: np.ndarray, device: int) -> list:
        try:
            return tf.nest.flatten(batches.share(int(place), device, devices))
        except Exception as error:
            keep_error(error)
            raise

    def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        own = devices // context.num_input_pipelines
        first = context.input_pipeline_id * own

        def load(i: tf.Tensor) -> tuple:
            arrays = tf.numpy_function(read, [i // own, first + i % own], [a.dtype for a in flat])
            shaped = [tf.ensure_shape(x, a.shape) for x, a in zip(arrays, flat, strict=True)]
            return tf.nest.pack_sequence_as(example, shaped)

        indices = tf.data.Dataset.range(len(batches) * own)
        return indices.map(load, num_parallel_calls=batches.workers, deterministic=True).prefetch(2)

    return strategy.distribute_datasets_from_function(dataset)


def _nothing(*_: object, **__: object) -> None:
    pass
