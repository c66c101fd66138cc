"""What an SSD300 is, in literals: feature maps, scales, aspect ratios, variances and class lists.

Two generations. `ssd300` is the network of July 2016 and later (8,732 anchors), with the scales of
the VOC or of the COCO release; `ssd300_v1` is the first release of March 2016 (7,308 anchors), the
one of weights_SSD300.hdf5. Source: weiliu89/caffe, examples/ssd/ssd_pascal.py and ssd_coco.py.
"""

from dataclasses import dataclass, replace

# What is cut of anchors that reach beyond the picture: nothing; their corners; centre and sides as
# numbers (ssd.pytorch); the sides alone (torchvision).
CLIPS = ("none", "corners", "centres", "sides")


@dataclass(frozen=True)
class FeatureMap:
    """One source of boxes: where it is taken, its size and the anchors in each of its cells."""

    layer: str  # the Caffe name of the layer that feeds the heads
    size: int  # cells on a side
    step: float  # pixels between the centres of two anchors
    min_size: float  # pixels, side of the small square
    max_size: float | None  # pixels; the second square has side sqrt(min_size * max_size)
    aspect_ratios: tuple[float, ...]  # each one as itself and as its reciprocal

    @property
    def anchors_per_cell(self) -> int:
        """The small square, the second square if any, and two boxes a ratio."""
        return 1 + (self.max_size is not None) + 2 * len(self.aspect_ratios)


@dataclass(frozen=True)
class SSDSpec:
    """A generation of SSD300 with its scales. Everything that can be computed is a property.

    Raises:
        ValueError: `clip` is none of CLIPS.
    """

    name: str
    feature_maps: tuple[FeatureMap, ...]
    clip: str  # one of CLIPS
    image_size: int = 300
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)

    def __post_init__(self) -> None:
        if self.clip not in CLIPS:
            raise ValueError(f"clip must be one of {', '.join(CLIPS)}. Received: {self.clip!r}")

    @property
    def num_anchors(self) -> int:
        """8,732 for `ssd300`, 7,308 for `ssd300_v1`."""
        return sum(m.size**2 * m.anchors_per_cell for m in self.feature_maps)


_V1_LAYERS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "pool6")
_LAYERS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")
_SIZES = (38, 19, 10, 5, 3, 1)
_STEPS = (8, 16, 32, 64, 100, 300)
_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))


def _maps(layers: tuple, steps: tuple, mins: tuple, maxs: tuple, ratios: tuple) -> tuple:
    rows = zip(layers, _SIZES, steps, mins, maxs, ratios, strict=True)
    return tuple(FeatureMap(*row) for row in rows)


SPECS = {
    "ssd300": SSDSpec(
        "ssd300",
        _maps(_LAYERS, _STEPS, (30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315), _RATIOS),
        clip="none",
    ),
    "ssd300_coco": SSDSpec(
        "ssd300_coco",
        _maps(_LAYERS, _STEPS, (21, 45, 99, 153, 207, 261), (45, 99, 153, 207, 261, 315), _RATIOS),
        clip="none",
    ),
    # This generation has no step of its own: 300 pixels divided by the size of the map.
    "ssd300_v1": SSDSpec(
        "ssd300_v1",
        _maps(
            _V1_LAYERS,
            tuple(300 / size for size in _SIZES),
            (30, 60, 114, 168, 222, 276),
            (None, 114, 168, 222, 276, 330),
            ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3)),
        ),
        clip="corners",
    ),
}


def get_spec(name: str, clip: str | None = None) -> SSDSpec:
    """The spec of that name, with another kind of clipping than its own if one is given.

    Raises:
        ValueError: no such spec or kind of clipping; the message lists the known ones.
    """
    if name not in SPECS:
        raise ValueError(f"spec must be one of {', '.join(SPECS)}. Received: {name!r}")
    return replace(SPECS[name], clip=clip) if clip else SPECS[name]


# Alphabetical, as the devkit has them; label 0 is the first class: background is no class here.
VOC_CLASSES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor".split()
)

# In the order of COCO's category ids, without their gaps.
COCO_CLASSES = tuple(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,"
    "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,"
    "surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,"
    "broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,"
    "mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,"
    "teddy bear,hair drier,toothbrush".split(",")
)
# Ids of 1 to 90 that COCO's categories leave out; torchvision keeps a column for each.
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CLASS_LISTS = {"voc": VOC_CLASSES, "coco": COCO_CLASSES}


@dataclass(frozen=True)
class Preprocessing:
    """What an extractor wants of a picture: `(picture - mean) * scale` in its channel order."""

    channel_order: str  # "RGB" or "BGR"
    mean: tuple[float, float, float]  # in that order, of 0 to 255
    scale: float = 1.0


# Caffe's VGG16 subtracts whole numbers; InceptionV3 maps 0..255 to -1..1.
PREPROCESSING = {
    "vgg16": Preprocessing("BGR", (104.0, 117.0, 123.0)),
    "vgg16_bn": Preprocessing("BGR", (104.0, 117.0, 123.0)),
    "inception_v3": Preprocessing("RGB", (127.5, 127.5, 127.5), 1 / 127.5),
}
