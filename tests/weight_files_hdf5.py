"""Makers of the HDF5 files of Keras 0, 1, 2 and 3: see `weight_files`. All are fed BGR."""

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
from weight_files import SOURCES, VGG, Arrays

_POOL_AFTER = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
_V1_SOURCES = (*SOURCES[:5], "pool6")


# ---- Keras 0: VGG16 as a list without names


def write_keras0(path: str | Path, arrays: Arrays, theano: bool = True) -> None:
    """A Sequential VGG16 of 2015: every layer a numbered group, kernels OIHW, turned by Theano."""
    rows = []
    for name in VGG:
        kernel = _old_kernel(arrays[name]["kernel"], "th", "theano" if theano else "tensorflow")
        rows += [[], [kernel, arrays[name]["bias"]]]  # each convolution has a padding layer before it
        rows += [[]] if name in _POOL_AFTER else []
    if "fc6" in arrays:
        fc6 = arrays["fc6"]["kernel"].transpose(2, 0, 1, 3)  # flattened channel, row, column
        dense = {name: arrays[name]["kernel"] for name in ("fc7", "fc8")}
        dense = {"fc6": fc6.reshape(-1, fc6.shape[-1])} | dense
        for name, kernel in dense.items():  # a flatten or a dropout layer stands before each
            rows += [[], [kernel, arrays[name]["bias"]]]
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = len(rows)
        for i, weights in enumerate(rows):
            group = file.create_group(f"layer_{i}")
            group.attrs["nb_params"] = len(weights)
            for j, weight in enumerate(weights):
                group[f"param_{j}"] = weight


# ---- Keras 1 and 2, and Keras 3 in their layout


def write_keras1(
    path: str | Path,
    arrays: Arrays,
    ordering: str = "tf",
    backend: str = "tensorflow",
    whole: bool = False,
) -> None:
    """weights_SSD300.hdf5 and its kin.

    Args:
        arrays: of either generation; the first has the 66 layers of the real file.
        ordering: "tf" (HWIO) or "th" (OIHW) kernels.
        backend: "tensorflow", or "theano", whose kernels are turned by half a circle.
        whole: `model.save` instead of `save_weights`: a configuration and an optimizer too.
    """
    end = ":0" if backend == "tensorflow" else ""
    names = _port_names(arrays, padding="zeropadding2d_1")
    tensors = {}
    for name, values in arrays.items():
        if "scale" in values:
            tensors[name] = [(f"{name}_gamma{end}", values["scale"])]
            continue
        kernel = _old_kernel(values["kernel"], ordering, backend)
        tensors[name] = [(f"{name}_W{end}", kernel), (f"{name}_b{end}", values["bias"])]
    with h5py.File(path, "w") as file:
        if whole:
            file.attrs["keras_version"] = np.bytes_("1.2.2")
            file.attrs["model_config"] = np.bytes_(_model_config(names, tensors, dim_ordering=ordering))
            _write_optimizer(file)
        _write_groups(file.create_group("model_weights") if whole else file, names, tensors)


def write_keras2(
    path: str | Path,
    arrays: Arrays,
    backend: str = "tensorflow",
    whole: bool = False,
    keras3: bool = False,
) -> None:
    """The same network saved by Keras 2, or by Keras 3 in its legacy layout.

    Args:
        backend: "theano" turns the kernels and names them without ":0".
        whole: `model.save` instead of `save_weights`.
        keras3: Keras 3's names, text and version.
    """
    names = _port_names(arrays, padding="conv7_1z")
    end = "" if keras3 or backend == "theano" else ":0"
    tensors = _keras2_tensors(arrays, end, "conv4_3_norm_gamma", backend)
    _write_keras2(path, names, tensors, backend, "3.15.1" if keras3 else "2.2.4", whole)


def write_pierluigi(path: str | Path, arrays: Arrays) -> None:
    """The converter's file: the 36 layers with weights in Caffe's order, the norm's tensor unnamed."""
    tensors = _keras2_tensors(arrays, ":0", "weights_0")
    _write_keras2(path, list(arrays), tensors, "tensorflow", "2.0.8", whole=False)


def write_pierluigi_checkpoint(path: str | Path, arrays: Arrays, whole: bool = False) -> None:
    """The same network saved by Keras 2 in training: 76 layers, the last 29 without weights."""
    names = ["input_1", "identity_layer", "input_mean_normalization", "input_channel_swap"]
    names += [*_vgg_names(), "fc6", "fc7", "conv6_1", "conv6_padding", "conv6_2"]
    names += "conv7_1 conv7_padding conv7_2 conv8_1 conv8_2 conv9_1 conv4_3_norm conv9_2".split()
    ends = "conf loc conf_reshape loc_reshape priorbox priorbox_reshape".split()
    names += [f"{source}_mbox_{end}" for end in ends for source in SOURCES]
    names += ["mbox_conf", "mbox_conf_softmax", "mbox_loc", "mbox_priorbox", "predictions"]
    tensors = _keras2_tensors(arrays, ":0", "conv4_3_norm_gamma")
    _write_keras2(path, names, tensors, "tensorflow", "2.1.6", whole)


