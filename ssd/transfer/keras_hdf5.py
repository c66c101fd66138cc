"""Legacy Keras HDF5: Keras 0.x, 1.x, 2.x and what Keras 3 writes as .h5.

Layouts: keras-team/keras 0.3.3 models.py, 1.2.2 engine/topology.py, 2.2.4 engine/saving.py,
3.15 legacy/saving/legacy_h5_format.py.
"""

import json
import re
from collections import Counter
from pathlib import Path

import h5py

from ssd.card import card_from_json
from ssd.transfer.hdf5 import child, group, has, number, strings, tensor, text
from ssd.transfer.names import VGG, canonical_name
from ssd.transfer.weightfile import CARD, MAX_TENSORS, Layer, Tensor, WeightFile, check_total

# The last word of a weight's name -> its role. Keras 1 keeps a variance in running_std.
_ROLES = {
    "W": "kernel", "kernel": "kernel", "b": "bias", "bias": "bias", "gamma": "gamma", "beta": "beta",
    "moving_mean": "mean", "running_mean": "mean", "moving_variance": "variance", "running_std": "variance",
    "weights": "scale",
}  # fmt: skip
_WEIGHT = re.compile(rf"(?:(.*)[/_])?({'|'.join(_ROLES)})(?:_\d+)?(?::\d+)?")


def is_keras_hdf5(file: h5py.File) -> bool:
    """Whether this reader knows the file."""
    root = group(file, "model_weights") if has(file, "model_weights") else file
    return bool({"nb_layers", "layer_names", "layer_names0"} & set(root.attrs))


def read_keras_hdf5(file: h5py.File, path: Path) -> WeightFile:
    """Every layer of a legacy file in its `layer_names` order.

    Raises:
        ValueError: the file is damaged, or holds what no layer of Keras holds.
    """
    root = group(file, "model_weights") if has(file, "model_weights") else file
    if "nb_layers" in root.attrs:
        return _read_keras0(root, path)
    version = text(root.attrs, "keras_version") or text(file.attrs, "keras_version") or "1"
    backend = text(root.attrs, "backend") or text(file.attrs, "backend")
    names = strings(root.attrs, "layer_names")
    if len(set(names)) != len(names):
        raise ValueError(
            f"layer names must be unique. Received: {Counter(names).most_common(1)[0][0]} twice in {path}"
        )
    members = [(name, group(root, name)) for name in names]
    weights = []
    for _, member in members:
        weights.append(strings(member.attrs, "weight_names"))
        if sum(map(len, weights)) > MAX_TENSORS:
            raise ValueError(f"a weight file must hold at most {MAX_TENSORS:,} tensors. Received: {path}")
    flat = [weight for some in weights for weight in some]
    keras1 = any(re.search(r"_[Wb](_\d+)?(:\d+)?$", weight) for weight in flat)
    ordering = _ordering(members, weights, _config_orderings(file, path)) if keras1 else "tf"
    layers = []
    for index, ((name, member), own) in enumerate(zip(members, weights, strict=True)):
        layers += _layers(index, name, member, own, ordering)
    layers = name_by_shape(layers)
    check_total(layers, path)
    found = WeightFile(
        path,
        "Keras 1 HDF5" if keras1 else f"Keras {version.split('.')[0]} HDF5",
        tuple(layers),
        flipped=_flipped(backend, flat, keras1),
        flatten="CHW" if ordering == "th" else "HWC",
    )
    return with_card(found, text(file.attrs, CARD))


def name_by_shape(layers: list[Layer]) -> list[Layer]:
    """Canonical names for files without usable names: VGG16 by its shapes, InceptionV3 by its order."""
    weighted = [layer for layer in layers if layer.tensors]
    if is_inception(layers):
        counts = {"conv": 0, "bn": 0}
        names = {}
        for layer in weighted:
            if layer.canonical:
                continue
            if layer.tensors[0].layout in ("HWIO", "OIHW"):
                kind = "conv"
            elif {"beta", "mean", "variance"} <= {t.role for t in layer.tensors}:
                kind = "bn"
            else:
                continue
            names[layer.name] = f"inception_v3/{kind}{counts[kind]}"
            counts[kind] += 1
    elif any(layer.canonical for layer in weighted) or not _is_vgg(weighted):
        return layers
    else:
        names = dict(zip((w.name for w in weighted), (*VGG, "fc6", "fc7", "fc8"), strict=False))
    return [_renamed(layer, names.get(layer.name, layer.canonical)) for layer in layers]


def with_card(file: WeightFile, stored: str | None) -> WeightFile:
    """The same file with the card that this project stored in it, and its channel order.

    Raises:
        ValueError: the card is damaged.
    """
    if stored:
        file.card = card_from_json(stored, str(file.path))
        file.channel_order = file.card.preprocessing.channel_order
    elif is_inception(list(file.layers)):
        file.channel_order = "RGB"
    return file


def is_inception(layers: list[Layer]) -> bool:
    """Whether the convolutions begin as InceptionV3's do: 3 -> 32 -> 32 -> 64 channels, no bias."""
    unknown = [layer.tensors for layer in layers if layer.tensors and not layer.canonical]
    kernels = [tensors for tensors in unknown if len(tensors[0].shape) == 4]
    starts = [(_outputs(t[0]), len(t)) for t in kernels[:3]]
    return len(kernels) > 10 and starts == [(32, 1), (32, 1), (64, 1)]


