"""The newest frame of a camera, a stream or a clip that plays at its own clock: no queue, no growing lag.

A thread takes every frame that comes and keeps the last; whoever is slower than the source misses frames.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from ssd.media import Frame, upright

TIMEOUT_S = 10.0  # a stream that sends nothing for this long is lost
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # before each try to reach a lost stream; then the last
PROTOCOLS = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
END_S = 1.0  # a file over HTTP that stops this close to its end is whole


@dataclass(frozen=True)
class LiveFrame(Frame):
    """A frame, and when it came."""

    came_at: float  # of time.monotonic()


class _Newest(NamedTuple):
    """The last picture as the source gave it; conversion waits until somebody wants it."""

    convert: Callable[[], np.ndarray]
    index: int
    time_s: float
    came_at: float


class Capture:
    """Hands out the newest frame of a source, opened at once; a context manager, inside which it plays.

    Args:
        source: number of a camera, a video file, or an address such as rtsp://... or http://...
        say: is told when a stream is lost and found again.
        pauses: seconds before each try to reach a lost stream.
    Raises:
        ValueError, OSError: the source cannot be opened now.
    """

    def __init__(
        self,
        source: str,
        say: Callable[[str], object] = lambda text: None,
        pauses: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self.source, self._say, self._pauses = source, say, pauses
        self._live = is_stream(source)
        self._newest: _Newest | None = None
        self._news, self._closed = threading.Condition(), threading.Event()
        self._error: Exception | None = None
        self.ended, self.came = False, 0
        self._reader = self._open()
        self.rate = self._reader.rate
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Capture":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def newest(self, after: int = -1, patience_s: float = 0.1) -> LiveFrame | None:
        """The newest frame if its number is above `after`, waiting a moment for it; else None.

        Raises:
            ValueError: the source broke off, and it is none that is reached again.
        """
        with self._news:
            self._news.wait_for(lambda: self.ended or self._above(after), patience_s)
            newest = self._newest if self._above(after) else None
        if newest:
            return LiveFrame(newest.convert(), newest.index, newest.time_s, newest.came_at)
        if self.ended and self._error:
            raise self._error
        return None

    def close(self) -> None:
        """End the thread; a read that waits for a stream ends by itself."""
        self._closed.set()
        self._thread.join(1)

    def _above(self, number: int) -> bool:
        return self._newest is not None and self._newest.index > number

    def _open(self) -> "_CameraReader | _VideoReader":
        if self.source.isdecimal():
            return _CameraReader(int(self.source))
        return _VideoReader(self.source, self._live)

    def _run(self) -> None:
        tries = 0
        while not self._closed.is_set():
            try:
                reader, self._reader = self._reader or self._open(), None
                if tries:
                    self._say(f"{self.source} is back")
                before = self.came
                why = self._take(reader) or "it ended"
                tries = 0 if self.came > before else tries
                if not self._live or why == "whole":
                    break
            except (ValueError, OSError, av.FFmpegError) as error:
                why = " ".join(str(error).split())
                if not self._live:
                    self._error = ValueError(why)
                    break
            pause = self._pauses[min(tries, len(self._pauses) - 1)]
            tries += 1
            if not self._closed.is_set():
                self._say(f"{self.source} is lost ({why}); trying again in {pause:g} s")
            self._closed.wait(pause)
        with self._news:
            self.ended = True
            self._news.notify_all()

    def _take(self, reader: "_CameraReader | _VideoReader") -> str | None:
        """Frames until the source ends: "whole" if that is its end; None: nobody can tell."""
        start, first = time.monotonic(), None
        time_s = None
        with reader:
            for convert, time_s in reader.frames():
                if self._closed.is_set():
                    return None
                first = time_s if first is None else first
                if reader.paced:
                    self._closed.wait(max(0, start + time_s - first - time.monotonic()))
                self._put(convert, time_s - first if reader.paced and not self._live else None)
        return "whole" if reader.length_s and (time_s or 0) > reader.length_s - END_S else None

    def _put(self, convert: Callable[[], np.ndarray], time_s: float | None) -> None:
        now = time.monotonic()
        time_s = now - self._started if time_s is None else time_s
        with self._news:
            self._newest = _Newest(convert, self.came, time_s, now)
            self.came += 1
            self._news.notify_all()


def is_stream(source: str) -> bool:
    """Whether a source is an address, which can be lost and found again."""
    return source.partition("://")[0].lower() in PROTOCOLS and "://" in source


class _CameraReader:
    """A camera of this computer, by its number."""

    paced, length_s = False, None

    def __init__(self, number: int) -> None:
        cv2.utils.logging.setLogLevel(0)  # OpenCV would explain a missing camera in five lines of its own
        self._camera = cv2.VideoCapture(number)
        if not self._camera.isOpened():
            raise ValueError(f"a camera must be there and not busy. Received: camera {number}")
        self.rate = Fraction(self._camera.get(cv2.CAP_PROP_FPS) or 30).limit_denominator(1001)
        self._number = number

    def __enter__(self) -> "_CameraReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._camera.release()

    def frames(self) -> Iterator[tuple]:
        while True:
            there, image = self._camera.read()
            if not there:
                raise ValueError(f"a camera must go on. Received: camera {self._number}, which stopped")
            yield (lambda image=image: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), 0.0


class _VideoReader:
    """A file, or a stream by its address."""

    def __init__(self, source: str, live: bool) -> None:
        if not live and not Path(source).exists():
            raise FileNotFoundError(
                f"a source must be a camera's number, a video file or an address. Received: {source}"
            )
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
        try:
            self._container = av.open(source, options=options, timeout=TIMEOUT_S if live else None)
        except (av.FFmpegError, OSError) as error:
            raise ValueError(f"a video must be readable. Received: {source} ({error})") from None
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f"a video must have a picture. Received: {source}")
        self._stream = self._container.streams.video[0]
        self.rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.length_s = self._container.duration / av.time_base if self._container.duration else None
        self.paced = self.length_s is not None  # what has an end comes as fast as one reads

    def __enter__(self) -> "_VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def frames(self) -> Iterator[tuple]:
        for index, frame in enumerate(self._container.decode(self._stream)):
            time_s = frame.time if frame.time is not None else float(index / self.rate)
            yield (lambda f=frame: upright(f.to_ndarray(format="rgb24"), f.rotation)), time_s
