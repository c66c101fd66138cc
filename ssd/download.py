"""`download(address, path)`: one file over HTTP, going on where it was cut. Knows nothing of weights.

Beside an unfinished `x.part` stands `x.part.json`: its address, its length and the mark (ETag or
Last-Modified) by which the server knows the same file again.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

LIMIT = 4 << 30  # bytes; the largest public weight file of a VGG16 has 0.55e9
PIECE = 1 << 18  # bytes
PAUSES = (1.0, 4.0, 15.0)  # seconds before the second, third and fourth try
TIMEOUTS = (10, 30)  # seconds to connect, and between two pieces
REDIRECTS = 10


class _CutError(Exception):
    """The server stopped or stumbled: worth another try."""


def untracked(items: Iterable, text: str, total: int | None = None) -> Iterable:
    """Show no progress; the signature is that of `ssd.cli.track`."""
    return items


def check_address(address: str) -> None:
    """Raise ValueError unless it is an address that can be fetched over HTTP."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an address must begin with https:// or http://. Received: {address!r}")


def download(
    address: str,
    part: Path,
    *,
    size: int | None = None,
    track: Callable = untracked,
    pauses: tuple[float, ...] = PAUSES,
) -> None:
    """Bring a file to `part`; go on with what an earlier call left there.

    Args:
        address: http or https; a redirect may lead from http to https, never back.
        part: of this process alone (`only_one`); kept if the connection is cut.
        size: bytes, if known.
        track: passes the pieces on and shows them, as `ssd.cli.track` does.
        pauses: seconds before each further try after a cut.
    Raises:
        ConnectionError: no connection, or the server has no such file.
        ValueError: an address that is not allowed, or a file of another length than `size`.
    """
    import requests
    from urllib3.exceptions import HTTPError

    check_address(address)
    reached = False
    for pause in (*pauses, None):
        note = _read_note(part, address)
        if note and note["size"] == part.stat().st_size:
            return  # ended between the last byte and its check
        try:
            with requests.Session() as session, _ask(session, address, part, note) as response:
                reached = True
                _receive(response, address, part, size, track)
                return
        except (requests.RequestException, HTTPError, _CutError) as error:
            if pause is None or not reached:
                raise ConnectionError(f"cannot fetch {address}: {_reason(error)}") from None
            time.sleep(pause)


def forget(part: Path) -> None:
    """Remove an unfinished file and what is noted of it."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


@contextmanager
def only_one(path: Path, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`; a second process stays here until the first has let go of it.

    The system opens the lock when its process ends, however it ends. `wait` is called once if
    another process has it.
    """
    waiting = False
    while True:
        with open(path, "ab") as file:
            # The holder removes the file: what was opened may be no longer what stands there.
            if _locked(file) and _stands(file, path):
                try:
                    yield
                finally:
                    with suppress(OSError):  # Windows removes no open file
                        path.unlink()
                return
        if not waiting:
            waiting = True
            wait()
        time.sleep(0.1)


def _locked(file) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        def lock() -> None:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:

        def lock() -> None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    try:
        lock()
    except (BlockingIOError, PermissionError):
        return False
    return True


def _stands(file, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _ask(session, address: str, part: Path, note: dict | None):
    headers = {"Accept-Encoding": "identity"}
    if note:
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": note["mark"]}
    response = _follow(session, address, headers)
    if response.status_code == 416 and note:  # the file became shorter than the part
        response.close()
        forget(part)
        return _ask(session, address, part, None)
    return response


def _follow(session, address: str, headers: dict):
    for _ in range(REDIRECTS):
        response = session.get(address, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUTS)
        if not response.is_redirect:
            return response
        response.close()
        target = urljoin(address, session.get_redirect_target(response))
        if urlsplit(target).scheme not in ("https", urlsplit(address).scheme):
            raise ValueError(f"{address} must not lead to another scheme. Received: {target}")
        check_address(target)
        address = target
    raise ConnectionError(f"cannot fetch {address}: more than {REDIRECTS} redirects")


def _receive(response, address: str, part: Path, size: int | None, track: Callable) -> None:
    have, total = _position(response, address, part)
    if None not in (size, total) and size != total:
        forget(part)
        raise ValueError(f"{address} must have {size} bytes. Received: {total}")
    limit = LIMIT if size is None else size
    _check_room(address, part, have, total, limit)
    _write_note(part, address, response.headers, total)
    count = None if total is None else -(-(total - have) // PIECE)
    with part.open("ab" if have else "wb") as file:
        for piece in track(response.raw.stream(PIECE, decode_content=False), part.stem, count):
            have += len(piece)
            if have > limit:
                break
            file.write(piece)
    if have > limit:
        forget(part)
        raise ValueError(f"{address} must have at most {limit} bytes. Received: more")
    if total is not None and have < total:
        raise _CutError(f"cut after {have} of {total} bytes")


def _position(response, address: str, part: Path) -> tuple[int, int | None]:
    """Where the answer begins and how long the whole file is; a new beginning removes the old part."""
    status, headers = response.status_code, response.headers
    if status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
        start, total = (int(found[1]), int(found[2])) if found else (-1, -1)
        note = _read_note(part, address)
        if note and start == part.stat().st_size and note["size"] in (None, total):
            return start, total
        forget(part)
        raise _CutError("the server went on at another place")
    if status >= 500 or status in (408, 429):
        raise _CutError(f"{status} {response.reason}")
    if status != 200:
        raise ConnectionError(f"cannot fetch {address}: {status} {response.reason}")
    if headers.get("Content-Type", "").startswith("text/html"):
        raise ConnectionError(f"cannot fetch {address}: the answer is a web page, not a file")
    forget(part)
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _check_room(address: str, part: Path, have: int, total: int | None, limit: int) -> None:
    if total is not None and total > limit:
        raise ValueError(f"{address} must have at most {limit} bytes. Received: {total}")
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise OSError(f"{part.parent} must have {total - have} bytes free. Received: {free}")


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_note(part: Path, address: str, headers, total: int | None) -> None:
    """Without a mark nothing is noted: such a file always begins anew."""
    mark = headers.get("ETag", "")
    if not mark.startswith('"'):  # a weak one does not promise the same bytes
        mark = headers.get("Last-Modified", "")
    if mark:
        note = {"address": address, "mark": mark, "size": total}
        _note_path(part).write_text(json.dumps(note), "utf-8")


def _read_note(part: Path, address: str) -> dict | None:
    try:
        note = json.loads(_note_path(part).read_text("utf-8"))
        usable = note["address"] == address and isinstance(note["mark"], str) and part.stat().st_size > 0
        return note if usable and (note["size"] is None or note["size"] >= part.stat().st_size) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reason(error: Exception) -> str:
    """The one sentence in the long text of a failed request."""
    found = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", str(error))
    return found[1] if found else " ".join(str(error).split())[-200:]
