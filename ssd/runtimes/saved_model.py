"""TensorFlow runs the folder saved_model/."""

import threading
from operator import attrgetter
from pathlib import Path

import numpy as np
import tensorflow as tf

from ssd.card import ModelCard
from ssd.runtimes.network import Options, Outputs, check_batch


class SavedModelNetwork:
    """The serving signature of a SavedModel; see `ssd.runtimes.network.Network`."""

    limits, streams = None, 1

    def __init__(self, folder: Path, card: ModelCard, options: Options) -> None:
        check_file(folder)
        self.about = f"tensorflow {card.precision}"
        self._model = tf.saved_model.load(str(folder))
        self._run = self._model.signatures["serving_default"]
        _check_operations(self._run.graph.as_graph_def(), OPERATIONS, folder)
        (self._name, spec), *_ = self._run.structured_input_signature[1].items()
        self.batch = check_batch(spec.shape[0], options, folder)
        self._lock = threading.Lock()

    def __call__(self, batch: np.ndarray) -> Outputs:
        with self._lock:
            results = self._run(**{self._name: tf.constant(batch)})
        return Outputs(results["class_logits"].numpy(), results["box_deltas"].numpy())


# What a detector is made of; what else a graph can do, such as reading files, has no place here.
OPERATIONS = frozenset(
    """Add AddV2 AvgPool BatchToSpaceND BiasAdd Cast ConcatV2 Const Conv2D ExpandDims
    FusedBatchNormV3 Identity MaxPool Mul NoOp Pack Pad PadV2 PartitionedCall Placeholder
    ReadVariableOp RealDiv Relu Reshape Rsqrt Shape SpaceToBatchND Sqrt Square Squeeze
    StatefulPartitionedCall StridedSlice Sub Sum Transpose""".split()
)
# What TensorFlow puts beside it to store and restore the variables; never part of the signature.
STORING = frozenset(
    """AssignVariableOp DisableCopyOnRead MergeV2Checkpoints RestoreV2 SaveV2 Select ShardedFilename
    StaticRegexFullMatch StringJoin VarHandleOp VarIsInitializedOp""".split()
)

_FUNCTIONS = attrgetter("library.function")  # of a GraphDef


def check_file(folder: Path) -> None:
    """Refuse a SavedModel with operations that no detector has, before anything of it is loaded.

    Raises:
        ValueError: it has some, or is no SavedModel.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise ValueError(f"a SavedModel must be readable. Received: {folder} ({error})") from None
    for part in saved.meta_graphs:
        _check_operations(part.graph_def, OPERATIONS | STORING, folder)


def _check_operations(graph: object, allowed: frozenset, folder: Path) -> None:
    nodes = [*graph.node, *(node for function in _FUNCTIONS(graph) for node in function.node_def)]
    if strange := sorted({node.op for node in nodes} - allowed):
        raise ValueError(
            "a SavedModel must have the operations of a detector alone. "
            f"Received: {', '.join(strange)} in {folder}"
        )


def load(folder: Path, card: ModelCard, options: Options) -> SavedModelNetwork:
    """Open a SavedModel; see `ssd.runtimes.network.open_network`."""
    try:
        return SavedModelNetwork(folder, card, options)
    except (OSError, KeyError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"TensorFlow must accept the model. Received: {folder} ({reason})") from None