def _layers(index: int, name: str, member: h5py.Group, weights: list[str], ordering: str) -> list[Layer]:
    """The layer of a group; the layers inside it if it is a nested model."""
    inner: dict[str, list[Tensor]] = {}
    for weight in weights:
        found = _WEIGHT.fullmatch(weight)
        if not found:
            raise ValueError(f"a weight must have a known name. Received: {weight!r} in layer {name!r}")
        inner.setdefault(found[1] or name, []).append(_tensor(member, weight, found[2], ordering))
    if len(inner) <= 1:
        tensors = next(iter(inner.values()), [])
        return [Layer(index, name, _as_scale(tensors), canonical_name(name))]
    return [
        Layer(index, f"{name}/{own}", _as_scale(tensors), canonical_name(own.split("/")[-1]))
        for own, tensors in inner.items()
    ]


def _tensor(member: h5py.Group, weight: str, word: str, ordering: str) -> Tensor:
    axes = len(child(member, weight).shape) if isinstance(child(member, weight), h5py.Dataset) else 0
    layout = {4: "OIHW" if ordering == "th" else "HWIO", 2: "IO"}.get(axes, "C")
    return tensor(member, weight, weight, _ROLES[word], layout)


def _as_scale(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """A lone gamma is the scale of an L2 normalisation."""
    if len(tensors) == 1 and tensors[0].role == "gamma":
        own = tensors[0]
        return (Tensor(own.name, "scale", own.shape, own.layout, own.read),)
    return tuple(tensors)


def _ordering(members: list, weights: list, orderings: set[str]) -> str:
    """Axis order of Keras 1 kernels: as the stored configuration says, or as the shapes tell."""
    if len(orderings) == 1:
        return orderings.pop()
    votes = set()
    for (_, member), own in zip(members, weights, strict=True):
        for weight in own:
            shape = getattr(child(member, weight), "shape", ())
            # A kernel is square in space and its channels are not both as few.
            if len(shape) == 4 and (shape[0] == shape[1] < 8) != (shape[2] == shape[3] < 8):
                votes.add("tf" if shape[0] == shape[1] < 8 else "th")
    if len(votes) > 1:
        raise ValueError("all kernels of a Keras 1 file must be ordered alike. Received: th and tf")
    return votes.pop() if votes else "tf"


def _config_orderings(file: h5py.File, path: Path) -> set[str]:
    """The `dim_ordering` words of a stored configuration, which is only ever read as JSON."""
    stored = text(file.attrs, "model_config")
    if stored is None:
        return set()
    try:
        return set(re.findall(r'"dim_ordering": "(t[hf])"', json.dumps(json.loads(stored))))
    except ValueError as error:
        raise ValueError(f"model_config must be JSON. Received: {path} ({error})") from None


def _flipped(backend: str | None, weights: list[str], keras1: bool) -> bool | None:
    """Theano turns kernels; of files that do not name it, bare weight names tell: only TensorFlow
    adds ":0"."""
    if backend is not None:
        return backend == "theano"
    if all(":" in weight for weight in weights):
        return False
    return True if keras1 else None


def _read_keras0(root: h5py.Group, path: Path) -> WeightFile:
    """Keras 0.x: `layer_k/param_p`, no names. Theano was its default, th the default order."""
    count = number(root.attrs, "nb_layers")
    if not 0 < count <= 10_000:
        raise ValueError(f"nb_layers must be 1 to 10,000. Received: {count} in {path}")
    layers, orders = [], set()
    for index in range(count):
        name = f"layer_{index}"
        member, tensors = group(root, name), []
        for p in range(number(member.attrs, "nb_params")):
            shape = getattr(child(member, f"param_{p}"), "shape", ())
            if len(shape) == 4:
                orders.add("HWIO" if shape[0] == shape[1] < 8 else "OIHW")
            layout = {4: "HWIO" if "HWIO" in orders else "OIHW", 2: "IO"}.get(len(shape), "C")
            role = "kernel" if p == 0 else "bias"
            tensors.append(tensor(member, f"param_{p}", f"{name}/param_{p}", role, layout))
        layers.append(Layer(index, name, tuple(tensors)))
    if len(orders) > 1:
        raise ValueError(f"all kernels of a file must be ordered alike. Received: th and tf in {path}")
    layers = name_by_shape(layers)
    check_total(layers, path)
    flatten = "HWC" if "HWIO" in orders else "CHW"
    return WeightFile(path, "Keras 0 HDF5", tuple(layers), flipped=True, flatten=flatten)


def _is_vgg(weighted: list[Layer]) -> bool:
    """Whether the first 13 weighted layers are convolutions with the biases of VGG16's.

    Their kernels are left to the plan, which names one that is turned.
    """
    channels = [c for c, n in ((64, 2), (128, 2), (256, 3), (512, 6)) for _ in range(n)]
    found = []
    for layer in weighted[:13]:
        if len(layer.tensors) != 2 or len(layer.tensors[0].shape) != 4:
            return False
        found.append(layer.tensors[1].size)
    return found == channels


def _outputs(kernel: Tensor) -> int:
    return kernel.shape[kernel.layout.index("O")]


def _renamed(layer: Layer, canonical: str | None) -> Layer:
    return Layer(layer.index, layer.name, layer.tensors, canonical)