def write_keras_vgg16_notop(path: str | Path, arrays: Arrays) -> None:
    """keras.applications' VGG16 without top, saved by Keras 1 after another network (hence `_1`)."""
    tensors = {}
    for name in VGG:
        block = f"block{name[4]}_conv{name[6]}"
        weights = [(f"{block}_W_1:0", arrays[name]["kernel"]), (f"{block}_b_1:0", arrays[name]["bias"])]
        tensors[block] = weights
        if name in _POOL_AFTER:
            tensors[f"block{name[4]}_pool"] = []
    with h5py.File(path, "w") as file:
        _write_groups(file, list(tensors), tensors)


def _old_kernel(kernel: np.ndarray, ordering: str, backend: str) -> np.ndarray:
    """HWIO as Keras 0 and 1 keep it; matrices are the same everywhere."""
    if kernel.ndim == 2:
        return kernel
    if backend == "theano":
        kernel = kernel[::-1, ::-1]
    return kernel.transpose(3, 2, 0, 1) if ordering == "th" else kernel


def _keras2_tensors(arrays: Arrays, end: str, norm: str, backend: str = "tensorflow") -> dict:
    tensors = {}
    for name, values in arrays.items():
        if "scale" in values:
            tensors[name] = [(f"{name}/{norm}{end}", values["scale"])]
            continue
        kernel = _old_kernel(values["kernel"], "tf", backend)
        tensors[name] = [(f"{name}/kernel{end}", kernel), (f"{name}/bias{end}", values["bias"])]
    return tensors


def _write_keras2(
    path: str | Path, names: list[str], tensors: dict, backend: str, version: str, whole: bool
) -> None:
    keras3 = version.startswith("3")
    text = str if keras3 else np.bytes_
    attributes = {"backend": text(backend), "keras_version": text(version)}
    with h5py.File(path, "w") as file:
        root = file
        if whole:
            file.attrs.update(attributes)
            file.attrs["model_config"] = text(_model_config(names, tensors, data_format="channels_last"))
            _write_optimizer(file)
            root = file.create_group("model_weights")
        root.attrs.update(attributes)
        _write_groups(root, names, tensors, keras3)


def _write_groups(root: h5py.Group, names: list[str], tensors: dict, keras3: bool = False) -> None:
    """A group a layer; the slash in a weight's name makes one more."""

    def words(texts: list[str]) -> list[str] | np.ndarray:
        # Without weights all versions leave an empty list of float64.
        return np.array(texts, "S") if texts and not keras3 else texts

    root.attrs["layer_names"] = words(names)
    for name in sorted([*names, "top_level_model_weights"]) if keras3 else names:
        group = root.create_group(name)
        weights = tensors.get(name, [])
        group.attrs["weight_names"] = words([weight for weight, _ in weights])
        for weight, array in weights:
            group[weight] = array


def _model_config(names: list[str], tensors: dict, **options: str) -> str:
    """The JSON of a saved model, with as much of each layer as a reader of weights may ask."""
    convolution = "Convolution2D" if "dim_ordering" in options else "Conv2D"
    layers = []
    for name in names:
        kind, config = "Lambda", {"name": name, "trainable": True}
        if any(array.ndim == 4 for _, array in tensors.get(name, [])):
            kind, config = convolution, config | options
        layers.append({"class_name": kind, "name": name, "config": config, "inbound_nodes": []})
    ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [[names[-1], 0, 0]]}
    config = {"name": "model_1", "layers": layers} | ends
    return json.dumps({"class_name": "Model", "config": config})


def _write_optimizer(file: h5py.File) -> None:
    """Slots of training: weights by name and shape, but none of the network."""
    group = file.create_group("optimizer_weights")
    group.attrs["weight_names"] = np.array(["training/Adam/iterations:0", "training/Adam/Variable:0"], "S")
    group["training/Adam/iterations:0"] = 120000
    group["training/Adam/Variable:0"] = np.ones((3, 3, 3, 64), np.float32)


# ---- Layers of the networks, in the order of their `model.layers`


def _vgg_names() -> list[str]:
    """conv1_1 to pool5."""
    names = []
    for name in VGG:
        names += [name, f"pool{name[4]}"] if name in _POOL_AFTER else [name]
    return names


def _trunk_names(v1: bool, padding: str) -> list[str]:
    """conv1_1 to the last map, but for pool6."""
    names = [*_vgg_names(), "fc6", "fc7", "conv6_1", "conv6_2", "conv7_1", padding, "conv7_2", "conv8_1"]
    return names + (["conv4_3_norm", "conv8_2"] if v1 else ["conv8_2", "conv9_1", "conv4_3_norm", "conv9_2"])


