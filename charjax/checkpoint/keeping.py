"""The checkpoints of one run: examined, set aside, pruned, and swept up after kills."""

import os
import re
import shutil
import time
from pathlib import Path

from charjax.checkpoint.choosing import latest, loadable, rank
from charjax.checkpoint.files import StrPath, delete, free_name, naming, reason
from charjax.checkpoint.finding import Entry, folders, look_at, own, read_through
from charjax.checkpoint.loading import Verified
from charjax.checkpoint.manifest import Manifest, read
from charjax.errors import CheckpointError, ConfigError, DamagedError

_TMP = re.compile(r"\.tmp-(\d{1,9})-.+")
# By then the process number in a temporary name must be another process's.
_STALE_SECONDS = 3600


def examine(run_dir: StrPath) -> list[Verified | Entry]:
    """Returns a run's own checkpoints, each read through, the latest first.

    The damaged ones come last, with the error in place of the manifest.

    Raises:
      CheckpointError: one of them cannot be read at present, or is of a newer format.
        It may be the latest, so a run must not continue without it.

    Example:
      >>> latest, *others = examine("cv/run")  # doctest: +SKIP
      >>> params, state = restore(latest, params, state)  # doctest: +SKIP
    """
    path = Path(run_dir)
    sound: list[Verified] = []
    damaged: list[Verified | Entry] = []
    for entry in look_at(lambda: own(path), read_through):
        if isinstance(entry.found, DamagedError):
            damaged.append(entry)
        elif isinstance(entry.found, CheckpointError):
            raise entry.found
        else:
            sound.append(Verified(entry.path, entry.found))
    sound.sort(key=lambda one: (-one.manifest.step, -one.manifest.saved))
    return [*sound, *damaged]


def set_aside(checkpoint: StrPath) -> Path:
    """Renames a damaged checkpoint, so that new ones can use its name.

    Returns:
      Its new path, a hidden one beside the old.

    Raises:
      CheckpointError: it cannot be renamed.

    Example:
      >>> set_aside("cv/run/lm_lstm_epoch0.95_2.0681").name  # doctest: +SKIP
      '.damaged-lm_lstm_epoch0.95_2.0681'
    """
    path = Path(checkpoint)
    aside = free_name(path, (f".damaged-{path.name}",))
    try:
        return path.rename(aside)
    except OSError as error:
        raise CheckpointError(f"{path} was not renamed: {reason(error)}.") from error


def prune(run_dir: StrPath, keep_best: int, keep_every: int = 0) -> list[Path]:
    """Deletes a run's checkpoints except the best ones, the latest, and every n-th.

    Damaged ones stay, for a person to judge. Links count, but stay as well: what they
    lead to is outside the run, and not the run's to delete.

    Args:
      run_dir: the run's folder.
      keep_best: how many of the best are kept, at least 1.
      keep_every: those of every such number of validations are kept too; 0: none.

    Returns:
      Those that were deleted.

    Raises:
      CheckpointError: one could not be deleted.
      ConfigError: fewer than one is to be kept.

    Example:
      >>> prune("cv/run", keep_best=3)  # doctest: +SKIP
      []
    """
    if keep_best < 1:
        raise ConfigError(
            f"train.keep_best must be at least 1; got {keep_best}. Try 3."
        )
    path = Path(run_dir)
    found = loadable(sorted(look_at(lambda: own(path), read), key=rank))
    if not found:
        return []
    best = [path for path, manifest in found if manifest.loss is not None][:keep_best]
    kept = {*best, latest(found)}
    if keep_every:
        kept |= {p for p, m in found if _number(m) and _number(m) % keep_every == 0}
    surplus = [p for p, _ in found if p not in kept and not p.is_symlink()]
    for path in surplus:
        delete(path)
    return surplus


def _number(manifest: Manifest) -> int:
    """Returns which validation of its run saved a checkpoint; 0 where none did."""
    return 0 if manifest.loss is None else len(manifest.progress.get("val", []))


def sweep(run_dir: StrPath) -> list[Path]:
    """Deletes what killed saves and prunes left in a run's folder, and nothing else.

    Orbax's temporary folders lie within these. One of another process that is alive
    stays, unless it is so old that its number must have passed to a new process.

    Returns:
      The folders that were deleted.

    Example:
      >>> sweep("cv/run")  # doctest: +SKIP
      []
    """
    leftovers = []
    with naming(run_dir):
        found = folders(Path(run_dir))
    for path in found:
        match = _TMP.fullmatch(path.name)
        if match and not path.is_symlink() and _is_leftover(path, int(match[1])):
            shutil.rmtree(path, ignore_errors=True)
            leftovers.append(path)
    return leftovers


def _is_leftover(path: Path, pid: int) -> bool:
    try:
        if pid == os.getpid() or time.time() - path.stat().st_mtime > _STALE_SECONDS:
            return True
        if os.name == "nt":  # where os.kill cannot ask, it ends the process
            return False
        os.kill(pid, 0)  # sends nothing, asks whether there is such a process
    except PermissionError:
        return False
    except OSError:
        return True
    return False
