"""Export to OpenVINO: model.xml and model.bin in f32, bf16 or int8, suppression in the graph if wanted."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import openvino
from openvino import opset8 as ops

from ssd.anchors import make_anchors
from ssd.backend import keras
from ssd.card import ModelCard
from ssd.detector import Detector
from ssd.exporters.graph import batches, need_tensorflow
from ssd.images import load_image, preprocess
from ssd.parity import MAP_POINTS, mean_ap
from ssd.postprocess import CANDIDATES
from ssd.records import Sample
from ssd.runtimes.network import Options
from ssd.runtimes.openvino_file import FOUND, Compiled, OpenvinoNetwork

PRECISIONS = ("f32", "bf16", "int8")
RANKING = 80  # photos that each operation of an int8 network is tried on, where that loses too much


def write(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    pictures: list[np.ndarray],
    batch: int | None,
    nms: bool,
    control: list[Sample] | None = None,
) -> None:
    """Write model.xml and model.bin; see `ssd.export.export_model`.

    Args:
        control: labelled photos that accuracy control goes by; None: int8 without it.
    """
    graph = to_openvino(model, batch)
    if card.precision == "int8" and control:
        graph = quantise_with_control(graph, pictures, control, card)
    elif card.precision == "int8":
        graph = quantise(graph, pictures)
    graph = with_suppression(graph, card) if nms else graph
    # bf16 is what the runtime computes in; weights of half the size have more digits than that.
    openvino.save_model(graph, str(folder / "model.xml"), compress_to_fp16=card.precision == "bf16")


def to_openvino(model: keras.Model, batch: int | None = 1) -> openvino.Model:
    """Convert a Keras model, float32.

    Args:
        model: any functional model of one input.
        batch: pictures of one call; None: any number.
    Raises:
        ValueError: Keras does not run on TensorFlow, the one backend that converts.
    """
    need_tensorflow()
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32)
    return openvino.convert_model(function.get_concrete_function(spec))


def quantise(graph: openvino.Model, pictures: list[np.ndarray]) -> openvino.Model:
    """Quantise to int8 after training, calibrated on pictures.

    L2 normalisations stay in floating point: in eight bits the square of a small map is 0, and 0 / 0 follows.

    Args:
        graph: from `to_openvino`.
        pictures: (S, S, 3) float32, preprocessed as the network wants them; at least one.
    """
    import logging

    import nncf

    data = nncf.Dataset(batches(pictures))
    nncf.set_log_level(logging.ERROR)
    exact = nncf.IgnoredScope(names=normalisations(graph))
    return nncf.quantize(graph, data, subset_size=len(pictures), ignored_scope=exact)


def quantise_with_control(
    graph: openvino.Model, pictures: list[np.ndarray], samples: list[Sample], card: ModelCard
) -> openvino.Model:
    """`quantise`, then operations back to floating point until VOC07 mAP is within 0.5 points of float32.

    Args:
        graph: from `to_openvino`.
        pictures: as there.
        samples: labelled photos that mAP is measured on, many times.
        card: classes, anchors and preprocessing.
    """
    import logging

    import nncf

    def score(compiled: openvino.CompiledModel, some: Iterable[Sample]) -> tuple[float, None]:
        network = OpenvinoNetwork(Compiled(compiled, None), card, Options())
        return mean_ap(Detector(card, network), list(some)), None

    def prepare(sample: Sample) -> np.ndarray:
        return preprocess(load_image(sample.path), card.ssd_spec.image_size, card.preprocessing)[None]

    data = nncf.Dataset(batches(pictures))
    nncf.set_log_level(logging.ERROR)
    # Operations are ranked on the photos that int8 changes most; what comes of it is measured on all.
    some = nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=RANKING)
    return nncf.quantize_with_accuracy_control(
        graph,
        data,
        nncf.Dataset(samples, prepare),
        score,
        max_drop=MAP_POINTS,
        advanced_accuracy_restorer_parameters=some,
        subset_size=len(pictures),
        ignored_scope=nncf.IgnoredScope(names=normalisations(graph)),
    )


def normalisations(graph: openvino.Model) -> list[str]:
    """Names of the operations x / sqrt(sum(x * x) + epsilon), of every one in a graph."""
    names = []
    for node in graph.get_ops():
        if node.get_type_name() != "ReduceSum":
            continue
        chain = [node.input_value(0).get_node(), node]
        while chain[-1].get_type_name() in ("ReduceSum", "Add", "Power", "Sqrt"):
            chain.append(next(iter(chain[-1].output(0).get_target_inputs())).get_node())
        if chain[-1].get_type_name() == "Divide":
            names += [part.get_friendly_name() for part in chain]
    return names


def with_suppression(graph: openvino.Model, card: ModelCard) -> openvino.Model:
    """Add a third output, `found`: DetectionOutput on the limits of the card, as Caffe's SSD ends.

    It does what `ssd.postprocess.postprocess` does: softmax, decoding, cut to the image, the best 400 of a
    class, suppression, the best of all. Where scores are equal it may keep another of them.

    Args:
        graph: from `to_openvino` or `quantise`.
        card: its spec and limits.
    """
    class_logits, box_deltas = graph.outputs
    anchors = make_anchors(card.ssd_spec).reshape(1, 1, -1)
    variances = np.tile(np.float32(card.ssd_spec.variances), anchors.size // 4).reshape(1, 1, -1)
    flat = ops.constant(np.array([0, -1], np.int64))
    attributes = {
        "background_label_id": 0,
        "top_k": CANDIDATES,
        "keep_top_k": [card.max_detections],
        "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
        "share_location": True,
        "variance_encoded_in_target": False,
        "confidence_threshold": card.score_threshold,
        "nms_threshold": card.iou_threshold,
        "clip_before_nms": True,
        "clip_after_nms": False,
        "normalized": True,
    }
    found = ops.detection_output(
        ops.reshape(box_deltas.get_node().input_value(0), flat, special_zero=True),
        ops.reshape(ops.softmax(class_logits.get_node().input_value(0), axis=-1), flat, special_zero=True),
        ops.constant(np.concatenate([anchors, variances], axis=1).astype(np.float32)),
        attributes,
    )
    result = ops.result(found)
    result.set_friendly_name(FOUND)
    graph.add_results([result])
    graph.validate_nodes_and_infer_types()
    return graph
