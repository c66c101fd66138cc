"""Where the user's caches are, without a package for it."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """The folder of this program in the user's cache, by the custom of the system; it need not exist."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "ssd" / "Cache"
    if sys.platform == "darwin":
        return home / "Library/Caches/ssd"
    own = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(own) if Path(own).is_absolute() else home / ".cache") / "ssd"
