"""Choosing among checkpoints: found below a folder, ranked, and named when missing."""

import difflib
import sys
from pathlib import Path

from charjax.checkpoint.files import GROUPS, TRY_ANOTHER, StrPath, naming
from charjax.checkpoint.finding import (
    DEPTH,
    Entry,
    is_checkpoint,
    is_gone,
    look_at,
    read_through,
    walk,
)
from charjax.checkpoint.manifest import Manifest, read
from charjax.errors import CheckpointError, check_choice
from charjax.units import Say

CHOICES = ("best", "latest")


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
      say: called with a line that says which one was taken, and why; by default it
        goes to standard error.

    Raises:
      CheckpointError: there is none, and the message lists those nearby; or the
        manifest of one is damaged, so that the choice is not known.
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
        return sorted(look_at(lambda: walk(root, DEPTH), read), key=rank)


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
    found = {p for near in walk(folder, DEPTH) for p in (near, near.parent)}

    def unlikeness(near: Path) -> tuple[float, Path]:
        return -difflib.SequenceMatcher(None, path.name, near.name).ratio(), near

    closest = sorted(found - {folder}, key=unlikeness)[:4]
    return f"near it: {', '.join(map(str, closest))}" if closest else "none is near it"
