"""The graph of a model as OpenVINO reads it: its twin in float32, and its weights by name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

from ssd.bench.layers import CONVS, NORM, SOURCES, Arrays, head, shapes
from ssd.spec import SSDSpec

CONVOLUTIONS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")


def read_graph(file: Path) -> openvino.Model:
    """The graph of model.xml, model.onnx, model.tflite or saved_model/, for one picture.

    Raises:
        ValueError: OpenVINO cannot read it.
    """
    try:
        graph = openvino.Core().read_model(file)
        shape = graph.input(0).get_partial_shape()
        if shape.is_dynamic or shape[0].get_length() != 1:
            graph.reshape([1, *(d.get_length() for d in list(shape)[1:])])
        return graph
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"OpenVINO must read the graph. Received: {file} ({reason})") from None


def float32_graph(graph: openvino.Model) -> openvino.Model:
    """The same network without quantisation: its weights as numbers of float32, its maps not rounded.

    Args:
        graph: from `read_graph`; it is changed.
    """
    weights = {node: node.input_value(1) for node in _weighted(graph)}
    arrays = _values([output for output in weights.values() if _is_constant(output)])
    for node, output in weights.items():
        if _is_constant(output):
            constant = ops.constant(arrays.pop(0).astype(np.float32))
            node.input(1).replace_source_output(constant.output(0))
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            node.output(0).replace(node.input_value(0))
    graph.validate_nodes_and_infer_types()
    return graph


def read_arrays(graph: openvino.Model, spec: SSDSpec, num_classes: int) -> Arrays:
    """Kernels, biases and the scale of an SSD300 with VGG16, as float32.

    Args:
        graph: from `read_graph`; its first two results are class_logits and box_deltas.
        spec, num_classes: of the model.
    Raises:
        ValueError: the graph is another network.
    """
    found = {}
    for kind, result in zip(("conf", "loc"), graph.outputs, strict=False):
        for source, output in zip(SOURCES, _heads(result.get_node()), strict=False):
            found[head(source, kind)] = next(_convs_behind(output), None)
    last, first = (found.get(head(source, "loc")) for source in (SOURCES[-1], SOURCES[0]))
    trunk = list(_convs_behind(last.input_value(0)))[::-1] if last else []
    found |= dict(zip((row.name for row in CONVS), trunk, strict=False))
    wanted = shapes(spec, num_classes)
    has = {name: tuple(node.input_value(1).get_shape()) for name, node in found.items() if node}
    has[NORM] = wanted[NORM]
    if has != wanted or len(trunk) != len(CONVS):
        raise ValueError("the graph must be an SSD300 with VGG16. Received: another network")
    outputs = [output for node in found.values() for output in (node.input_value(1), _bias(node))]
    *values, scale = _values([*outputs, _scale(first)])
    arrays = dict(
        zip(found, zip(values[::2], (v.reshape(-1) for v in values[1::2]), strict=True), strict=True)
    )
    return arrays | {NORM: (scale.reshape(-1),)}


def _weighted(graph: openvino.Model) -> list:
    return [node for node in graph.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS]


def _is_constant(output) -> bool:
    """Whether nothing of the picture goes in."""
    node = output.get_node()
    if node.get_type_name() == "Parameter":
        return False
    return all(_is_constant(value) for value in node.input_values())


def _values(outputs: list) -> list[np.ndarray]:
    """The numbers of constant outputs, whatever they are computed from."""
    core = openvino.Core()
    compiled = core.compile_model(openvino.Model(outputs, []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({})
    return [np.array(results[i], np.float32) for i in range(len(outputs))]


def _behind(node):
    """The output that a node with one input of the picture works on; None at the picture."""
    return next((value for value in node.input_values() if not _is_constant(value)), None)


def _convs_behind(output) -> Iterator:
    """The convolutions that lead to an output, last one first."""
    while output is not None:
        node = output.get_node()
        if node.get_type_name() == "Convolution":
            yield node
        output = _behind(node)


def _heads(node) -> list:
    """Inputs of the concatenation in front of a result."""
    while node is not None and node.get_type_name() != "Concat":
        behind = _behind(node)
        node = behind.get_node() if behind is not None else None
    return node.input_values() if node else []


def _bias(conv):
    """What is added to a convolution."""
    for target in conv.output(0).get_target_inputs():
        if target.get_node().get_type_name() == "Add":
            return next(v for v in target.get_node().input_values() if _is_constant(v))
    raise ValueError("a convolution must have a bias. Received: one without in the graph")


def _scale(conv):
    """The scale a channel on the way from conv4_3 to its head."""
    output = conv.input_value(0)
    while output is not None and output.get_node().get_type_name() != "Convolution":
        node = output.get_node()
        for value in node.input_values():
            if (
                node.get_type_name() == "Multiply"
                and _is_constant(value)
                and np.prod(value.get_shape()) == 512
            ):
                return value
        output = _behind(node)
    raise ValueError("the graph must scale conv4_3. Received: one that does not")
