"""Short videos as jobs: one at a time, with progress, in private files that do not stay."""

import json
import queue
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssd.draw import draw
from ssd.media import VideoWriter, read_video, video_length, video_rate
from ssd.pipeline import in_order
from ssd.records import Detections
from ssd.results import Result
from ssd.serve.limits import Limits, RefusalError, mp4_is_whole, video_format

HEAD = 16  # bytes that tell the container


@dataclass
class Job:
    """One video: where it is and how far."""

    id: str
    folder: Path
    find: Callable[[object], Detections]
    state: str = "waiting"  # running, done, failed
    frames: int = 0
    total: int | None = None
    reason: str | None = None
    ended: float | None = None  # time.monotonic()
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def upload(self) -> Path:
        return self.folder / "upload"

    @property
    def result(self) -> Path:
        return self.folder / "result.mp4"

    @property
    def boxes(self) -> Path:
        return self.folder / "result.jsonl"

    def as_dict(self) -> dict:
        """What the API tells."""
        return {
            "id": self.id,
            "state": self.state,
            "frames": self.frames,
            "total": self.total,
            "reason": self.reason,
        }


class Videos:
    """All jobs of a service and the thread that does them.

    Args:
        limits: of each.
        streams: frames in the network at once.
    """

    def __init__(self, limits: Limits, streams: int = 1) -> None:
        self._streams = streams
        self._limits, self._jobs, self._lock = limits, {}, threading.Lock()
        self.folder = Path(tempfile.mkdtemp(prefix="ssd-serve-"))  # readable by this user alone
        self._queue: queue.Queue = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def new(self, find: Callable[[object], Detections]) -> Job:
        """Room for a video that is to be uploaded, before a byte of it has come.

        Raises:
            RefusalError: 429 too many wait.
        """
        with self._lock:
            self._forget_old()
            if sum(job.ended is None for job in self._jobs.values()) > self._limits.videos:
                raise RefusalError(429, "too many videos wait; try again later")
            name = secrets.token_urlsafe(16)
            job = self._jobs[name] = Job(name, self.folder / name, find)
            job.folder.mkdir()
        return job

    def start(self, job: Job) -> None:
        """Queue an uploaded video.

        Raises:
            RefusalError: 415 no video, 413 too large, 422 damaged.
        """
        with open(job.upload, "rb") as file:
            kind = video_format(file.read(HEAD))
        if kind == "mov" and not mp4_is_whole(job.upload):
            raise RefusalError(422, "a video must be whole. Received: one that breaks off")
        try:
            job.total = video_length(job.upload, kind)
        except ValueError:
            raise RefusalError(422, "a video must be readable") from None
        if (job.total or 0) > self._limits.video_frames:
            most = self._limits.video_frames
            raise RefusalError(413, f"a video may have {most} frames. Received: {job.total}")
        self._queue.put((job, kind))

    def get(self, name: str) -> Job:
        """A job by its id. Raises RefusalError: 404."""
        job = self._jobs.get(name)
        if job is None:
            raise RefusalError(404, "no such video, or it is gone")
        return job

    def remove(self, job: Job) -> None:
        """Forget a job, which stops it, and its files."""
        job.gone.set()
        self._jobs.pop(job.id, None)
        if job.state != "running":
            shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Stop, and remove every file."""
        for job in list(self._jobs.values()):
            self.remove(job)
        self._queue.put(None)
        self._thread.join(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _forget_old(self) -> None:
        now = time.monotonic()
        ended = [job for job in self._jobs.values() if job.ended is not None]
        ended.sort(key=lambda job: job.ended)
        for i, job in enumerate(ended):
            if now - job.ended > self._limits.keep_seconds or len(ended) - i > self._limits.kept:
                self.remove(job)

    def _run(self) -> None:
        while True:
            try:
                entry = self._queue.get(timeout=60)
            except queue.Empty:
                with self._lock:
                    self._forget_old()
                continue
            if entry is None:
                return
            self._do(*entry)

    def _do(self, job: Job, kind: str) -> None:
        job.state = "running"
        try:
            self._find(job, kind)
            job.state = "done"
        except RefusalError as error:
            job.state, job.reason = "failed", error.reason
        except (ValueError, OSError) as error:
            text = " ".join(str(error).replace(str(job.upload), "the video").split())
            job.state, job.reason = "failed", text
        except Exception as error:  # one bad video ends no thread
            job.state, job.reason = "failed", type(error).__name__
        finally:
            job.ended = time.monotonic()
            job.upload.unlink(missing_ok=True)
            if job.gone.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)

    def _find(self, job: Job, kind: str) -> None:
        end, limits = time.monotonic() + self._limits.video_seconds, self._limits
        rate = video_rate(job.upload, kind)
        with VideoWriter(job.result, rate) as writer, open(job.boxes, "w", encoding="utf-8") as lines:
            frames = read_video(job.upload, kind, limits.video_pixels)
            for future in in_order(lambda frame: (frame, job.find(frame.image)), frames, self._streams):
                frame, found = future.result()
                if job.gone.is_set():
                    return
                if frame.index >= limits.video_frames:
                    raise RefusalError(413, f"a video may have {limits.video_frames} frames")
                if time.monotonic() > end:
                    raise RefusalError(413, f"a video may take {limits.video_seconds:g} s of work")
                writer.write(replace(frame, image=draw(frame.image, found)))
                result = Result("upload", "upload", frame.index, frame.time_s, found, of_video=True)
                lines.write(json.dumps(result.as_dict(), ensure_ascii=False) + "\n")
                job.frames += 1
