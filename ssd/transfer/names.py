"""Canonical layer names, which are Caffe's and this project's, and what other programs call them.

Sources: the model definitions of rykov8/ssd_keras, weiliu89/caffe, amdegroot/ssd.pytorch,
lufficc/SSD, pytorch/vision, chainer/chainercv, balancap/SSD-Tensorflow and keras.applications.
"""

import re

VGG = tuple(f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, n + 1))
EXTRAS = tuple(f"conv{b}_{i}" for b in (6, 7, 8, 9) for i in (1, 2))
SOURCES = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")  # 8,732 anchors
V1_SOURCES = (*SOURCES[:5], "pool6")  # 7,308 anchors


def head(source: str, kind: str) -> str:
    """Name of a head: `kind` is "conf" or "loc". pool6 has no rows and columns: its heads are dense."""
    return f"{source}_mbox_{kind}" + ("_flat" if source == "pool6" else "")


HEADS = tuple(head(source, kind) for source in (*SOURCES, "pool6") for kind in ("conf", "loc"))
NORMALISED = (*VGG, "fc6", "fc7", *EXTRAS)  # convolutions that have a NAME_bn in vgg16_bn
CANONICAL = frozenset((*VGG, "fc6", "fc7", "fc8", *EXTRAS, "conv4_3_norm", *HEADS, "conv4_0")) | {
    f"{name}_bn" for name in NORMALISED
}
# Layers of a classifier behind fc7; a detector has no use for them.
UNUSABLE = "classifier of numbers that are not finite"  # torchvision publishes one such VGG16
CLASSIFIER = ("fc8", UNUSABLE)
# Batch normalisation where SSD normalises by L2 (qfgaohao/pytorch-ssd): another network.
FOREIGN = ("source_layer_add_ons.0",)

_TORCH_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)
_TORCH_VGG = dict(zip(_TORCH_PLACES, (*VGG, "fc6", "fc7"), strict=True))


def canonical_name(name: str) -> str | None:
    """The canonical name of a layer of any known program, None if there is none."""
    name = name.removeprefix("module.")  # torch's DataParallel
    # The first Keras port marks the class count of its own heads: fc7_mbox_conf_7.
    name = re.sub(r"(_mbox_conf(?:_flat)?)_\d+$", r"\1", name)
    # A classifier in ChainerCV: conv1_1/conv.
    name = re.sub(r"^(conv\d_\d)/conv$", r"\1", name)
    if name in CANONICAL:
        return name
    return _ALIASES.get(name)


def _torch() -> dict[str, str]:
    names = {}
    for number, own in _TORCH_VGG.items():
        for prefix in ("vgg.", "backbone.vgg.", "base_net.", ""):  # no prefix: vgg16_reducedfc
            names[f"{prefix}{number}"] = own
        if number < 30:
            names[f"features.{number}"] = own
        if number < 24:
            names[f"backbone.features.{number}"] = own
    names |= {f"backbone.extra.0.{2 * i - 1}": f"conv5_{i}" for i in (1, 2, 3)}
    names |= {"backbone.extra.0.7.1": "fc6", "backbone.extra.0.7.3": "fc7"}
    names |= {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    for i, own in enumerate(EXTRAS):
        block, second = divmod(i, 2)
        names[f"backbone.extra.{block + 1}.{2 * second}"] = own
        names[f"extras.{block}.{2 * second}"] = own
        names[f"backbone.extras.{i}"] = own
    # ssd.pytorch counts its extras through, and its numbers meet no name above.
    names |= {f"extras.{i}": own for i, own in enumerate(EXTRAS)}
    names |= dict.fromkeys(("L2Norm", "backbone.l2_norm", "backbone.scale_weight"), "conv4_3_norm")
    for i, source in enumerate(SOURCES):
        for kind, aliases in _TORCH_HEADS.items():
            names |= {f"{alias}.{i}": head(source, kind) for alias in aliases}
    return names


_TORCH_HEADS = {
    "conf": (
        "conf",
        "box_head.predictor.cls_headers",
        "head.classification_head.module_list",
        "classification_headers",
    ),
    "loc": (
        "loc",
        "box_head.predictor.reg_headers",
        "head.regression_head.module_list",
        "regression_headers",
    ),
}


def _chainer() -> dict[str, str]:
    names = {f"extractor/{own}": own for own in VGG}
    names |= {"extractor/conv6": "fc6", "extractor/conv7": "fc7", "extractor/norm4": "conv4_3_norm"}
    # Its extra layers are called two higher than Caffe's.
    names |= {f"extractor/conv{b + 2}_{i}": f"conv{b}_{i}" for b in (6, 7, 8, 9) for i in (1, 2)}
    for kind in ("conf", "loc"):
        names |= {f"multibox/{kind}/{i}": head(source, kind) for i, source in enumerate(SOURCES)}
    return names


def _slim() -> dict[str, str]:
    names = {f"conv{own[4]}/{own}": own for own in VGG}
    names |= {"conv6": "fc6", "conv7": "fc7", "block4_box/L2Normalization": "conv4_3_norm"}
    for block in (8, 9, 10, 11):  # two higher than Caffe's, too
        names |= {
            f"block{block}/conv1x1": f"conv{block - 2}_1",
            f"block{block}/conv3x3": f"conv{block - 2}_2",
        }
    for block, source in zip((4, 7, 8, 9, 10, 11), SOURCES, strict=True):
        names |= {f"block{block}_box/conv_loc": head(source, "loc")}
        names |= {f"block{block}_box/conv_cls": head(source, "conf")}
    return {f"ssd_300_vgg/{name}": own for name, own in names.items()}


def _keras() -> dict[str, str]:
    names = {f"block{own[4]}_conv{own[6]}": own for own in VGG}
    return names | {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}


_ALIASES = _torch() | _chainer() | _slim() | _keras()
# Caffe's first generation has convolutions on the 1x1 map of pool6.
_ALIASES |= {f"pool6_mbox_{kind}": head("pool6", kind) for kind in ("conf", "loc")}
