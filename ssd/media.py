"""The doors of moving pictures: frames in, annotated copies out.

Video is read and written by PyAV, whose wheel ships FFmpeg and the H.264 encoder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

FULL_HD = 1920 * 1088  # pixels


@dataclass(frozen=True)
class Frame:
    """One frame of a video: its picture, number from 0, and time in seconds."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    index: int
    time_s: float


def video_length(path: Path, kind: str | None = None) -> int | None:
    """Frames that the file says it has; None if it does not say.

    Raises:
        ValueError: no readable video.
    """
    with _open(path, kind) as container:
        return container.streams.video[0].frames or None


def video_rate(path: Path, kind: str | None = None) -> Fraction:
    """Frames a second. Raises ValueError for a file that is no readable video."""
    with _open(path, kind) as container:
        return _rate(container.streams.video[0])


def read_video(path: Path, kind: str | None = None, max_pixels: int | None = None) -> Iterator[Frame]:
    """Every frame of a video in order, turned upright.

    Args:
        path: of the file.
        kind: FFmpeg's name of the only container that it may be; None: any that FFmpeg finds.
        max_pixels: of a frame; one that has more ends the video with an error.
    Raises:
        ValueError: no readable video, or it breaks off; frames before the break are yielded.
    """
    with _open(path, kind) as container:
        stream = container.streams.video[0]
        rate = _rate(stream)
        if stream.width * stream.height > FULL_HD:  # below, one thread is faster than any network needs
            stream.thread_type = "AUTO"
        if max_pixels:
            if stream.width * stream.height > max_pixels:
                size = f"{stream.width} x {stream.height}"
                raise ValueError(f"a frame may have {max_pixels} pixels. Received: {size} in {path}")
            stream.codec_context.options = {"max_pixels": str(max_pixels)}  # it may change its mind
        start, count = None, 0
        colours = VideoReformatter()
        try:
            for index, frame in enumerate(container.decode(stream)):
                time_s = frame.time if frame.time is not None else float(index / rate)
                start = time_s if start is None else start
                image = upright(_to_rgb(frame, colours), frame.rotation)
                yield Frame(image, index, time_s - start)
                count = index + 1
        except av.FFmpegError as error:
            raise _broken(path, count, stream.frames, f" ({error})") from None
        # A cut file may end without an error; edit lists hide a few frames of whole ones.
        if count < 0.95 * stream.frames - 2:
            raise _broken(path, count, stream.frames)


class VideoWriter:
    """Writes H.264 that browsers play; a context manager.

    The file appears under its name when it is closed, after an error too, so that it always plays.
    H.264 for browsers has even sides: an odd last row or column is left out.

    Args:
        path: ends in one of H264_SUFFIXES.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self._rate = path, rate
        self._beside = path.with_name(f".part-{path.name}")
        with _as_os_error(path):
            self._container = av.open(str(self._beside), "w", options={"movflags": "+faststart"})
        self._stream = None
        self._last_pts = -1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, frame: Frame) -> None:
        """Append a frame at its own time."""
        height, width = (side - side % 2 for side in frame.image.shape[:2])
        if self._stream is None:
            self._stream = self._start(height, width)
        # OpenCV converts four times as fast as FFmpeg would, with the same matrix.
        planes = cv2.cvtColor(frame.image[:height, :width], cv2.COLOR_RGB2YUV_I420)
        picture = av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")
        # Times keep a variable rate as it was; they must rise for the container.
        pts = max(self._last_pts + 1, round(frame.time_s / self._stream.codec_context.time_base))
        picture.pts, picture.time_base, self._last_pts = pts, self._stream.codec_context.time_base, pts
        with _as_os_error(self.path):
            self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file and give it its name; without a frame, or on a full disk, nothing is left."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            with _as_os_error(self.path), container:
                if self._stream is not None:
                    container.mux(self._stream.encode(None))
            if self._stream is not None:
                self._beside.replace(self.path)
        finally:
            self._beside.unlink(missing_ok=True)

    def _start(self, height: int, width: int):
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = 1 / Fraction(self._rate)
        # The network needs the cores. Half the time of "superfast" at the same crf, 1.8 dB less at most,
        # files 14 % smaller to 27 % larger, on three clips; B-frames, CABAC and deblocking pay.
        stream.options = {
            "crf": "23",
            "preset": "ultrafast",
            "x264-params": "bframes=3:cabac=1:no-deblock=0",
        }
        return stream


@contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """FFmpeg's errors of writing as Python's."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(f"a video must be writable. Received: {path} ({error})") from None


def _broken(path: Path, count: int, total: int, reason: str = "") -> ValueError:
    of = f" of {total}" if total else ""
    return ValueError(
        f"a video must be whole. Received: {path}, which breaks off after {count}{of} frames{reason}"
    )


def _rate(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _to_rgb(frame: av.VideoFrame, colours: VideoReformatter) -> np.ndarray:
    """(H, W, 3) uint8 RGB by one thread, for the cores are the network's."""
    if frame.format.name == "yuv444p" and frame.width % 2 == frame.height % 2 == 0:
        frame = _halve_chroma(frame)
    rgb = colours.reformat(frame, format="rgb24", threads=1)
    if rgb.planes[0].line_size != 3 * rgb.width:  # rows end with bytes that are no pixels
        return rgb.to_ndarray()
    return np.frombuffer(rgb.planes[0], np.uint8).reshape(rgb.height, rgb.width, 3)  # no copy


def _halve_chroma(frame: av.VideoFrame) -> av.VideoFrame:
    """4:4:4 as 4:2:0, which FFmpeg takes a tenth of the time to turn to RGB, and drawn copies are anyway."""
    height, width = frame.height, frame.width
    planes = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes]
    luma, *chroma = (plane[:height, :width] for plane in planes)
    out = np.empty((height * 3 // 2, width), np.uint8)
    out[:height] = luma
    for plane, half in zip(chroma, out[height:].reshape(2, height // 2, width // 2), strict=True):
        cv2.resize(plane, (width // 2, height // 2), dst=half, interpolation=cv2.INTER_AREA)
    halved = av.VideoFrame.from_numpy_buffer(out, format="yuv420p")
    halved.colorspace, halved.color_range = frame.colorspace, frame.color_range
    return halved


def _open(path: Path, kind: str | None = None):
    options = {"protocol_whitelist": "file"} if kind else {}  # nothing that a file may refer to
    try:
        container = av.open(str(path), format=kind, options=options)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"a video must be readable. Received: {path} ({error})") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"a video must have a picture. Received: {path}")
    return container


def upright(image: np.ndarray, degrees: int) -> np.ndarray:
    """Turn counter-clockwise by the angle that the container asks for."""
    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    turn = turns.get(int(degrees) % 360)
    return image if turn is None else cv2.rotate(image, turn)
