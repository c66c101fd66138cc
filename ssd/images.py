"""The door of still pictures: files in, (height, width, 3) uint8 RGB arrays out, and back."""

import os
from pathlib import Path

# OpenCV reads this limit once, when it is imported: 128 megapixels, against decompression bombs.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))

import cv2
import numpy as np

from ssd.beside import replacing
from ssd.spec import Preprocessing

IMAGE_SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .jp2 .pbm .pgm .png .ppm .tif .tiff .webp".split())
MAX_PIXELS = int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"])
EXIF_ORIENTATION = 0x0112  # the tag
MAX_FILE_BYTES = 512 << 20  # a picture file above this is refused before it is read


def load_image(path: str | Path) -> np.ndarray:
    """Read a picture as it is meant to be seen.

    EXIF rotation is applied; grey, palette, alpha and 16-bit pictures become 8-bit RGB (alpha is
    laid on white).

    Returns:
        (height, width, 3) uint8 RGB.
    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a picture, is damaged, or is larger than the limits above.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"a picture may have {MAX_FILE_BYTES} bytes. Received: {size} in {path}")
    return decode_image(path.read_bytes(), str(path))


def decode_image(data: bytes, where: str = "the given bytes") -> np.ndarray:
    """`load_image` for the bytes of a picture file; `where` names them in errors."""
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if len(buffer) else None
        if image is not None and _may_have_alpha(data):
            image = _flatten(cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED), image)
    except cv2.error as error:
        raise ValueError(f"a picture must be readable. Received: {where} ({_reason(error)})") from None
    if image is None:
        raise ValueError(f"a picture must be readable by OpenCV. Received: {where}")
    return image


def read_size(path: str | Path) -> tuple[int, int]:
    """(height, width) that `load_image` will give, from the head of the file alone.

    Raises:
        OSError, ValueError: as `load_image`.
    """
    height, width, orientation = read_header(path)
    return (width, height) if orientation >= 5 else (height, width)


def read_header(path: str | Path) -> tuple[int, int, int]:
    """Height and width as stored, and the EXIF orientation: 1 upright, 5 to 8 turned by a quarter.

    Raises:
        OSError, ValueError: as `load_image`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            return image.height, image.width, orientation if orientation in range(1, 9) else 1
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"a picture must be readable. Received: {path} ({type(error).__name__})") from None


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write (height, width, 3) uint8 RGB beside `path` and rename; the suffix picks the format.

    Raises:
        OSError: the folder cannot be written.
        ValueError: no such picture format.
    """
    path = Path(path)
    done, data = _encode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"a picture must have a known suffix. Received: {path}")
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) picture; SSD warps to a square and keeps no aspect ratio, so boxes stay."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def preprocess(image: np.ndarray, size: int, preprocessing: Preprocessing) -> np.ndarray:
    """Warp a picture to the network's square and bring it to the extractor's channels and range.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: side of the square in pixels.
        preprocessing: the extractor's, from `ssd.spec.PREPROCESSING` or a model card.
    Returns:
        (size, size, 3) float32.
    """
    square = image if image.shape[:2] == (size, size) else resize(image, size)
    if preprocessing.channel_order == "BGR":
        square = cv2.cvtColor(square, cv2.COLOR_RGB2BGR)
    # Whole rows at a time: NumPy is ten times as fast on these as on three channels.
    mean = np.tile(np.float32(preprocessing.mean), size)
    rows = np.subtract(square.reshape(size, -1), mean, dtype=np.float32)
    return np.multiply(rows, np.float32(preprocessing.scale), out=rows).reshape(size, size, 3)


def _encode(suffix: str, image: np.ndarray) -> tuple[bool, np.ndarray]:
    # Quality 90 keeps small text on boxes sharp.
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix.lower() in (".jpg", ".jpeg") else []
    try:
        return cv2.imencode(suffix, image, options)
    except cv2.error:
        return False, np.empty(0, np.uint8)


def _may_have_alpha(data: bytes) -> bool:
    return data[:4] in (b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")


def _flatten(raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """Lay an alpha channel, where the file has one, on white."""
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4 or raw.shape[:2] != image.shape[:2]:
        return image
    if not np.issubdtype(raw.dtype, np.integer):
        return image
    alpha = raw[:, :, 3:].astype(np.float32) / np.iinfo(raw.dtype).max
    return np.round(image * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _reason(error: cv2.error) -> str:
    return " ".join((error.err or str(error)).split())[:120]
