"""SSD300 with VGG16 as an ONNX file in float32, any batch: what ONNX Runtime and OpenCV read."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssd.bench.layers import EPSILON, NORM, SOURCES, TRUNK, Arrays, Conv, Pool, head

OPSET, IR = 13, 8  # old enough for every runtime in use


def write_onnx(path: Path, arrays: Arrays, num_classes: int) -> Path:
    """Write the network.

    Args:
        path: of the file.
        arrays: weights, from `ssd.bench.graph.read_arrays` or `ssd.bench.layers.random_arrays`.
        num_classes: without background.
    Returns:
        `path`: (B, 3, 300, 300) "image" -> "class_logits" (B, A, C + 1), "box_deltas" (B, A, 4).
    """
    nodes, names, last = [], {}, "image"
    for row in TRUNK:
        nodes += _conv(row, last) if isinstance(row, Conv) else [_pool(row, last)]
        names[row.name] = last = row.name
    nodes += _norm("conv4_3")
    names["conv4_3"] = NORM
    for kind, values, out in (("conf", num_classes + 1, "class_logits"), ("loc", 4, "box_deltas")):
        heads = [head(source, kind) for source in SOURCES]
        for source, name in zip(SOURCES, heads, strict=True):
            nodes += _head(name, names[source], f"{kind}_shape")
        nodes.append(helper.make_node("Concat", heads, [out], axis=1))
        arrays = arrays | {f"{kind}_shape": (np.array([0, -1, values], np.int64),)}
    arrays = arrays | {"epsilon": (np.full((1, 1, 1, 1), EPSILON, np.float32),)}
    arrays |= {NORM: (arrays[NORM][0].reshape(1, -1, 1, 1),), "channels": (np.array([1], np.int64),)}
    outputs = [
        _value("class_logits", ["batch", None, num_classes + 1]),
        _value("box_deltas", ["batch", None, 4]),
    ]
    graph = helper.make_graph(
        nodes, "ssd300", [_value("image", ["batch", 3, 300, 300])], outputs, _constants(arrays)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.save(model, str(path))
    return path


def _value(name: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _constants(arrays: Arrays) -> list:
    """Name -> tensors "name.0", "name.1"."""
    return [
        numpy_helper.from_array(np.ascontiguousarray(array), f"{name}.{i}")
        for name, some in arrays.items()
        for i, array in enumerate(some)
    ]


def _conv(row: Conv, x: str) -> list:
    return [
        _convolution(row.name, x, f"{row.name}.raw", row),
        helper.make_node("Relu", [f"{row.name}.raw"], [row.name]),
    ]


def _convolution(name: str, x: str, out: str, row: Conv) -> onnx.NodeProto:
    options = {"strides": [row.stride] * 2, "pads": [row.padding] * 4, "dilations": [row.dilation] * 2}
    return helper.make_node(
        "Conv", [x, f"{name}.0", f"{name}.1"], [out], name, kernel_shape=[row.size] * 2, **options
    )


def _pool(row: Pool, x: str) -> onnx.NodeProto:
    options = {"strides": [row.stride] * 2, "pads": [row.padding] * 4, "ceil_mode": 1}
    return helper.make_node("MaxPool", [x], [row.name], row.name, kernel_shape=[row.size] * 2, **options)


def _norm(x: str) -> list:
    make = helper.make_node
    return [
        make("Mul", [x, x], ["norm.square"]),
        make("ReduceSum", ["norm.square", "channels.0"], ["norm.sum"], keepdims=1),
        make("Add", ["norm.sum", "epsilon.0"], ["norm.safe"]),
        make("Sqrt", ["norm.safe"], ["norm.length"]),
        make("Div", [x, "norm.length"], ["norm.unit"]),
        make("Mul", ["norm.unit", f"{NORM}.0"], [NORM]),
    ]


def _head(name: str, x: str, shape: str) -> list:
    return [
        _convolution(name, x, f"{name}.raw", Conv(name, 0)),
        helper.make_node("Transpose", [f"{name}.raw"], [f"{name}.last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{name}.last", f"{shape}.0"], [name]),
    ]