def _port_names(arrays: Arrays, padding: str) -> list[str]:
    """Every layer of the Keras port of the first generation, or of the second built the same way."""
    v1 = "conv9_2" not in arrays
    maps, sources = (SOURCES[:5], _V1_SOURCES) if v1 else (SOURCES, SOURCES)
    names = ["input_1", *_trunk_names(v1, padding)] + (["pool6"] if v1 else [])
    names += [f"{source}_mbox_{kind}" for kind in ("conf", "loc") for source in maps]
    names += [f"{source}_mbox_{kind}_flat" for kind in ("conf", "loc") for source in sources]
    names += ["mbox_conf", *(["pool6_reshaped"] if v1 else []), "mbox_loc", "mbox_conf_logits"]
    names += [f"{source}_mbox_priorbox" for source in sources]
    return [*names, "mbox_loc_final", "mbox_conf_final", "mbox_priorbox", "predictions"]


def project_layers(v1: bool) -> list[tuple[str, str]]:
    """Name and class of every layer of this program's network."""
    maps, sources = (SOURCES[:5], _V1_SOURCES) if v1 else (SOURCES, SOURCES)
    names = ["image", *_trunk_names(v1, "conv7_padding")]
    names += (["pool6"] if v1 else []) + [f"{source}_mbox_conf" for source in maps]
    names += [f"{source}_mbox_loc" for source in maps]
    names += [f"{source}_mbox_{kind}_flat" for kind in ("conf", "loc") for source in sources]
    kinds = {"image": "InputLayer", "conv7_padding": "ZeroPadding2D", "pool6": "GlobalAveragePooling2D"}
    kinds |= {f"pool{i}": "MaxPooling2D" for i in range(1, 6)}
    kinds |= {"fc6": "DilatedConv2D", "conv4_3_norm": "L2Normalize"}
    kinds |= {name: "Flatten" for name in names if name.endswith("_flat")}
    kinds |= {f"pool6_mbox_{kind}_flat": "Dense" for kind in ("conf", "loc")}
    layers = [(name, kinds.get(name, "Conv2D")) for name in names]
    layers += [("mbox_conf", "Concatenate"), ("mbox_loc", "Concatenate")]
    return [*layers, ("class_logits", "Reshape"), ("box_deltas", "Reshape")]


# ---- Keras 3

_SNAKE = {
    "InputLayer": "input_layer",
    "Conv2D": "conv2d",
    "DilatedConv2D": "dilated_conv2d",
    "MaxPooling2D": "max_pooling2d",
    "ZeroPadding2D": "zero_padding2d",
    "GlobalAveragePooling2D": "global_average_pooling2d",
    "L2Normalize": "l2_normalize",
    "Flatten": "flatten",
    "Dense": "dense",
    "Concatenate": "concatenate",
    "Reshape": "reshape",
}


def write_keras3_weights(path: str | Path, arrays: Arrays, names: bool = True) -> None:
    """A `.weights.h5` of this program's network: groups counted a class; `names`: since Keras 3.6."""
    v1 = "conv9_2" not in arrays
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for name, kind in project_layers(v1):
            number = counts.get(kind, 0)
            counts[kind] = number + 1
            group = file.create_group(f"layers/{_SNAKE[kind]}{f'_{number}' if number else ''}/vars")
            if names:
                group.attrs["name"] = name
            for i, array in enumerate(arrays.get(name, {}).values()):
                group[str(i)] = array
        top = file.create_group("vars")
        if names:
            top.attrs["name"] = "ssd300_v1" if v1 else "ssd300"


def write_keras_zip(path: str | Path, weights: str | Path, v1: bool = False) -> None:
    """A `.keras` file around the file of `write_keras3_weights`, without what builds the network."""
    layers = []
    for name, kind in project_layers(v1):
        own = kind in ("DilatedConv2D", "L2Normalize")
        module = {"module": "ssd.model" if own else "keras.layers", "registered_name": kind if own else None}
        row = {"class_name": kind, "config": {"name": name}, "name": name, "inbound_nodes": []}
        layers.append(module | row)
    config = {"module": "keras.src.models.functional", "class_name": "Functional"}
    config |= {"config": {"name": "ssd300_v1" if v1 else "ssd300", "trainable": True, "layers": layers}}
    metadata = {"keras_version": "3.15.1", "date_saved": "2025-01-01@00:00:00"}
    with zipfile.ZipFile(path, "w") as file:  # stored, not compressed
        file.writestr("metadata.json", json.dumps(metadata))
        file.writestr("config.json", json.dumps(config | {"registered_name": "Functional"}))
        file.write(weights, "model.weights.h5")
