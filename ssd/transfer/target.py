"""From a weight file and a user's wishes to the card of the model that will take its weights."""

from dataclasses import replace
from pathlib import Path

from ssd.card import ModelCard
from ssd.catalogue import KNOWN
from ssd.known import resolve
from ssd.spec import get_spec
from ssd.transfer.classes import parse_classes
from ssd.transfer.plan import Options, open_source


def find_source(name_or_path: str | Path, options: Options, **calls: object) -> tuple[Path, Options]:
    """The path of a weight file; for a known name also what is known of it, where options are silent.

    Args:
        name_or_path: a path, or a name of `ssd models list`.
        options: of the user; they go first.
        calls: `say` and `track` of `ssd.known.resolve`.
    Raises:
        ValueError, OSError: as `ssd.known.resolve`.
    """
    path = resolve(name_or_path, **calls)
    known = KNOWN.get(str(name_or_path))
    if known is None or path == Path(name_or_path):
        return path, options
    told = {"source_spec": known.spec, "channel_order": known.channel_order, "source_clip": known.clip}
    return path, replace(options, **{k: v for k, v in told.items() if getattr(options, k) is None})


def choose_target(
    path: Path,
    options: Options,
    name: str,
    spec: str | None = None,
    backbone: str = "vgg16",
    cut: str | None = None,
    classes: str | tuple[str, ...] | None = None,
    clip: str | None = None,
) -> ModelCard:
    """The card of the model to build; what the user leaves open is read from the file.

    Args:
        path: of the weight file.
        options: of the transfer.
        name: of the model.
        spec: None takes that of the file's heads; "ssd300" for a backbone.
        backbone: name of the extractor.
        cut: its last layer.
        classes: names; or "voc", "coco", "a,b" or a text file; None takes those of the file.
        clip: of the anchors; None takes what the file's heads were trained with.
    Raises:
        ValueError: the file is damaged, or does not tell what was left open.
    """
    file, origin = open_source(path, options)
    file.close()
    if spec is None:
        spec = origin.spec if origin else "ssd300"
    if spec is None:
        raise ValueError(f"--spec must be given: the heads of {path} do not tell the scales of their anchors")
    if classes:
        names = parse_classes(classes) if isinstance(classes, str) else classes
    elif origin and origin.columns:
        names = tuple(n for n in origin.columns[1:] if n is not None)
    else:
        told = "without heads" if origin is None else f"with {origin.outputs - 1} classes of unknown names"
        raise ValueError(f"--classes must be given. Received: {path}, {told}")
    if clip is None and origin:
        clip = options.source_clip or file.clip or (file.card or {}).get("clip")
    clip = None if clip == get_spec(spec).clip else clip
    return ModelCard(name, spec, backbone, names, cut, clip=clip)
