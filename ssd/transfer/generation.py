"""What the heads of a file say of the detector it comes from: generation, scales, classes."""

import re
from dataclasses import dataclass

from ssd.spec import SPECS
from ssd.transfer.classes import BACKGROUND, known_columns
from ssd.transfer.names import HEADS, SOURCES, V1_SOURCES, head
from ssd.transfer.weightfile import Layer, WeightFile

# Files of 21 classes that were trained with the scales of the COCO release tell only by their names.
_COCO_SCALES = re.compile(r"coco|(?:^|_)ft(?:_|\.)|^ssd_300_vgg\.ckpt", re.IGNORECASE)
# Layers that have the same shapes in both generations and work otherwise: conv8_2 strides by 2 in one.
LATE = frozenset(("conv8_1", "conv8_2", "conv9_1", "conv9_2", *HEADS))


@dataclass(frozen=True)
class Origin:
    """Where the detector of a file comes from.

    Args:
        sources: layers that feed the heads.
        outputs: columns of the confidence heads, background included.
        columns: their names, if known.
        spec: name of its spec; None where scales are not told.
        sure: the file itself says so, not only its name.
        why: how it was told.
        guessed: the names of the columns are those that so many outputs usually have.
    """

    sources: tuple[str, ...]
    outputs: int
    columns: tuple[str | None, ...] | None
    spec: str | None
    sure: bool
    why: str
    guessed: bool = False


def read_origin(
    file: WeightFile, spec: str | None = None, class_names: tuple[str, ...] | None = None
) -> Origin | None:
    """Read what the heads of a file say.

    Args:
        file: an open weight file.
        spec: what the user knows of its spec.
        class_names: what the user knows of its classes.
    Returns:
        None if the file has no heads: a backbone.
    Raises:
        ValueError: heads are missing, disagree, or contradict what the user says.
    """
    heads = {layer.canonical: layer for layer in file.layers if layer.canonical in HEADS and layer.tensors}
    if not heads:
        return None
    sources = V1_SOURCES if any("pool6" in name for name in heads) else SOURCES
    wanted = [head(source, kind) for source in sources for kind in ("conf", "loc")]
    missing, odd = [n for n in wanted if n not in heads], sorted(set(heads) - set(wanted))
    if missing or odd:
        raise ValueError(
            f"heads must be complete: {', '.join(wanted)}. Received: {file.path} "
            f"{'without ' + ', '.join(missing) if missing else 'with ' + ', '.join(odd)}"
        )
    cells = tuple(_outputs(heads[head(s, "loc")]) / 4 for s in sources)
    columns = {_outputs(heads[head(s, "conf")]) / c for s, c in zip(sources, cells, strict=True)}
    if len(columns) != 1 or not min(columns).is_integer():
        rows = [f"{head(s, 'conf')} {_outputs(heads[head(s, 'conf')])}" for s in sources]
        raise ValueError(f"heads must agree on the count of classes. Received: {', '.join(rows)}")
    outputs = int(columns.pop())
    found, sure, why = _spec(file, cells, outputs)
    if spec and found and sure and SPECS[spec].num_anchors != SPECS[found].num_anchors:
        raise ValueError(f"--source-spec must have the file's anchors ({found}). Received: {spec}")
    if spec:
        found, sure, why = spec, True, "as told"
    columns, guessed = _columns(file, outputs, class_names)
    return Origin(sources, outputs, columns, found, sure, why, guessed)


def check_generation(origin: Origin, spec: str, moved: set[str]) -> list[str]:
    """Refuse heads that were trained for other anchors.

    Args:
        origin: of the file.
        spec: name of the model's.
        moved: canonical names of the layers that are to be taken.
    Returns:
        remarks.
    Raises:
        ValueError: the pair is crossed; with the reason and the remedy.
    """
    late = sorted(moved & LATE)
    if origin.spec is None or not late:
        return []
    if origin.spec == spec:
        return [] if origin.sure else [f"scales of {spec} assumed: {origin.why}"]
    text = f"{SPECS[origin.spec].num_anchors:,} anchors, {origin.spec} ({origin.why})"
    if SPECS[origin.spec].num_anchors == SPECS[spec].num_anchors and not origin.sure:
        return [
            f"the file was probably trained with the scales of {origin.spec} ({origin.why}); taken as {spec}"
        ]
    remedy = f"--spec {origin.spec}"
    if SPECS[origin.spec].num_anchors == SPECS[spec].num_anchors:
        remedy += f", or --source-spec {spec} if you know that it was trained with those scales"
    else:
        remedy += ", or leave these layers out with --skip or --to"
    raise ValueError(
        f"heads must fit the anchors of the model: {SPECS[spec].num_anchors:,}, {spec}. "
        f"Received: a file with {text}, and {', '.join(late[:3])}{' ...' if len(late) > 3 else ''} to be "
        f"taken; remedy: {remedy}"
    )


def _spec(file: WeightFile, cells: tuple, outputs: int) -> tuple[str | None, bool, str]:
    """Name of the spec, whether it is sure, and how it was told."""
    if file.card:
        return file.card.spec, True, "its card"
    fitting = [n for n, s in SPECS.items() if cells == tuple(m.anchors_per_cell for m in s.feature_maps)]
    if not fitting:
        raise ValueError(f"heads must have the anchors a cell of {', '.join(SPECS)}. Received: {cells}")
    if fitting == ["ssd300_v1"]:
        return "ssd300_v1", True, "its heads"
    if outputs in (81, 91):
        return "ssd300_coco", True, f"its heads have COCO's {outputs} outputs"
    if outputs == 21 and _COCO_SCALES.search(file.path.name):
        return "ssd300_coco", False, f"21 outputs, but the name {file.path.name}"
    if outputs == 21:
        return "ssd300", False, "its heads have VOC's 21 outputs"
    return None, False, "its heads"


def _columns(
    file: WeightFile, outputs: int, names: tuple[str, ...] | None
) -> tuple[tuple[str | None, ...] | None, bool]:
    """Names of the columns, if they can be known, and whether they are only the usual ones."""
    if names is None and file.card:
        names = file.card.class_names
    if names is None:
        return known_columns(outputs), known_columns(outputs) is not None
    if len(names) != outputs - 1:
        raise ValueError(f"source classes must be {outputs - 1}, as the heads say. Received: {len(names)}")
    return (BACKGROUND, *names), False


def _outputs(layer: Layer) -> int:
    """Output channels of a head."""
    kernel = next((t for t in layer.tensors if t.role == "kernel"), None)
    if kernel is None:
        raise ValueError(f"a head must have a kernel. Received: {layer.name} with "
                         f"{', '.join(t.name for t in layer.tensors)}")  # fmt: skip
    return kernel.shape[kernel.layout.index("O")]
