"""Write a detector as Keras 3 or as a legacy Keras 2 HDF5 file, chosen by the suffix.

The legacy layout is that of keras 2.2.4, engine/saving.py: what is trained here can be read by the
old ports by name, and by their loops over `layer_names`.
"""

import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ssd.backend import keras
from ssd.beside import replace_text, replacing
from ssd.card import ModelCard, card_to_json, file_sha256
from ssd.checkpoint import describe_file, save_checkpoint
from ssd.model import L2Normalize
from ssd.transfer.ledger import Ledger, ledger_to_json
from ssd.transfer.target import check_suffix
from ssd.transfer.weightfile import CARD, LEDGER

# The 66 names of weights_SSD300.hdf5 as the port to Keras 2 has them (cory8249/ssd_keras, ssd_v2.py);
# ours have the same places up to 51, and the rest no weights.
_OLD_NAMES = {0: "input_1", 24: "conv7_1z"}
_SOURCES = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "pool6")
_OLD_END = (
    "mbox_conf pool6_reshaped mbox_loc mbox_conf_logits".split()
    + [f"{source}_mbox_priorbox" for source in _SOURCES]
    + "mbox_loc_final mbox_conf_final mbox_priorbox predictions".split()
)


def save_model(path: str | Path, model: keras.Model, card: ModelCard, ledger: Ledger) -> Ledger:
    """Write a detector with its card and ledger; beside it the ledger once more as PATH.ledger.json.

    Args:
        path: ending in .weights.h5 or .keras (Keras 3), .h5 or .hdf5 (legacy Keras 2).
        model: from `ssd.model.build_model`.
        card: stored in the file.
        ledger: of how it got its weights.
    Returns:
        the ledger with name and SHA-256 of the written file, as it stands beside it.
    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    write = next(w for suffix, w in _WRITERS.items() if path.name.lower().endswith(suffix))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"a model file must lie in a folder. Received: {path}") from None
    write(path, model, card, ledger)
    ledger = replace(ledger, result={"file": path.name, "sha256": file_sha256(path)})
    replace_text(path.with_name(f"{path.name}.ledger.json"), ledger_to_json(ledger))
    return ledger


def _save_archive(path: Path, model: keras.Model, card: ModelCard, ledger: Ledger) -> None:
    with replacing(path) as beside:
        model.save(beside)
        with zipfile.ZipFile(beside, "a") as archive:
            archive.writestr(f"{CARD}.json", card_to_json(card))
            archive.writestr(f"{LEDGER}.json", ledger_to_json(ledger))


def _save_legacy(path: Path, model: keras.Model, card: ModelCard, ledger: Ledger) -> None:
    names = [layer.name for layer in model.layers]
    old = _old_names(names)
    with replacing(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["layer_names"] = _bytes(old)
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.4"
        for i, name in enumerate(old):
            _write_layer(file.create_group(name), model.layers[i] if i < len(names) else None)
        describe_file(file, model, card, ledger)


_WRITERS = {
    ".weights.h5": save_checkpoint,
    ".keras": _save_archive,
    ".h5": _save_legacy,
    ".hdf5": _save_legacy,
}


def _old_names(names: list[str]) -> list[str]:
    """`layer_names` of the file: our own, or the published list for the network that has one."""
    if names[1:4] + names[-1:] + names[29:30] != ["conv1_1", "conv1_2", "pool1", "box_deltas", "pool6"]:
        return names
    return [_OLD_NAMES.get(i, name) for i, name in enumerate(names[:52])] + _OLD_END


def _write_layer(group: h5py.Group, layer: keras.layers.Layer | None) -> None:
    rows = _rows(layer) if layer is not None else []
    group.attrs["weight_names"] = _bytes([name for name, _ in rows])
    for name, variable in rows:
        group.create_dataset(name, data=np.asarray(variable, np.float32))


def _rows(layer: keras.layers.Layer) -> list[tuple[str, keras.Variable]]:
    """Weight names as Keras 2 gives them: those of a nested model, trainable ones first."""
    if isinstance(layer, keras.Model):
        inner = [row for own in layer.layers for row in _rows(own)]
        still = ("moving_mean:0", "moving_variance:0")
        return sorted(inner, key=lambda row: row[0].endswith(still))
    if isinstance(layer, L2Normalize):  # the ports named it themselves
        return [(f"{layer.name}/{layer.name}_gamma:0", layer.gamma)]
    return [(f"{layer.name}/{variable.name}:0", variable) for variable in layer.weights]


def _bytes(names: list[str]) -> np.ndarray:
    return np.array([name.encode() for name in names], dtype=np.bytes_ if names else "S1")
