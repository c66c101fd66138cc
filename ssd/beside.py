"""Files and folders are made beside their name and get it when they are complete.

So that a reader never meets half a file, and an error or Ctrl-C leaves what was there before as it was.
What grows for long, or is gone on with after a break, keeps its unfinished part and is not written by this
module: `ssd.download`, `ssd.classify.features`, `ssd.results`, `ssd.media`.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path`; what the block makes there takes the place of `path` when the block ends.

    Args:
        path: a file, replaced in one step; or a folder, which must not exist or be empty.
    Yields:
        `.part-NAME` in the same folder: nothing is there. After an error nothing is there again.
    Raises:
        OSError: it cannot be renamed.
    """
    path = Path(path)
    beside = path.with_name(f".part-{path.name}")
    _remove(beside)
    try:
        yield beside
        beside.replace(path)
    finally:
        _remove(beside)


def replace_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8 in one step, line ends as they are.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as beside:
        beside.write_text(text, "utf-8", newline="")


def replace_json(path: str | Path, content: dict) -> None:
    """Write plain data as indented JSON in one step.

    Raises:
        OSError: it cannot be written.
    """
    replace_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
