"""The work of a network: two operations a multiply-add of its convolutions and matrix products."""

from math import prod

import openvino


def graph_flops(graph: openvino.Model) -> int:
    """Operations of one run of a graph; biases, pooling, softmax and suppression are not counted.

    62.7 * 10^9 for SSD300 with VGG16 and 20 classes.

    Raises:
        ValueError: a shape in it is not known.
    """
    total = 0
    for node in graph.get_ordered_ops():
        if (kind := node.get_type_name()) not in _FLOPS:
            continue
        values = node.input_value(0), node.input_value(1), node.output(0)
        if any(value.get_partial_shape().is_dynamic for value in values):
            raise ValueError(f"every shape must be known to count. Received: {node.get_friendly_name()}")
        total += _FLOPS[kind](*(list(value.get_shape()) for value in values), node)
    return total


def keras_flops(model: object) -> int:
    """The same for a Keras model of convolutions and dense layers, for one picture."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += keras_flops(layer)
        elif hasattr(layer, "kernel"):
            # A transposed convolution meets its kernel once a cell of its input, others of their output.
            side = layer.input if "Transpose" in type(layer).__name__ else layer.output
            total += 2 * prod(layer.kernel.shape) * prod(side.shape[1:-1])
    return total


def conv_flops(kernel: list[int], cells: list[int], batch: int = 1) -> int:
    """Of a convolution.

    Args:
        kernel: shape (out, in, rows, columns).
        cells: rows and columns of its output.
        batch: pictures.
    """
    return 2 * batch * prod(kernel) * prod(cells)


def _conv(data: list, kernel: list, out: list, node: object) -> int:
    return conv_flops(kernel, out[2:], out[0])


def _transposed(data: list, kernel: list, out: list, node: object) -> int:
    return conv_flops(kernel, data[2:], data[0])


def _product(data: list, weights: list, out: list, node: object) -> int:
    return 2 * prod(out) * (data[-2] if node.get_attributes()["transpose_a"] else data[-1])


_FLOPS = {
    "Convolution": _conv,
    "GroupConvolution": _conv,
    "ConvolutionBackpropData": _transposed,
    "MatMul": _product,
}
