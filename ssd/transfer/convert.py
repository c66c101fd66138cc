"""What must happen to a tensor of a file before it fits a layer of the model.

Each conversion is a text for the ledger and a function on arrays; on an array that is all one
element they are as good as free, which is how a plan checks shapes without reading.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssd.transfer.classes import ClassMap
from ssd.transfer.weightfile import Tensor, WeightFile


@dataclass(frozen=True)
class Conversion:
    """One step: what it is called, and what it does to an array."""

    text: str
    apply: Callable[[np.ndarray], np.ndarray]


def conversions(
    file: WeightFile,
    tensor: Tensor,
    canonical: str | None,
    shape: tuple[int, ...],
    channel_order: str,
    classes: ClassMap | None,
) -> list[Conversion]:
    """The steps from a tensor to a layer of the model.

    Args:
        file: for how its kernels stand.
        tensor: of a layer of the file.
        canonical: name of that layer.
        shape: of the model's tensor; it decides only between a dense layer and a convolution.
        channel_order: that the model is fed.
        classes: how heads of other classes are carried over.
    Returns:
        steps, possibly none; whether the result fits is not checked here.
    Raises:
        ValueError: it is not known whether the kernels are turned.
    """
    steps = _layout_steps(file, tensor)
    if canonical == "conv1_1" and tensor.role == "kernel" and file.channel_order != channel_order:
        steps.append(Conversion(f"{file.channel_order} to {channel_order}", lambda a: a[:, :, ::-1]))
    if canonical and "_mbox_loc" in canonical and file.delta_order == "yxhw":
        steps.append(Conversion("(dy, dx, dh, dw) to (dx, dy, dw, dh)", _swap_deltas))
    steps += _shape_steps(file, tensor, canonical, shape)
    if canonical and "_mbox_conf" in canonical and classes and not classes.is_identity:
        kept = len(classes.columns) - 1 - len(classes.new)
        steps.append(Conversion(f"{kept} classes kept, {len(classes.new)} new", classes.apply))
    return steps


def converted_shape(shape: tuple[int, ...], steps: list[Conversion]) -> tuple[int, ...] | None:
    """The shape after all steps; None if a step cannot take it."""
    array = np.broadcast_to(np.float16(0), shape)
    try:
        for step in steps:
            array = step.apply(array)
    except (ValueError, IndexError):
        return None
    return array.shape


def convert(tensor: Tensor, steps: list[Conversion]) -> np.ndarray:
    """Read a tensor and take all steps.

    Raises:
        ValueError: it is damaged, or holds a number that is not finite.
    """
    with np.errstate(over="ignore"):  # told below
        array = np.asarray(tensor.read()).astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        count = int(np.size(array) - np.isfinite(array).sum())
        raise ValueError(f"tensor {tensor.name} must be finite. Received: {count:,} NaN or infinite numbers")
    for step in steps:
        array = step.apply(array)
    return np.ascontiguousarray(array, dtype=np.float32)


def _layout_steps(file: WeightFile, tensor: Tensor) -> list[Conversion]:
    """To rows, columns, inputs, outputs; or inputs, outputs."""
    steps = []
    if len(tensor.shape) == 4:
        space = tensor.shape[:2] if tensor.layout == "HWIO" else tensor.shape[2:]
        if space != (1, 1) and file.flipped is None:
            raise ValueError(
                "it must be known whether Theano wrote the kernels, turned by 180 degrees: "
                f"--written-by theano or tensorflow. Received: {file.path}, which does not tell"
            )
        if space != (1, 1) and file.flipped:
            axes = (0, 1) if tensor.layout == "HWIO" else (2, 3)
            steps.append(Conversion("turned by 180 degrees", lambda a: np.flip(a, axes)))
    if tensor.layout == "OIHW":
        steps.append(Conversion("OIHW to HWIO", lambda a: a.transpose(2, 3, 1, 0)))
    if tensor.layout == "OI":
        steps.append(Conversion("transposed", lambda a: a.T))
    return steps


def _shape_steps(file: WeightFile, tensor: Tensor, canonical: str | None, shape: tuple) -> list[Conversion]:
    """Between dense layers and convolutions, and from VGG16's fc6 and fc7 to SSD's."""
    axes, kernel = len(tensor.shape), tensor.role == "kernel"
    if canonical in ("fc6", "fc7") and shape[-1] == 1024 and 4096 in tensor.shape:
        if not kernel:
            return [Conversion("every 4th", lambda a: a[::4])]
        steps = []
        if canonical == "fc6":
            if axes == 2:
                steps.append(Conversion(f"unflattened ({file.flatten})", _UNFLATTEN[file.flatten]))
            return [*steps, Conversion("every 3rd tap, every 4th output", lambda a: a[::3, ::3, :, ::4])]
        thin = Conversion("every 4th", lambda a: a.reshape(1, 1, *a.shape[-2:])[:, :, ::4, ::4])
        return [thin]
    if kernel and axes == 4 and len(shape) == 2:  # Caffe's convolutions on the 1x1 map of pool6
        return [Conversion("centre tap", lambda a: a[a.shape[0] // 2, a.shape[1] // 2])]
    if kernel and axes == 2 and len(shape) == 4:
        return [Conversion("dense to 1x1", lambda a: a.reshape(1, 1, *a.shape))]
    return []


_UNFLATTEN = {
    "HWC": lambda a: a.reshape(7, 7, 512, -1),
    "CHW": lambda a: a.reshape(512, 7, 7, -1).transpose(1, 2, 0, 3),
}


def _swap_deltas(array: np.ndarray) -> np.ndarray:
    boxes = array.reshape(*array.shape[:-1], -1, 4)
    return boxes[..., [1, 0, 3, 2]].reshape(array.shape)
