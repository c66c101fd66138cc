"""Makers of PyTorch's weight files: see `weight_files`. All detectors are of the second generation."""

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from weight_files import EXTRAS, VGG, Arrays, head_names, renamed, rgb_first


def write_ssd_pytorch(
    path: str | Path, arrays: Arrays, old: bool = True, rgb: bool = True, cuda: bool = False
) -> None:
    """ssd.pytorch's state dict.

    Args:
        old: the stream of 2017 instead of a zip.
        rgb: as trained there; False: as its conversion of Caffe's weights.
        cuda: saved from a GPU, as a training run does; needs `old`.
    """
    names = _torch_vgg("vgg.") | {"conv4_3_norm": "L2Norm.weight"} | _torch_extras("extras.")
    names |= head_names("loc", "loc.") | head_names("conf", "conf.")
    _save_torch(path, _state(arrays, names, rgb), old, cuda)


def write_reducedfc(path: str | Path, arrays: Arrays, old: bool = True, rgb: bool = True) -> None:
    """vgg16_reducedfc.pth: conv1_1 to fc7 of any arrays that have them. Its true order is not known."""
    _save_torch(path, _state(arrays, _torch_vgg(""), rgb), old)


def write_lufficc(path: str | Path, arrays: Arrays) -> None:
    """A training checkpoint of lufficc's SSD: model, optimizer, scheduler and iteration; RGB."""
    import torch

    names = _torch_vgg("backbone.vgg.") | _torch_extras("backbone.extras.")
    names |= {"conv4_3_norm": "backbone.l2_norm.weight"}
    names |= head_names("conf", "box_head.predictor.cls_headers.")
    names |= head_names("loc", "box_head.predictor.reg_headers.")
    model = _state(arrays, names, rgb=True)
    # Momentum looks like weights: a reader must not take it for them. Two tensors are enough here.
    buffers = {i: {"momentum_buffer": torch.ones_like(t)} for i, t in enumerate([*model.values()][:2])}
    group = {"lr": 1e-5, "momentum": 0.9, "weight_decay": 5e-4, "params": list(range(len(model)))}
    optimizer = {"state": buffers, "param_groups": [group]}
    scheduler = {"milestones": [80000, 100000], "gamma": 0.1, "last_epoch": 120000}
    whole = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "iteration": 120000}
    _save_torch(path, whole, old=False)


def write_torchvision(path: str | Path, arrays: Arrays) -> None:
    """ssd300_vgg16_coco's state dict: RGB; the published one has 91 outputs."""
    names = {"conv4_3_norm": "backbone.scale_weight"}
    vgg = _torch_vgg("")
    names |= {name: f"backbone.features.{vgg[name]}" for name in VGG[:10]}
    blocks = [("0.1", "conv5_1"), ("0.3", "conv5_2"), ("0.5", "conv5_3"), ("0.7.1", "fc6"), ("0.7.3", "fc7")]
    blocks += [(f"{b - 5}.{2 * i - 2}", f"conv{b}_{i}") for b in (6, 7, 8, 9) for i in (1, 2)]
    names |= {name: f"backbone.extra.{index}" for index, name in blocks}
    names |= head_names("conf", "head.classification_head.module_list.")
    names |= head_names("loc", "head.regression_head.module_list.")
    _save_torch(path, _state(arrays, names, rgb=True), old=False)


def write_torchvision_vgg16(path: str | Path, arrays: Arrays) -> None:
    """vgg16_features-amdegroot: good convolutions, RGB, and a classifier that was never filled in.

    Args:
        arrays: as `random_vgg16` gives them; of fc6 to fc8 only the shapes are used.
    """
    import torch

    vgg = _torch_vgg("features.")
    state = _state(arrays, {name: vgg[name] for name in VGG}, rgb=True)
    for index, name in (("0", "fc6"), ("3", "fc7"), ("6", "fc8")):
        if name in arrays:
            outputs = arrays[name]["kernel"].shape[-1]
            empty = np.full((outputs, arrays[name]["kernel"].size // outputs), np.nan, np.float32)
            state[f"classifier.{index}.weight"] = torch.from_numpy(empty)
            state[f"classifier.{index}.bias"] = torch.from_numpy(empty[:, 0].copy())
    _save_torch(path, state, old=False)


def _torch_vgg(prefix: str) -> dict[str, str]:
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)
    return {name: f"{prefix}{i}" for name, i in zip([*VGG, "fc6", "fc7"], indices, strict=True)}


def _torch_extras(prefix: str) -> dict[str, str]:
    return {name: f"{prefix}{i}" for i, (name, *_) in enumerate(EXTRAS)}


def _state(arrays: Arrays, names: dict[str, str], rgb: bool) -> OrderedDict:
    import torch

    arrays = rgb_first(arrays) if rgb else arrays
    tensors = renamed(arrays, names, ".weight", ".bias")
    return OrderedDict((name, torch.from_numpy(array)) for name, array in tensors.items())


def _save_torch(path: str | Path, state: dict, old: bool, cuda: bool = False) -> None:
    import torch

    if not old:
        state.get("model", state)._metadata = OrderedDict({"": {"version": 1}})  # Module.state_dict adds it
        torch.save(state, path)
        return
    torch.save(state, path, pickle_module=_pickle_of_2017(), _use_new_zipfile_serialization=False)
    if cuda:  # the type and place of the storages, in the pickle before the numbers
        text = Path(path).read_bytes()
        text = text.replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
        text = text.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
        Path(path).write_bytes(text)


def _pickle_of_2017() -> SimpleNamespace:
    """A pickle module that builds tensors by the function of that year."""
    import pickle

    import torch

    class Pickler(pickle.Pickler):
        def reducer_override(self, thing: object) -> object:
            if isinstance(thing, torch.Tensor):
                return torch._utils._rebuild_tensor, thing.__reduce_ex__(2)[1][:4]
            return NotImplemented

    return SimpleNamespace(__name__="pickle", Pickler=Pickler, dump=pickle.dump)
