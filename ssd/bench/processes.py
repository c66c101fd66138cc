"""`ssd detect` as a user starts it: a new process from nothing to the written picture."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

# What it says last: `ssd detect` counts from when the model is ready.
RATE = re.compile(r"([\d.]+) images/s")
PEAK = """
import sys
from ssd.cli import main
try:
    main(sys.argv[1:])
finally:
    lines = open("/proc/self/status").read().splitlines()
    print("peak", next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def cold_start(model: str, photo: Path, runs: int, threads: int | None = None) -> dict | None:
    """Seconds of `ssd detect PHOTO`, several times.

    Args:
        model: name or path.
        photo: a picture.
        runs: processes, one after the other.
        threads: of the network.
    Returns:
        {"first", "median", "runs"}: the first may find files that no cache holds yet; None of no runs.
    Raises:
        ValueError: the command failed.
    """
    seconds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            detect([photo], model, Path(folder), threads)
            seconds.append(time.perf_counter() - start)
    return {"first": seconds[0], "median": median(seconds), "runs": seconds} if seconds else None


def peak_memory(model: str, photo: Path, threads: int | None = None) -> float | None:
    """The most memory, in MB (10^6), that `ssd detect PHOTO` ever held; None where no /proc tells it.

    The kernel's number of that one program: what wait() reports of a child counts its parent's, too.
    """
    if not Path("/proc/self/status").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PEAK]
        text = detect([photo], model, Path(folder), threads, command)
    return int(text.split("peak ")[-1]) * 1024 / 1e6


def detect_rate(source: Path, model: str, threads: int | None = None) -> float:
    """Images a second that `ssd detect SOURCE` reports, of a folder or video, boxes drawn and written."""
    with tempfile.TemporaryDirectory() as folder:
        text = detect([source], model, Path(folder), threads)
    if not (found := RATE.findall(text)):
        raise ValueError(f"ssd detect must tell its images/s. Received: {text[-200:]!r}")
    return float(found[-1])


def detect(
    sources: list[Path], model: str, out: Path, threads: int | None = None, command: list | None = None
) -> str:
    """Run the command and return what it printed.

    Args:
        sources, model, out, threads: of `ssd detect`.
        command: what runs `ssd`; None: the installed script, or this Python where there is none.
    Raises:
        ValueError: it failed; the message is the last line it wrote.
    """
    options = ["--model", str(model), "--out", str(out / "out")]
    options += ["--threads", str(threads)] if threads else []
    line = [*(command or _script()), "detect", *(str(Path(s).resolve()) for s in sources), *options]
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        told = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise ValueError(f"ssd detect must succeed. Received: {told}")
    return done.stdout


def _script() -> list[str]:
    script = Path(sys.executable).with_name("ssd")
    return [str(script)] if script.is_file() else [sys.executable, "-c", "from ssd.cli import main; main()"]
