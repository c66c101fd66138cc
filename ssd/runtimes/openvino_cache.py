"""Compiled graphs of OpenVINO kept on disk, so that a program starts sooner.

A file has what OpenVINO exported, a line of facts, and the SHA-256 of both; anything that does not fit is
compiled anew. Its name comes from the hashes of the model, OpenVINO and the processor, so that a changed
model never meets an old file.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from ssd.cache import user_cache

VARIABLE = "SSD_COMPILE_CACHE"  # a folder, or off
KEEP = 4  # files, the last used; each takes as much as its model, the default one 25 MB
DIGEST_BYTES = hashlib.sha256().digest_size
MAX_FACTS_BYTES = 4096


def cache_folder() -> Path | None:
    """Where compiled graphs stay; None: nowhere."""
    own = os.environ.get(VARIABLE, "")
    if own.lower() in ("off", "0", "no", "false"):
        return None
    return Path(own).expanduser() if own else user_cache() / "compiled"


def cache_file(parts: list) -> Path:
    """The file of a compiled graph that depends on `parts`, which JSON can write, in `cache_folder`."""
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"{key[:32]}.blob"


def read_cached(path: Path) -> tuple[memoryview, dict] | None:
    """What `write_cached` wrote, mapped rather than read; None if it is not there or not whole."""
    try:
        data = np.memmap(path, np.uint8, mode="r")
        os.utime(path)  # used now: the last to go
    except (OSError, ValueError):
        return None
    body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:].tobytes()
    if hashlib.sha256(body).digest() != digest:
        return None
    tail = body[-MAX_FACTS_BYTES:].tobytes()
    facts = tail[tail.rindex(b"\n") + 1 :]
    return body[: len(body) - len(facts) - 1].data, json.loads(facts)


def write_cached(path: Path, blob: bytes, facts: dict) -> None:
    """Keep a compiled graph; where that is not possible, nothing happens."""
    tail = b"\n" + json.dumps(facts).encode()
    digest = hashlib.sha256(blob)
    digest.update(tail)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
            beside = Path(file.name)
            try:
                file.writelines((blob, tail, digest.digest()))
                file.close()
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        _forget_old(path.parent)
    except OSError:
        return


def _forget_old(folder: Path) -> None:
    by_age = sorted(folder.glob("*.blob"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[KEEP:]:
        path.unlink(missing_ok=True)
