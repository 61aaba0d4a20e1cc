"""Choosing among checkpoints: found below a folder, ranked, and named when missing."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from charjax.checkpoint.files import (
    ARRAYS,
    GROUPS,
    TRY_ANOTHER,
    StrPath,
    check_digests,
    naming,
)
from charjax.checkpoint.manifest import MANIFEST, Manifest, read
from charjax.errors import CheckpointError, check_choice
from charjax.units import Say

CHOICES = ("best", "latest")
# How deep a tree of runs is searched: cv/GROUP/RUN/CHECKPOINT.
_DEPTH = 3
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


def find(
    path: StrPath,
    which: str = "best",
    *,
    fallback: bool = False,
    say: Say | None = None,
) -> Path:
    """Returns a checkpoint's folder: the path itself, or one chosen from below it.

    A validation loss is better than any training loss, a training loss than none.
    The latest is the one of most steps in the run that was saved to last.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs.
      which: `'best'` or `'latest'`.
      fallback: whether damaged ones below it are passed over; each is then read
        through before it is chosen.
      say: told which one was taken then, and why; standard error by default.

    Raises:
      CheckpointError: there is none, and the message lists those nearby; or it cannot
        be told which it is, since the manifest of one is damaged.
      ConfigError: `which` is neither.

    Example:
      >>> find("cv", which="latest")  # doctest: +SKIP
      PosixPath('cv/run/lm_lstm_epoch0.95_2.0681')
    """
    return choose(path, which, GROUPS if fallback else None, say or to_stderr)[0]


def choose(
    path: StrPath, which: str, groups: tuple[str, ...] | None, say: Say
) -> tuple[Path, Manifest | None]:
    """As `find`; with groups, damaged ones are passed over.

    Returns:
      A checkpoint, and if the files of these groups were compared with their sha256 its
      manifest.
    """
    check_choice("which", which, CHOICES)
    path = Path(path)
    if is_checkpoint(path):
        return path, None
    entries = listing(path)
    bad = [e.found for e in entries if isinstance(e.found, CheckpointError)]
    if bad and groups is None:
        raise bad[0]
    good = loadable(entries)
    while good:
        chosen = good[0][0] if which == "best" else latest(good)
        manifest = None
        if groups:
            try:
                manifest = read_through(chosen, groups)
            except CheckpointError as error:
                if is_gone(chosen):  # pruned meanwhile
                    return choose(path, which, groups, say)
                bad.append(error)
                good = [entry for entry in good if entry[0] != chosen]
                continue
        if bad:
            reasons = "; ".join(str(e).removesuffix(f". {TRY_ANOTHER}") for e in bad)
            say(f"took {chosen}, passing over: {reasons}")
        return chosen, manifest
    for error in bad:
        raise type(error)(f"{path}: no sound checkpoint in it; {error}")
    state = "no checkpoint in it" if path.exists() else "not there"
    raise CheckpointError(f"{path}: {state}; {_nearby(path)}")


def to_stderr(line: str) -> None:
    """Prints a line on standard error."""
    print(f"charjax: {line}", file=sys.stderr)


def listing(root: StrPath) -> list[Entry]:
    """Returns every checkpoint below a folder with its manifest, the best first.

    Those with a validation loss come first, then those with a training loss, each by
    loss; then those without, the latest first; then those that cannot be read, with the
    error in place of the manifest. Only manifests are read: `verify` reads a checkpoint
    through.

    Args:
      root: a checkpoint, a run's folder or a folder of runs; need not exist.

    Example:
      >>> for path, found in listing("cv"):  # doctest: +SKIP
      ...     print(path, found.loss if isinstance(found, Manifest) else found)
    """
    root = Path(root)
    with naming(root):
        return sorted(look_at(lambda: _walk(root, _DEPTH), read), key=rank)


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


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yields the checkpoints at or below a folder; hidden folders are passed over."""
    if is_checkpoint(folder):
        yield folder
    elif depth:
        for child in folders(folder, skip_forbidden=depth < _DEPTH):
            if not child.name.startswith("."):
                yield from _walk(child, depth - 1)


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


def rank(entry: Entry) -> tuple[float, ...]:
    """Returns a key that sorts the best checkpoint first."""
    found = entry.found
    if isinstance(found, CheckpointError):
        return (3,)
    if found.loss is None:
        return (2, -found.step)
    return (found.loss_of == "train", found.loss, -found.step)


def loadable(entries: list[Entry]) -> list[tuple[Path, Manifest]]:
    """Returns the entries that have a manifest."""
    return [(path, m) for path, m in entries if isinstance(m, Manifest)]


def latest(entries: list[tuple[Path, Manifest]]) -> Path:
    """Returns the checkpoint of most steps in the run that was saved to last."""
    newest, _ = max(entries, key=lambda entry: entry[1].saved)
    run = [entry for entry in entries if entry[0].parent == newest.parent]
    return max(run, key=lambda entry: (entry[1].step, entry[1].saved))[0]


def _nearby(path: Path) -> str:
    """Names the runs and checkpoints beside a path, those of a similar name first."""
    folder = next((p for p in path.parents if p.is_dir()), Path())
    found = {p for near in _walk(folder, _DEPTH) for p in (near, near.parent)}

    def unlikeness(near: Path) -> tuple[float, Path]:
        return -difflib.SequenceMatcher(None, path.name, near.name).ratio(), near

    closest = sorted(found - {folder}, key=unlikeness)[:4]
    return f"near it: {', '.join(map(str, closest))}" if closest else "none is near it"
