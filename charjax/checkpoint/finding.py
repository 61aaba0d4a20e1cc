"""Finding checkpoints in folders that may change, or be unreadable, meanwhile."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from charjax.checkpoint.files import ARRAYS, GROUPS, check_digests, naming
from charjax.checkpoint.manifest import MANIFEST, Manifest, read
from charjax.errors import CheckpointError

# How deep a tree of runs is searched: cv/GROUP/RUN/CHECKPOINT.
DEPTH = 3
# How the names of checkpoints begin that were not renamed.
_NAME = "lm_"
# Saves take far longer than looks, so the second look nearly always suffices.
_MAX_LOOKS = 100


class Entry(NamedTuple):
    """A checkpoint that was looked at.

    Attributes:
      path: its folder.
      found: what it says of itself, or why that is not known.
    """

    path: Path
    found: Manifest | CheckpointError


def look_at(
    paths: Callable[[], Iterable[Path]], look: Callable[[Path], Manifest]
) -> list[Entry]:
    """Returns each checkpoint with its manifest, or why that is not known.

    A run may save a new checkpoint and prune an old one between two looks, so if one is
    gone all are looked for again.
    """
    entries: list[Entry] = []
    for _ in range(_MAX_LOOKS):
        entries, is_complete = [], True
        for path in paths():
            try:
                entries.append(Entry(path, look(path)))
            except CheckpointError as error:
                if is_gone(path):
                    is_complete = False
                else:
                    entries.append(Entry(path, error))
        if is_complete:
            break
    return entries


def read_through(checkpoint: Path, groups: tuple[str, ...] = GROUPS) -> Manifest:
    """Returns a manifest once every file of some groups was compared with it."""
    manifest = read(checkpoint)
    with naming(checkpoint):
        check_digests(checkpoint, manifest.files, groups)
    return manifest


def is_gone(path: Path) -> bool:
    """Tells whether a checkpoint was pruned since it was found."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def is_checkpoint(path: Path) -> bool:
    """Tells whether a folder is a checkpoint, even without its manifest or Orbax's.

    One that cannot be looked into is, if its name is a checkpoint's.
    """
    for mark in (path / MANIFEST, path / ARRAYS / "_CHECKPOINT_METADATA"):
        try:
            os.stat(mark)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return path.name.startswith(_NAME)
        return True
    return path.name.startswith(_NAME) and path.is_symlink() and not path.exists()


def walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yields the checkpoints at or below a folder; hidden folders are passed over."""
    if is_checkpoint(folder):
        yield folder
    elif depth:
        for child in folders(folder, skip_forbidden=depth < DEPTH):
            if not child.name.startswith("."):
                yield from walk(child, depth - 1)


def own(run_dir: Path) -> list[Path]:
    """Returns the checkpoints of a run itself, those that are links included.

    A link to another of them is left out: it must not be taken for a second one.
    """
    with naming(run_dir):
        paths = [path for path in folders(run_dir) if not path.name.startswith(".")]
        seen = {path.resolve() for path in paths if not path.is_symlink()}
        distinct = []
        for path in filter(is_checkpoint, paths):
            if path.is_symlink():
                target = path.resolve()
                if target in seen:
                    continue
                seen.add(target)
            distinct.append(path)
    return distinct


def folders(path: Path, *, skip_forbidden: bool = False) -> list[Path]:
    """Returns the folders in a folder, none if that is missing.

    Args:
      path: the folder.
      skip_forbidden: whether one that this user may not read counts as empty.

    Raises:
      OSError: it cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            return sorted(path / entry.name for entry in entries if _may_be_one(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if skip_forbidden and isinstance(error, PermissionError):
            return []
        raise


def _may_be_one(entry: os.DirEntry[str]) -> bool:
    """Tells a folder; what cannot be seen counts if it is called as a checkpoint is."""
    try:
        is_folder = entry.is_dir()
        if is_folder or not entry.is_symlink():
            return is_folder
        os.stat(entry)
    except OSError:  # such as a link to a disk that is not mounted
        return entry.name.startswith(_NAME)
    return False
