"""From a weight file and a user's wishes to the card of the model that will take its weights."""

from dataclasses import replace
from pathlib import Path

from ssd.card import ModelCard
from ssd.catalogue import KNOWN
from ssd.detector import find_model
from ssd.known import resolve
from ssd.spec import get_spec
from ssd.transfer.classes import parse_classes
from ssd.transfer.compiled import FILE
from ssd.transfer.plan import Options, open_source

# Of model files: Keras 3 weights, Keras 3 archive, legacy Keras 2.
SUFFIXES = (".weights.h5", ".keras", ".h5", ".hdf5")


def find_source(name_or_path: str | Path, options: Options, **calls: object) -> tuple[Path, Options]:
    """The path of a weight file; for a known name also what is known of it, where options are silent.

    Args:
        name_or_path: a path, a name of `ssd models list`, or a compiled model: its folder, "default" or
            the name of another that is shipped.
        options: of the user; they go first.
        calls: `say` and `track` of `ssd.known.resolve`.
    Raises:
        ValueError, OSError: as `ssd.known.resolve`.
    """
    if compiled := _compiled(name_or_path):
        return compiled, options
    path = resolve(name_or_path, **calls)
    known = KNOWN.get(str(name_or_path))
    if known is None or path == Path(name_or_path):
        return path, options
    if path.name.endswith((".zip", ".tar.gz")):
        raise ValueError(f"{known.name} is an archive, to be unpacked by hand: {path}. {known.note}")
    # Its channel order is not taken from there: the first convolution itself shows it.
    told = {"source_spec": known.spec, "source_clip": known.clip}
    return path, replace(options, **{k: v for k, v in told.items() if getattr(options, k) is None})


def _compiled(name_or_path: str | Path) -> Path | None:
    """model.xml of a folder, or of a model that is shipped; a file or a known name goes first."""
    path = Path(name_or_path)
    if path.is_file() or str(name_or_path) in KNOWN:
        return None
    try:
        found = find_model(name_or_path)
    except FileNotFoundError:
        return None
    return found if found.name == FILE else None


def check_suffix(path: Path) -> None:
    """Raise ValueError for a model file that `ssd.transfer.write.save_model` cannot write."""
    if not any(path.name.lower().endswith(s) and path.name.lower() != s for s in SUFFIXES):
        raise ValueError(f"a model file must end in {', '.join(SUFFIXES)}. Received: {path}")


def choose_target(
    path: Path,
    options: Options,
    name: str,
    spec: str | None = None,
    backbone: str | None = None,
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
        backbone: name of the extractor; None takes that of the file's card, else "vgg16".
        cut: its last layer; None likewise.
        classes: names; or "voc", "coco", "a,b" or a text file; None takes those of the file.
        clip: of the anchors; None takes what the file's heads were trained with.
    Raises:
        ValueError: the file is damaged, or does not tell what was left open.
    """
    file, origin = open_source(path, options)
    file.close()
    if backbone is None:
        backbone, cut = (file.card.backbone, cut or file.card.cut) if file.card else ("vgg16", cut)
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
    heads_taken = origin and not options.last and not any("mbox" in pattern for pattern in options.skip)
    if clip is None and heads_taken:
        clip = options.source_clip or file.clip or (file.card.clip if file.card else None)
    clip = None if clip == get_spec(spec).clip else clip
    return ModelCard(name, spec, backbone, names, cut, clip=clip)
