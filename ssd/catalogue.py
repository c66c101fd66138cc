"""What is known of each public weight file: `KNOWN[name]`. `ssd.known` brings them here.

None of these files was published by this project. Scores are those that the publishers state; they
were not measured here. Checksums and sizes are those that a publisher or several users state.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownFile:
    """A weight file that can be had by name.

    Args:
        format: for people; the readers look at the file itself.
        spec: of a detector (`ssd.spec.SPECS`), None for a feature extractor.
        classes: "voc" (20), "coco" (80), "coco91" (80 in 90 places), None without a detector.
        size: bytes.
        sha256: all 64 hex digits, or the first 8 or more.
        score: published, with its source.
        by_hand: a person must fetch it: the address shows a page, or answers no more.
        channel_order: of the picture that conv1_1 sees; None: not told by its publisher.
        clip: of the anchors it was trained with: "none", "corners", "centres" (all of cx, cy, w, h)
            or "sides" (w and h only), each to [0, 1].
    Raises:
        ValueError: a checksum is no hex number of its length, or the file name is a path.
    """

    name: str
    file_name: str
    address: str
    format: str = ""
    licence: str = ""
    spec: str | None = None
    classes: str | None = None
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    score: str = ""
    note: str = ""
    by_hand: bool = False
    channel_order: str | None = None
    clip: str | None = None

    def __post_init__(self) -> None:
        for name, pattern in (("sha256", "[0-9a-f]{8,64}"), ("md5", "[0-9a-f]{32}")):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(pattern, value):
                raise ValueError(f"{name} must match {pattern}. Received: {value!r} for {self.name}")
        if not re.fullmatch(r"[^/\\:\0-\x1f]+", self.file_name) or self.file_name in (".", ".."):
            raise ValueError(f"a file name must be no path. Received: {self.file_name!r} for {self.name}")


_DRIVE = "https://drive.google.com/open?id="
_TORCH = "https://download.pytorch.org/models/"
_DEGROOT = "https://s3.amazonaws.com/amdegroot-models/"
_LUFFICC = "https://github.com/lufficc/SSD/releases/download/1.2/"
_CHAINER = "https://chainercv-models.preferred.jp/"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
_OPENVINO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2021.4/"
_UNC = "http://www.cs.unc.edu/~wliu/projects/"

_PLUS = "trained on VOC2007 test too: a score there means nothing"
_TAR = "comes in an archive: unpack the .caffemodel"
_ZIP = "unpack it and use the .index file inside"

# What the heads know. "ft" files were trained on COCO first and keep its box sizes with VOC's classes.
_VOC = {"spec": "ssd300", "classes": "voc", "clip": "none"}
_VOC_FT = {"spec": "ssd300_coco", "classes": "voc", "clip": "none"}
_VOC_V1 = {"spec": "ssd300_v1", "classes": "voc", "clip": "corners"}
_COCO = {"spec": "ssd300_coco", "classes": "coco", "clip": "none"}

# Who made the file. A licence is that of the code; nobody states one for the weights alone.
_TORCHVISION = {"format": "PyTorch", "licence": "BSD-3-Clause (code)", "channel_order": "RGB"}
_SSD_PYTORCH = {"format": "PyTorch", "licence": "MIT (code)", "channel_order": "RGB"}
_CAFFE = {"format": "Caffe", "licence": "BSD-2-Clause (code)", "channel_order": "BGR", "by_hand": True}
_KERAS_2 = {"format": "Keras 2 HDF5", "licence": "Apache-2.0 (code)", "channel_order": "BGR", "by_hand": True}
_KERAS_1 = {"format": "Keras 1 HDF5", "licence": "MIT (code)", "channel_order": "BGR", "by_hand": True}
_CHAINERCV = {"format": "Chainer npz", "licence": "MIT (code)", "channel_order": "RGB"}
_SLIM = {"format": "TensorFlow checkpoint (zip)", "licence": "Apache-2.0 (code)", "channel_order": "RGB"}
_OXFORD = {"licence": "Apache-2.0 (code), CC BY 4.0 (Oxford VGG)", "channel_order": "BGR"}
_GOOGLE = {"format": "Keras 2 HDF5", "licence": "Apache-2.0 (code)", "channel_order": "RGB"}

# fmt: off
_FILES = (
    KnownFile("coco", "ssd300_vgg16_coco-b556d3b4.pth", _TORCH + "ssd300_vgg16_coco-b556d3b4.pth",
              **_TORCHVISION | _COCO | {"classes": "coco91", "clip": "sides"},
              sha256="b556d3b43ab6c3f63d81bfb8835fe8756ac22da664357da100dccf96b6a6b42d",
              score="COCO val2017 AP 25.1, published (torchvision)",
              note="136 MiB; 91 outputs, of which ten stand for no class"),
    KnownFile("voc", "vgg_ssd300_voc0712.pth", _LUFFICC + "vgg_ssd300_voc0712.pth",
              **_SSD_PYTORCH | _VOC | {"clip": "centres"},
              score="VOC07 mAP 77.7, published (lufficc/SSD)",
              note="201 MB, half of it the state of its optimiser"),
    KnownFile("coco-lufficc", "vgg_ssd300_coco_trainval35k.pth", _LUFFICC + "vgg_ssd300_coco_trainval35k.pth",
              **_SSD_PYTORCH | _COCO | {"clip": "centres"},
              score="COCO AP 25.2, published (lufficc/SSD)",
              note="262 MB, half of it the state of its optimiser"),
    KnownFile("voc-pytorch", "ssd300_mAP_77.43_v2.pth", _DEGROOT + "ssd300_mAP_77.43_v2.pth",
              **_SSD_PYTORCH | _VOC | {"clip": "centres"},
              score="VOC07 mAP 77.43, published (amdegroot/ssd.pytorch)", note="trained in PyTorch"),
    KnownFile("voc-pytorch-caffe", "ssd_300_VOC0712.pth", _DEGROOT + "ssd_300_VOC0712.pth",
              **_SSD_PYTORCH | _VOC | {"channel_order": "BGR"},
              score="VOC07 mAP 77.26, published (amdegroot/ssd.pytorch)",
              note="voc-caffe converted: it keeps the channels and the anchors of Caffe"),

    KnownFile("voc-caffe", "VGG_VOC0712_SSD_300x300_iter_120000.caffemodel",
              _DRIVE + "0BzKzrI_SkD1_WVVTSmQxU0dVRzA", **_CAFFE | _VOC,
              score="VOC07 mAP 77.2, published (weiliu89/caffe)", note=_TAR),
    KnownFile("voc-caffe-plus", "VGG_VOC0712Plus_SSD_300x300_iter_240000.caffemodel",
              _DRIVE + "0BzKzrI_SkD1_WnR2T1BGVWlCZHM", **_CAFFE | _VOC, note=f"{_TAR}; {_PLUS}"),
    KnownFile("voc-caffe-from-coco", "VGG_coco_SSD_300x300.caffemodel",
              _DRIVE + "0BzKzrI_SkD1_NDlVeFJDc2tIU1k", **_CAFFE | _VOC_FT,
              note=f"{_TAR}; the 20 VOC classes cut out of coco-caffe"),
    KnownFile("voc-caffe-ft", "VGG_VOC0712_SSD_300x300_ft_iter_120000.caffemodel",
              _DRIVE + "0BzKzrI_SkD1_UFpoU01yLS1SaG8", **_CAFFE | _VOC_FT, note=_TAR),
    KnownFile("voc-caffe-plus-ft", "models_VGGNet_VOC0712Plus_SSD_300x300_ft.tar.gz",
              _OPENVINO + "ssd300/models_VGGNet_VOC0712Plus_SSD_300x300_ft.tar.gz",
              **_CAFFE | _VOC_FT | {"by_hand": False}, size=97_789_219,
              sha256="e3eb9794a33eb77e6798f396df453123c249a1df554e42a3302eb4aa20a8f2ee",
              note=f"an archive, kept by OpenVINO: unpack the .caffemodel; {_PLUS}"),
    KnownFile("coco-caffe", "VGG_coco_SSD_300x300_iter_400000.caffemodel",
              _DRIVE + "0BzKzrI_SkD1_dUY1Ml9GRTFpUWc", **_CAFFE | _COCO,
              score="COCO test-dev2015 AP 25.1, published (weiliu89/caffe)", note=_TAR),
    KnownFile("voc-caffe-v1", "VGG_VOC0712_SSD_300x300_iter_60000.caffemodel",
              _UNC + "SSD/models_VGGNet_VOC0712_SSD_300x300.tar.gz", **_CAFFE | _VOC_V1,
              score="VOC07 mAP 72.1, published (weiliu89/caffe, March 2016)",
              note=f"{_TAR}; 7,308 anchors; the address may hold a later release, or answer no more"),

    KnownFile("voc-keras-v1", "weights_SSD300.hdf5", "https://mega.nz/#F!7RowVLCL!q3cEVRK9jyOSB9el3SssIA",
              **_KERAS_1 | _VOC_V1,
              note="the first Caffe release, ported by rykov8/ssd_keras, which publishes no score; "
                   "7,308 anchors; not weights_300x300_old.hdf5 beside it"),
    KnownFile("voc-keras", "VGG_VOC0712_SSD_300x300_iter_120000.h5",
              _DRIVE + "121-kCXaOHOkJE_Kf5lKcJvC_5q1fYb_q", **_KERAS_2 | _VOC,
              score="VOC07 mAP 77.5, published (pierluigiferrari/ssd_keras)",
              note="voc-caffe, ported; an unchecked copy: https://github.com/GKalliatakis/Keras-EMOTIC-resources/"
                   "releases/download/v1.0.1/VGG_VOC0712_SSD_300x300_iter_120000.h5"),
    KnownFile("voc-keras-scratch", "ssd300_pascal_07+12_scratch.h5",
              "https://drive.google.com/file/d/1-MYYaZbIHNPtI2zzklgVBAjssbP06BeA/view", **_KERAS_2 | _VOC,
              score="VOC07 mAP 77.1, published (pierluigiferrari/ssd_keras)",
              note="trained in Keras; save it under this file name"),
    KnownFile("voc-keras-plus", "VGG_VOC0712Plus_SSD_300x300_iter_240000.h5",
              _DRIVE + "1M99knPZ4DpY9tI60iZqxXsAxX2bYWDvZ", **_KERAS_2 | _VOC,
              note=f"voc-caffe-plus, ported; {_PLUS}"),
    KnownFile("voc-keras-from-coco", "VGG_coco_SSD_300x300.h5",
              _DRIVE + "17G1J4zEpFwiOzgBmq886ci4P3YaIz8bY", **_KERAS_2 | _VOC_FT,
              note="voc-caffe-from-coco, ported"),
    KnownFile("voc-keras-ft", "VGG_VOC0712_SSD_300x300_ft_iter_120000.h5",
              _DRIVE + "1vtNI6kSnv7fkozl7WxyhGyReB6JvDM41", **_KERAS_2 | _VOC_FT,
              score="VOC07 mAP 81.2, published (pierluigiferrari/ssd_keras)", note="voc-caffe-ft, ported"),
    KnownFile("voc-keras-plus-ft", "VGG_VOC0712Plus_SSD_300x300_ft_iter_160000.h5",
              _DRIVE + "1fyDDUcIOSjeiP08vl1WCndcFdtboFXua", **_KERAS_2 | _VOC_FT,
              note=f"voc-caffe-plus-ft, ported; {_PLUS}"),
    KnownFile("coco-keras", "VGG_coco_SSD_300x300_iter_400000.h5",
              _DRIVE + "1vmEF7FUsWfHquXyCqO17UaXOPpRbwsdj", **_KERAS_2 | _COCO, note="coco-caffe, ported"),

    KnownFile("voc-chainer", "ssd300_voc0712_converted_2017_06_06.npz",
              _CHAINER + "ssd300_voc0712_converted_2017_06_06.npz", **_CHAINERCV | _VOC,
              md5="d420da9ec06c3d33820658394cfc305a",
              score="VOC07 mAP 77.8, published (chainer/chainercv)", note="voc-caffe, converted"),
    KnownFile("voc-chainer-trained", "ssd300_voc0712_trained_2017_08_08.npz",
              _CHAINER + "ssd300_voc0712_trained_2017_08_08.npz", **_CHAINERCV | _VOC,
              note="trained in ChainerCV"),

    KnownFile("voc-slim", "VGG_VOC0712_SSD_300x300_iter_120000.ckpt.zip",
              _DRIVE + "0B0qPCUZ-3YwWZlJaRTRRQWRFYXM", **_SLIM | _VOC, by_hand=True,
              score="VOC07 mAP 77.8, published (balancap/SSD-Tensorflow)",
              note=f"voc-caffe, converted; {_ZIP}"),
    KnownFile("voc-slim-ft", "VGG_VOC0712_SSD_300x300_ft_iter_120000.ckpt.zip",
              _DRIVE + "0B0qPCUZ-3YwWUXh4UHJrd1RDM3c", **_SLIM | _VOC_FT, by_hand=True,
              score="VOC07 mAP 81.7, published (balancap/SSD-Tensorflow)",
              note=f"voc-caffe-ft, converted; {_ZIP}"),
    KnownFile("voc-slim-demo", "ssd_300_vgg.ckpt.zip",
              "https://github.com/balancap/SSD-Tensorflow/raw/master/checkpoints/ssd_300_vgg.ckpt.zip",
              **_SLIM | _VOC_FT, note=f"used with the box sizes of COCO by its own notebook; {_ZIP}"),

    KnownFile("vgg16-reducedfc", "vgg16_reducedfc.pth", _DEGROOT + "vgg16_reducedfc.pth",
              **_SSD_PYTORCH | {"channel_order": None},
              note="VGG16 with the cut fc6 and fc7, where SSD training starts; fed RGB by its publisher, "
                   "who does not say whether conv1_1 was turned from Caffe's BGR"),
    KnownFile("vgg16-reducedfc-caffe", "VGG_ILSVRC_16_layers_fc_reduced.caffemodel",
              _UNC + "ParseNet/VGG_ILSVRC_16_layers_fc_reduced.caffemodel", **_CAFFE,
              note="the origin of vgg16-reducedfc; the server may answer no more"),
    KnownFile("vgg16-reducedfc-keras", "VGG_ILSVRC_16_layers_fc_reduced.h5",
              _DRIVE + "1sBmajn6vOE7qJ8GnxUJt4fGPuffVUZox", **_KERAS_2,
              note="vgg16-reducedfc-caffe, ported by pierluigiferrari/ssd_keras"),
    KnownFile("vgg16-reducedfc-chainer", "ssd_vgg16_imagenet_converted_2017_06_09.npz",
              _CHAINER + "ssd_vgg16_imagenet_converted_2017_06_09.npz", **_CHAINERCV,
              note="vgg16-reducedfc-caffe, converted by ChainerCV"),
    KnownFile("vgg16-features", "vgg16_features-amdegroot-88682ab5.pth",
              _TORCH + "vgg16_features-amdegroot-88682ab5.pth", **_TORCHVISION, sha256="88682ab5",
              note="528 MiB; conv1_1 to conv5_3 only: its dense layers are not usable"),
    KnownFile("vgg16-chainer", "vgg16_imagenet_converted_2017_07_18.npz",
              _CHAINER + "vgg16_imagenet_converted_2017_07_18.npz", **_CHAINERCV,
              note="the whole ImageNet classifier"),
    KnownFile("vgg16-imagenet", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
              _KERAS + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", **_OXFORD,
              format="Keras 1 HDF5", size=58_889_256, md5="6d6bbae143d832006294945121d1f1fc",
              note="conv1_1 to conv5_3, as keras.applications fetches it"),
    KnownFile("vgg16-imagenet-top", "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
              _KERAS + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5", **_OXFORD,
              format="Keras 1 HDF5", size=553_467_096, md5="64373286793e3c8b2b4e3219cbf3544b",
              note="the whole ImageNet classifier"),
    KnownFile("inception_v3-imagenet", "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
              _KERAS + "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", **_GOOGLE,
              size=87_910_968, md5="bcbd6486424b2319ff4ef7d526e38f63",
              note="without its classifier, as keras.applications fetches it"),
    KnownFile("inception_v3-imagenet-top", "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
              _KERAS + "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5", **_GOOGLE,
              size=96_112_376, md5="9a0d58056eeedaa3f26cb7ebd46da564",
              note="the whole ImageNet classifier"),
)
# fmt: on
KNOWN = {file.name: file for file in _FILES}
