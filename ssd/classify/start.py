"""What a classifier starts from: its parts of the data, and the weights of its extractor."""

from collections.abc import Callable
from pathlib import Path

from ssd.backend import keras
from ssd.classify.cifar import NAMES, read_cifar
from ssd.classify.data import ImageSet, divide, has_splits, read_folders
from ssd.classify.network import build_classifier, layer_groups
from ssd.classify.spec import Network
from ssd.known import resolve
from ssd.transfer.load import describe, imagenet_weights, load_backbone
from ssd.transfer.pairs import Slot
from ssd.transfer.weightfile import WeightFile

RANDOM = "random"


def read_images(
    data: str, split: str, class_names: tuple[str, ...] | None = None, least: int = 1
) -> ImageSet:
    """A split of class folders, DATA/SPLIT/CLASS, or of cifar10 or cifar100; "all": DATA/CLASS.

    Raises:
        ValueError, OSError: as `read_folders` and `read_cifar`.
    """
    if data in NAMES and not Path(data).is_dir():
        return read_cifar(data, split)
    folder = Path(data)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data must be a folder of class folders, {' or '.join(NAMES)}. Received: {data}"
        )
    if split != "all":
        folder = folder / split
        if not folder.is_dir():
            raise FileNotFoundError(f"split must be a folder in {data}. Received: {split!r}")
    return read_folders(folder, class_names, least)


def read_parts(
    data: str,
    split: str,
    val_split: str,
    val_share: float | None,
    seed: int,
    class_names: tuple[str, ...] | None = None,
) -> tuple[ImageSet, ImageSet]:
    """Images to train on and to validate with.

    With `val_share` that share of the first split is held back; else the second split is read. A folder
    without DATA/train is taken whole.

    Raises:
        ValueError, OSError: as `read_images`; nothing to validate with.
    """
    is_folder = Path(data).is_dir()
    if is_folder and not has_splits(data) and split == "train":
        split = "all"
    if val_share is None and split == "all":
        raise ValueError(f"--val-share must be given for folders without splits. Received: {data}")
    if val_share is None and is_folder and not (Path(data) / val_split).is_dir():
        raise ValueError(
            f"there must be images to validate with: a folder {val_split!r}, another by --val-split, or "
            f"--val-share 0.1. Received: {data}"
        )
    images = read_images(data, split, class_names, least=2)
    if val_share is not None:
        return divide(images, val_share, seed)
    return images, read_images(data, val_split, images.class_names)


def make_classifier(
    network: Network,
    class_names: tuple[str, ...],
    weights: str | None,
    seed: int,
    say: Callable = print,
    track: Callable | None = None,
) -> tuple[keras.Model, set[str]]:
    """A classifier with the weights of its extractor, and the names of the layers that are random.

    Args:
        network: what to build.
        class_names: decide the last layer.
        weights: a file of any format, a known name or a run folder of `ssd classify train`; "random":
            none; None: ImageNet's.
        seed: of random weights.
        say, track: as in `ssd.train.train`.
    Raises:
        ValueError, OSError: weights do not fit or cannot be had.
    """
    keras.utils.set_random_seed(seed)
    model = build_classifier(network, network.outputs(class_names))
    groups = layer_groups(model)
    # An input stage starts as identity: it has not been trained, but it is not random.
    new = groups["extractor"] | groups["top"]
    if weights == RANDOM:
        return model, new
    calls = (say, track) if track else (say,)
    path = resolve(weights, *calls) if weights else imagenet_weights(network.backbone, *calls)
    if path is not None:
        choose = _chooser(model, groups["extractor"])
        new -= set(load_backbone(model, network.backbone, path, choose))
    return model, new


def _chooser(model: keras.Model, extractor: set[str]) -> Callable[[WeightFile], list[Slot]]:
    """Which layers a file fills: the extractor, its normalisation if it has any, dense layers that fit."""

    def choose(file: WeightFile) -> list[Slot]:
        stored = {layer.canonical: layer for layer in file.layers if layer.tensors}
        chosen = []
        for slot in describe(model):
            layer = stored.get(slot.canonical)
            if slot.name.split("/")[0] in extractor:
                if not slot.name.endswith("_bn") or layer:
                    chosen.append(slot)
            elif slot.canonical in ("fc6", "fc7") and layer:
                kernel = next((t for t in layer.tensors if t.role == "kernel"), None)
                if kernel is not None and kernel.shape == slot.shapes.get("kernel"):
                    chosen.append(slot)
        return chosen

    return choose
