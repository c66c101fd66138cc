"""A compiled model of this program: its weights, those in int8 as the float32 numbers they stand for.

So a training goes on from a model that is shipped compiled alone, as the default is. The convolutions are
found in the graph of model.xml from the heads backwards.
"""

from pathlib import Path

from ssd.bench.layers import NORM, shapes
from ssd.runtimes.network import read_model_card
from ssd.transfer.weightfile import Layer, Tensor, WeightFile, check_total, make_tensor

FILE = "model.xml"
_ROLES = (("kernel", "OIHW"), ("bias", "C"))


def is_compiled(start: bytes) -> bool:
    """Whether a file begins as OpenVINO's graphs do."""
    return start.startswith((b"<?xml", b"<net "))


def read_compiled(path: Path) -> WeightFile:
    """Every convolution and the scale of conv4_3, float32.

    Args:
        path: model.xml, with model.bin and card.json beside it.
    Raises:
        FileNotFoundError: there is no card beside it.
        ValueError: a file is not as its card says, or the network is no uncut SSD300 with VGG16.
    """
    from ssd.bench.graph import read_arrays, read_graph  # OpenVINO, which other files do not need

    card = read_model_card(path)
    if (card.backbone, card.cut) != ("vgg16", None):
        raise ValueError(
            "weights are read from compiled models of uncut VGG16 alone; take the checkpoint of another. "
            f"Received: {path} with {card.backbone}{f' cut at {card.cut}' if card.cut else ''}"
        )
    spec, count = card.ssd_spec, len(card.class_names)
    arrays = read_arrays(read_graph(path), spec, count)
    layers = [
        Layer(i, name, _tensors(name, arrays[name]), name) for i, name in enumerate(shapes(spec, count))
    ]
    check_total(layers, path)
    note = f"compiled in {card.precision}, read as float32"
    return WeightFile(
        path, f"compiled model ({card.precision})", tuple(layers), ordered=False, card=card, notes=(note,),
        clip=spec.clip, channel_order=card.preprocessing.channel_order,
        files=(path, path.with_suffix(".bin")),
    )  # fmt: skip


def _tensors(name: str, values: tuple) -> tuple[Tensor, ...]:
    roles = (("scale", "C"),) if name == NORM else _ROLES
    return tuple(
        make_tensor(f"{name}/{role}", role, array.shape, array.dtype, layout, lambda a=array: a)
        for (role, layout), array in zip(roles, values, strict=True)
    )
