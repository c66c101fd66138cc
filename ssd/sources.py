"""Which files to look at: any mix of pictures, videos, folders and globs."""

import glob
from pathlib import Path

from ssd.images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .ts .webm .wmv".split())


def find_sources(patterns: list[str]) -> tuple[list[Path], list[str]]:
    """The image and video files of any mix of files, folders (not below them) and globs.

    Returns:
        the files in the order given, each once, sorted within a folder or glob; and a line for
        each pattern that names nothing.
    """
    found, faults = {}, []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = [p for p in sorted(path.iterdir()) if is_media(p)]
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
            matches = [p for p in matches if p.is_file() and is_media(p)]
        if not matches:
            faults.append(f"{pattern}: no image or video there")
        found |= {p.resolve(): p for p in matches if p.resolve() not in found}
    return list(found.values()), faults


def is_media(path: Path) -> bool:
    """Whether the suffix is one of an image or a video."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_video(path)


def is_video(path: Path) -> bool:
    """Whether the suffix is one of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES
