"""Open any weight file: its format is told by its content, never by its suffix.

>>> with open_weights("ssd300.pth") as file:
...     print(file.format, [layer.name for layer in file.layers])
"""

import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from ssd.transfer.caffe import is_caffe, read_caffe
from ssd.transfer.chainer import is_npz, read_chainer
from ssd.transfer.compiled import is_compiled, read_compiled
from ssd.transfer.hdf5 import open_hdf5, whole
from ssd.transfer.keras3 import is_keras3, read_keras3, read_keras_archive
from ssd.transfer.keras_hdf5 import is_keras_hdf5, read_keras_hdf5
from ssd.transfer.names import FOREIGN, UNUSABLE
from ssd.transfer.pytorch import is_torch_zip, read_torch_stream, read_torch_zip
from ssd.transfer.tf_checkpoint import MAGIC, find_index, read_tf_checkpoint
from ssd.transfer.weightfile import ZIP_DAMAGE, WeightFile

FORMATS = (
    "Keras HDF5 (0.x to 3), .weights.h5, .keras, .caffemodel, Chainer .npz, PyTorch .pth, "
    "TensorFlow checkpoint, model.xml of a compiled model"
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_TORCH_STREAM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"  # the pickle of its magic number
_MAX_MEMBERS = 20_000
# Two orders of the same kernel differ by 0.15 in correlation, two kernels of chance by 0.03.
_SURE, _MARGIN = 0.6, 0.05


def open_weights(path: str | Path) -> WeightFile:
    """Open a weight file.

    How the first convolution stands (turned by Theano, channels RGB or BGR) is found by comparing it
    with ImageNet VGG16's, which every published SSD300 started from; if it is like none of the four,
    the format's own custom holds.

    Args:
        path: of the file; of a TensorFlow checkpoint the prefix, the index or a shard.
    Raises:
        ValueError: the file is of no known format, damaged, or would run code.
        OSError: there is no such file.
    """
    path = Path(path)
    try:
        file = _open(path)
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{error}, in {path}") from None
    try:
        for layer in file.layers:
            if layer.name.endswith(FOREIGN):
                raise ValueError(
                    "the file must be an SSD300 that normalises conv4_3 by L2. Received: batch "
                    f"normalisation, {layer.name} in {path}"
                )
        _set_aside(file)
        _orient(file)
    except BaseException:
        file.close()
        raise
    return file


def orientation(kernel: np.ndarray) -> tuple[str, bool] | None:
    """Channel order and turn of a first convolution that descends from ImageNet VGG16's.

    Args:
        kernel: (3, 3, 3, 64), HWIO.
    Returns:
        "BGR" or "RGB", and whether it is turned by 180 degrees; None if it is like none of the four.
    """
    own = _imagenet_conv1_1()
    with np.errstate(invalid="ignore"):  # NaN is a matter of whoever takes the tensor
        kernel = kernel.astype(np.float64)
    ways = {("BGR", False): own, ("RGB", False): own[:, :, ::-1]}
    ways |= {(order, True): way[::-1, ::-1] for (order, _), way in ways.items()}
    if kernel.shape != own.shape or not 0 < np.abs(kernel).max() < 1e30 or kernel.std() == 0:
        return None
    fits = sorted(((np.corrcoef(kernel.ravel(), w.ravel())[0, 1], way) for way, w in ways.items()))
    (second, _), (best, way) = fits[-2:]
    return way if best > _SURE and best - second > _MARGIN else None


def _open(path: Path) -> WeightFile:
    index = find_index(path)
    if not path.is_file():
        if index is not None:
            return read_tf_checkpoint(index, path)
        if path.exists():
            raise ValueError(f"a weight file must be one of: {FORMATS}. Received: {path}, which is no file")
        raise FileNotFoundError(f"a weight file must exist. Received: {path}")
    with open(path, "rb") as file:
        start = file.read(16)
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read(8)
    if start.startswith(_HDF5):
        return _open_hdf5(path)
    if start.startswith(b"PK"):
        return _open_zip(path)
    if start.startswith(_TORCH_STREAM):
        return _open_stream(path)
    if is_compiled(start):
        return read_compiled(path)
    if end == MAGIC or index is not None:
        return read_tf_checkpoint(index or path, path)
    data = np.memmap(path, np.uint8, "r") if start else np.zeros(0, np.uint8)
    if is_caffe(data):
        return read_caffe(data, path)
    what = "a packed archive: unpack it first" if start.startswith(_GZIP) else start[:8].hex(" ") or "nothing"
    raise ValueError(f"a weight file must be one of: {FORMATS}. Received: {path}, which begins with {what}")


def _open_hdf5(path: Path) -> WeightFile:
    file = open_hdf5(path, path)
    try:
        with whole(path):
            if is_keras3(file):
                found = read_keras3(file, path)
            elif is_keras_hdf5(file):
                found = read_keras_hdf5(file, path)
            else:
                raise ValueError(
                    f"HDF5 weights must be Keras'. Received: {path} with {', '.join(file)[:200]}"
                )
    except BaseException:
        file.close()
        raise
    found.close = file.close
    return found


def _open_zip(path: Path) -> WeightFile:
    try:
        archive = zipfile.ZipFile(path)
    except (ValueError, *ZIP_DAMAGE) as error:
        raise ValueError(f"a zip file must be whole. Received: {path} ({error})") from None
    try:
        names = archive.namelist()
        if len(names) > _MAX_MEMBERS or len(set(names)) != len(names):
            raise ValueError(f"a zip file must have unique members. Received: {len(names):,} in {path}")
        if is_torch_zip(archive):
            found = read_torch_zip(archive, path)
        elif "config.json" in names:
            found = read_keras_archive(archive, path)
        elif is_npz(archive):
            found = read_chainer(archive, path)
        else:
            raise ValueError(
                f"a zip of weights must be PyTorch's, Keras' or NumPy's. Received: {path} with "
                f"{', '.join(names[:3])}; unpack an archive first"
            )
    except BaseException:
        archive.close()
        raise
    inner = found.close
    found.close = lambda: (inner(), archive.close())
    return found


def _open_stream(path: Path) -> WeightFile:
    file = open(path, "rb")  # noqa: SIM115 - open as long as the weight file is
    try:
        found = read_torch_stream(file, path)
    except BaseException:
        file.close()
        raise
    found.close = file.close
    return found


def _set_aside(file: WeightFile) -> None:
    """A classifier without numbers: torchvision publishes the VGG16 that SSD started from like that."""
    first = next((layer for layer in file.layers if layer.name == "classifier.0"), None)
    bias = next((t for t in first.tensors if t.role == "bias"), None) if first else None
    if bias is None or np.isfinite(bias.read()).any():
        return
    file.layers = tuple(
        replace(layer, canonical=UNUSABLE) if layer.name.startswith("classifier.") else layer
        for layer in file.layers
    )
    file.notes += ("the classifier of the file is NaN: only its convolutions are of use",)


def _orient(file: WeightFile) -> None:
    first = file.find("conv1_1")
    kernel = next((t for t in first.tensors if t.role == "kernel"), None) if first else None
    if kernel is None or sorted(kernel.shape) != [3, 3, 3, 64]:
        return
    array = kernel.read()
    array = array.transpose(2, 3, 1, 0) if kernel.layout == "OIHW" else array
    found = orientation(array)
    if found is None:
        return
    order, flipped = found
    if (order, flipped) != (file.channel_order, file.flipped):
        file.notes += (
            f"conv1_1 shows {order} channels{', kernels turned' if flipped else ''}; "
            f"taken for it, though {file.format} commonly has {file.channel_order}"
            f"{', turned' if file.flipped else ''}",
        )
    file.channel_order, file.flipped = order, flipped


@cache
def _imagenet_conv1_1() -> np.ndarray:
    """The first convolution of this project's default model, BGR, not turned; 1,728 numbers."""
    return np.load(Path(__file__).with_name("conv1_1.npy"), allow_pickle=False).astype(np.float32)
