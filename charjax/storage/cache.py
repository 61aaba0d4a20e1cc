"""The user's cache folder, and what makes a folder safe to load programs from.

A library or a compiled program that another user put into the cache would run with this
user's rights. So what is loaded and run comes from a private folder: one that nobody
but this user and the administrator can change.
"""

import os
import stat
from pathlib import Path

import platformdirs

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class CacheError(Exception):
    """A cache folder or a file in it cannot be trusted; the message says why."""


def cache_folder() -> Path:
    """Returns where charjax keeps what it can make again; it may not exist yet.

    This is `$XDG_CACHE_HOME/charjax` where that variable is an absolute path, else the
    operating system's usual place: `~/.cache/charjax` on Linux.

    Raises:
      CacheError: the user has no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the standard says to ignore a relative path
        return base / "charjax"
    folder = platformdirs.user_cache_path("charjax", appauthor=False)
    if folder.is_absolute():
        return folder
    raise CacheError("there is no home folder for caches. Try setting XDG_CACHE_HOME")


def private_folder(*names: str) -> Path:
    """Returns a folder below `cache_folder`, created if needed, that is private.

    Args:
      names: the names of the folders below it, outermost first.

    Returns:
      The folder's path without links.

    Raises:
      CacheError: another user can write to it or has put a file there.
      OSError: it cannot be created or read.
    """
    folder = cache_folder().joinpath(*names)
    # Each missing folder by itself: the mode of `mkdir(parents=True)` is for the last.
    for missing in reversed([f for f in (folder, *folder.parents) if not f.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder = folder.resolve()
    require_private(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            _require_owner(Path(entry.path), entry.stat(follow_symlinks=False))
    return folder


def require_private(path: Path) -> None:
    """Raises CacheError where another user could change a file or folder.

    On Windows this does nothing: there a user's profile is private by its access list.

    Args:
      path: an absolute path without links. Its parents are checked too, for whoever can
        write to a folder can rename what is in it.
    """
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        raise CacheError(
            f"{path} must be a file or folder; got a link. Try deleting it"
        )
    _require_owner(path, info)
    _require_closed(path, info)
    for parent in path.parents:
        info = os.lstat(parent)
        _require_owner(parent, info)
        if not info.st_mode & stat.S_ISVTX:  # sticky: only owners rename, as in /tmp
            _require_closed(parent, info)


def _require_owner(path: Path, info: os.stat_result) -> None:
    if not hasattr(os, "geteuid"):
        return
    # In a user namespace the administrator, who owns "/", is not number 0.
    if info.st_uid not in (os.geteuid(), 0, os.lstat("/").st_uid):
        raise CacheError(
            f"{path} must belong to the user who runs charjax; got user "
            f"{info.st_uid}. {_advice(path)}"
        )


def _require_closed(path: Path, info: os.stat_result) -> None:
    if hasattr(os, "geteuid") and info.st_mode & _OTHERS_WRITE:
        raise CacheError(
            f"{path} must be writable by its owner only; got mode "
            f"{info.st_mode & 0o7777:o}. "
            f"{_advice(path)}"
        )


def _advice(path: Path) -> str:
    if path.is_relative_to(cache_folder().resolve()):
        return "Try deleting it: it is only a cache"
    return "Try setting XDG_CACHE_HOME to a private folder"
