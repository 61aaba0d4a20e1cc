"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns where charjax keeps what it can make again; it need not be there yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the standard says to disregard any other
        base = Path.home() / ".cache"
    return base / "charjax"
