"""Public weight files by name: fetched once, checked, and kept in a cache."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ssd.cache import user_cache
from ssd.catalogue import KNOWN, KnownFile
from ssd.download import PAUSES, check_address, download, forget, only_one, untracked

EXTRACTOR = "extractor.weights.h5"  # in a run folder of `ssd classify train`: what a detector takes of it


def cache_folder() -> Path:
    """Where fetched files stay: the environment variable SSD_CACHE, else the user's cache."""
    if own := os.environ.get("SSD_CACHE"):
        return Path(own).expanduser()
    return user_cache() / "models"


def find_known(name: str) -> KnownFile:
    """The known file of that name.

    Raises:
        ValueError: there is none; the message lists them all.
    """
    if name not in KNOWN:
        raise ValueError(f"a known file must be one of {', '.join(KNOWN)}. Received: {name!r}")
    return KNOWN[name]


def from_address(address: str) -> KnownFile:
    """Any file of the web, named after the end of its address.

    Raises:
        ValueError: no http address, or none that ends in a name.
    """
    check_address(address)
    name = PurePosixPath(unquote(urlsplit(address).path)).name
    if not name:
        raise ValueError(f"an address must end in the name of a file. Received: {address!r}")
    return KnownFile(address, name, address)


def resolve(
    name_or_path: str | Path, say: Callable[[str], None] | None = None, track: Callable = untracked
) -> Path:
    """The path of a weight file, fetched first if it is a known one that is not here yet.

    Args:
        name_or_path: a path is returned as it is, but a run folder of `ssd classify train` stands for the
            extractor in it; a known name stands for its file in the cache.
        say: told in sentences what goes on.
        track: see `fetch`.
    Raises:
        ValueError: neither a path nor a known name, or a wrong checksum.
        ConnectionError: see `fetch`.
    """
    path = Path(name_or_path)
    if (inner := path / EXTRACTOR).is_file():
        return inner
    # A folder may happen to be called "voc"; a TensorFlow checkpoint is the common stem of two files.
    stem = path.with_name(path.name + ".index") if path.name else path
    if path.is_file() or (str(name_or_path) not in KNOWN and (path.exists() or stem.is_file())):
        return path
    if str(name_or_path) not in KNOWN:
        raise ValueError(
            f"weights must be a file or one of {', '.join(KNOWN)}. Received: {str(name_or_path)!r}"
        )
    return fetch(KNOWN[str(name_or_path)], say=say, track=track)


def fetch(
    file: KnownFile,
    folder: Path | None = None,
    source: Path | None = None,
    say: Callable[[str], None] | None = None,
    track: Callable = untracked,
    pauses: tuple[float, ...] = PAUSES,
) -> Path:
    """Bring a file into a folder, unless it is there already; it is checked before it gets its name.

    An interrupted transfer stays beside as `.part`, and the next call goes on with it.

    Args:
        folder: None: the cache, where a damaged file is replaced. In another folder a file of that
            name is never replaced.
        source: a folder that holds the file, to copy it from there.
        say: told in sentences what goes on.
        track: (pieces, text, count) -> pieces, as `ssd.cli.track`, to show the progress.
        pauses: seconds before each further try after a cut.
    Returns:
        its path.
    Raises:
        ValueError: a wrong checksum or length, a file that must be fetched by hand, or one of that
            name that stands in `folder` and cannot be told to be the same.
        ConnectionError: it cannot be fetched; the message tells where a copy may be put.
        FileNotFoundError: `source` does not hold it.
    """
    say = say or (lambda text: None)
    target = (folder or _home(file)) / file.file_name
    if target.is_file():
        fault = _fault(target, file)
        if folder and not (fault or _is_pinned(file)):
            fault = f"{target} must be absent, or its SHA-256 be given. Received: a file of unknown origin"
        if not fault:
            return target
        if folder:
            raise ValueError(fault)
        say(f"{fault}; it is fetched again")
    by_hand = f"put it at {target}, or bring it there: ssd models fetch {file.name} --from FOLDER"
    if file.by_hand and not source:
        where = file.address + (f" ({file.note})" if file.note else "")
        raise ValueError(f"{file.name} must be fetched by hand. Get it from {where}; {by_hand}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    lock = target.with_name(target.name + ".lock")
    with only_one(lock, lambda: say(f"another process fetches {target.name}: waiting")):
        if target.is_file() and not _fault(target, file):
            return target  # the other process did it
        if source:
            _copy(file, source, part)
        else:
            try:
                download(file.address, part, size=file.size, track=track, pauses=pauses)
            except ConnectionError as error:
                raise ConnectionError(f"{error}. If you have a copy of {target.name}, {by_hand}") from None
        if fault := _fault(part, file):
            forget(part)
            raise ValueError(f"{fault} from {source or file.address}")
        if not _is_pinned(file):
            say(f"no checksum of {target.name} is known; this one has the SHA-256 {_digests(part)[0]}")
        os.replace(part, target)
        forget(part)
    return target


def check(path: Path, known: KnownFile) -> None:
    """Raise ValueError unless the file has the size and the checksums that are known of it."""
    if fault := _fault(path, known):
        raise ValueError(fault)


def _home(file: KnownFile) -> Path:
    """Files named by address have a folder each, because two addresses may end in the same name."""
    if file.name != file.address:
        return cache_folder()
    return cache_folder() / hashlib.sha256(file.address.encode()).hexdigest()[:12]


def _is_pinned(file: KnownFile) -> bool:
    return bool(file.sha256 or file.md5)


def _fault(path: Path, known: KnownFile) -> str | None:
    name = str(path).removesuffix(".part")
    size = path.stat().st_size
    if known.size is not None and size != known.size:
        return f"{name} must have {known.size} bytes. Received: {size}"
    if size == 0:
        return f"{name} must not be empty"
    if not _is_pinned(known):
        return None
    sha256, md5 = _digests(path)
    if known.sha256 and not sha256.startswith(known.sha256):
        return f"{name} must have the SHA-256 {known.sha256}. Received: {sha256}"
    if known.md5 and md5 != known.md5:
        return f"{name} must have the MD5 {known.md5}. Received: {md5}"
    return None


def _digests(path: Path) -> tuple[str, str]:
    sums = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            for one in sums:
                one.update(piece)
    return sums[0].hexdigest(), sums[1].hexdigest()


def _copy(file: KnownFile, source: Path, part: Path) -> None:
    path = Path(source) / file.file_name
    if not path.is_file():
        raise FileNotFoundError(f"the folder must hold {file.file_name}. Received: {source}")
    forget(part)
    shutil.copyfile(path, part)
