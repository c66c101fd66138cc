"""The machine and the libraries that a measurement was made with."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import openvino

from ssd.runtimes.network import cores

LIBRARIES = (
    "ssd numpy opencv-python-headless openvino onnxruntime torch tensorflow tensorflow-cpu keras "
    "ai-edge-litert"
).split()


def describe() -> dict:
    """CPU, cores, memory, what it computes in hardware, load, system, date and versions."""
    core = openvino.Core()
    return {
        "cpu": cpu_name() or core.get_property("CPU", "FULL_DEVICE_NAME"),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "capabilities": list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": load(),
        "versions": versions(),
    }


def load() -> list[float] | None:
    """Load averages of 1, 5 and 15 minutes; None where the system has none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def cpu_name() -> str | None:
    """As the kernel has it; None where it says nothing."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def versions() -> dict[str, str]:
    """Library -> version, of those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
