"""What a request may cost, and how it is told that it asked for more."""

import io
from dataclasses import dataclass
from pathlib import Path

from ssd.images import decode_image

# What OpenCV decodes and Pillow tells the size of, by Pillow's names.
PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "GIF")


@dataclass(frozen=True)
class Limits:
    """Of one request; what exceeds them is refused with a reason."""

    image_bytes: int = 20 << 20
    image_pixels: int = 40_000_000
    video_bytes: int = 100 << 20
    video_pixels: int = 4096 * 2304  # of one frame
    video_frames: int = 3_000
    video_seconds: float = 1_200.0  # of work
    body_seconds: float = 30.0  # until a picture has arrived
    upload_seconds: float = 300.0  # until a video has arrived
    wait_seconds: float = 30.0  # in the queue and in the network
    queue: int = 16  # pictures that wait
    videos: int = 3  # that wait
    kept: int = 10  # finished videos
    keep_seconds: float = 900.0  # a finished video


class RefusalError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP: 4xx.
        reason: for the user.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def open_picture(data: bytes, limits: Limits) -> object:
    """The (H, W, 3) uint8 RGB picture of a body; its head is checked before anything is decoded.

    Raises:
        RefusalError: 415 no picture, 413 too many pixels, 422 damaged.
    """
    kind, pixels = _read_head(data)
    if pixels > limits.image_pixels:
        raise RefusalError(413, f"a picture may have {limits.image_pixels} pixels. Received: {pixels}")
    if not _is_whole(data, kind):
        raise RefusalError(422, f"a picture must be whole. Received: a {kind} that breaks off")
    try:
        image = decode_image(data, "the body")
    except ValueError as error:
        raise RefusalError(422, str(error)) from None
    if image.shape[0] * image.shape[1] != pixels:
        raise RefusalError(422, "a picture must have the size that its head says")
    return image


def video_format(head: bytes) -> str:
    """FFmpeg's name for a container that refers to no other file: others are never opened.

    Raises:
        RefusalError: 415.
    """
    if head[4:8] == b"ftyp":
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    raise RefusalError(415, "a video must be MP4, MOV, WebM, Matroska or AVI")


def mp4_is_whole(path: Path) -> bool:
    """Whether the boxes of an MP4 or MOV end where the file ends, or before."""
    size, offset = path.stat().st_size, 0
    with open(path, "rb") as file:
        while offset + 8 <= size:
            file.seek(offset)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length or size - offset
            if length < 8:
                return False
            offset += length
    return offset <= size


def _read_head(data: bytes) -> tuple[str, int]:
    """Format and number of pixels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=PICTURES) as image:
            return image.format, image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusalError(413, f"a picture must not be so large ({' '.join(str(error).split())})") from None
    except (OSError, ValueError, SyntaxError, OverflowError):
        text = f"the body must be a picture: {', '.join(PICTURES)}, by its bytes or as multipart/form-data"
        raise RefusalError(415, text) from None


def _is_whole(data: bytes, kind: str) -> bool:
    """Whether the end is there; decoders would fill the rest with grey."""
    if kind == "JPEG":
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if kind == "PNG":
        return data.rfind(b"IEND") > 0
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return True
