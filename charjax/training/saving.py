"""What a run writes in its folder, where it continues from, and failures to write."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from charjax import checkpoint, hosts
from charjax.checkpoint import Verified
from charjax.config import Config
from charjax.errors import CharjaxError, CheckpointError
from charjax.storage import locks
from charjax.storage.files import append, sweep
from charjax.training import folder, identity
from charjax.training.folder import Record, json_line
from charjax.units import Say

_T = TypeVar("_T")


@contextlib.contextmanager
def owned(path: Path, say: Say) -> Iterator[Callable[[], bool]]:
    """Keeps a run's folder for this process alone, and makes it where it is missing.

    A folder that was made and stayed empty is removed again. A finished run is only
    read, so it is not locked, unless a process was killed while it held the lock.

    Yields:
      A function that tells whether the folder still exists and is this process's.

    Raises:
      BusyError: another process works on the run.
    """
    lock = path / identity.LOCK
    with file_errors("read", path):
        is_only_read = folder.is_finished(path) and not lock.exists()
    if is_only_read:
        yield lambda: False
        return
    made = [place for place in (path, *path.parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with locks.owned(lock, say) as is_ours:
            sweep(path)
            yield is_ours
    finally:
        with contextlib.suppress(OSError):  # at the first that is not empty
            for place in made:
                place.rmdir()


@contextlib.contextmanager
def owned_by_leader(path: Path, say: Say) -> Iterator[Callable[[], bool]]:
    """Keeps a run's folder for the first of the processes that train together."""
    with contextlib.ExitStack() as stack:
        is_ours: Callable[[], bool] = lambda: True  # noqa: E731

        def own() -> None:
            nonlocal is_ours
            is_ours = stack.enter_context(owned(path, say))

        hosts.of_leader(own)
        yield is_ours


class RunWriter:
    """Writes a run's folder, for the one process that owns it.

    Of several processes that train together all call its methods, and the first one
    writes. A record it sends alone, so where that fails `failure` is for the loop to
    tell the others.

    Args:
      path: the folder.
      config: the run's; `train.keep_best`, `train.keep_every` and
        `train.on_save_error` matter here.
      is_ours: tells whether the folder still exists and is this process's.
      warn: gets what people should know.
    """

    def __init__(
        self, path: Path, config: Config, is_ours: Callable[[], bool], warn: Say
    ) -> None:
        self.path, self._is_ours, self._warn = path, is_ours, warn
        self._config = config
        self._goes_on = config.train.on_save_error == "continue"
        self._unwritten = b""
        self.failure: CheckpointError | None = None

    def latest(self, text_sha256: str) -> Verified | None:
        """Returns the latest sound checkpoint, None where none was ever saved.

        Damaged ones are moved aside so that new checkpoints can use their names, and
        those that a killed process did not get to prune are pruned.

        Args:
          text_sha256: of the text.

        Raises:
          CheckpointError: one cannot be read although it is not damaged, one is of
            another run, or all are damaged; all stay as they are.
        """
        found: list[Verified] = []

        def look() -> str:
            found.extend(self._sound(text_sha256)[:1])
            return str(found[0].path) if found else ""

        if not (path := hosts.of_leader(look)):
            return None
        return found[0] if found else checkpoint.verify(path)

    def _sound(self, text_sha256: str) -> list[Verified]:
        """Returns the sound checkpoints of the run, the latest first."""
        checkpoint.sweep(self.path)
        entries = checkpoint.examine(self.path)
        sound = [entry for entry in entries if isinstance(entry, Verified)]
        damaged = [entry for entry in entries if not isinstance(entry, Verified)]
        for path, manifest in sound:
            identity.check_checkpoint(path, manifest, self._config, text_sha256)
        if damaged and not sound:
            raise CheckpointError(
                f"no sound checkpoint to continue from: {damaged[0].found} Or "
                "train.restart=true, which starts a new run beside it."
            )
        for path, error in damaged:
            aside = checkpoint.set_aside(path)
            self._warn(f"damaged, renamed to {aside.name}: {error}")
        if sound:
            self._prune()
        return sound

    def record(self, record: Record) -> None:
        """Writes a record to the metrics; after a failure, with the next one."""
        if not hosts.is_leader():
            return
        self._unwritten += json_line(record)
        try:
            self._try(self._write_metrics, self._goes_on)
        except CheckpointError as error:
            if hosts.count() == 1:
                raise
            self.failure = self.failure or error

    def save(self, *args: Any, tolerant: bool = True, **fields: Any) -> Path | None:
        """Saves a checkpoint and prunes the others.

        Args:
          args: those of `checkpoint.save`, without the folder.
          tolerant: whether `train.on_save_error=continue` applies: a later save will
            take its place.
          fields: the keyword arguments of `checkpoint.save`.

        Returns:
          The checkpoint, or None where it could not be written and training goes on.
        """
        tolerant = tolerant and self._goes_on

        def write() -> Path:
            hosts.of_leader(self._require_ours)
            return checkpoint.save(self.path, *args, **fields)

        saved = self._try(write, tolerant)
        if saved:
            self._try(lambda: hosts.of_leader(self._prune), tolerant)
        return saved

    def close(self) -> None:
        """Writes the records that could not be written before."""
        hosts.of_leader(lambda: self._try(self._write_metrics, tolerant=False))

    def finish(self, summary: dict[str, Any]) -> None:
        """Marks the run as finished."""
        self.close()
        hosts.of_leader(lambda: folder.write_summary(self.path, summary))

    def _prune(self) -> None:
        self._require_ours()
        train = self._config.train
        checkpoint.prune(self.path, train.keep_best, train.keep_every)

    def _require_ours(self) -> None:
        if not self._is_ours():
            raise CheckpointError(
                f"cannot write to {self.path}: it was removed or replaced during the "
                "run."
            )

    def mark_pruned(self) -> None:
        """Marks the run as one that a sink stopped, until it goes on."""
        self._require_ours()
        self._try(lambda: append(self.path / folder.PRUNED, b""), tolerant=False)

    def _write_metrics(self) -> None:
        self._require_ours()
        if self._unwritten:
            append(self.path / folder.METRICS, self._unwritten)
            self._unwritten = b""

    def _try(self, write: Callable[[], _T], tolerant: bool) -> _T | None:
        try:
            with file_errors("write", self.path):
                return write()
        except CheckpointError as error:
            if not tolerant:
                raise
            self._warn(f"training goes on after an error: {error}")
            return None


@contextlib.contextmanager
def file_errors(verb: str, path: Path | str) -> Iterator[None]:
    """Turns an error of the operating system into one line that names the file.

    Args:
      verb: what is done inside the block: `'read'` or `'write'`.
      path: named where the error has no file of its own.
    """
    try:
        yield
    except CharjaxError:  # one of them is a FileNotFoundError too
        raise
    except OSError as error:
        place, reason = error.filename or path, error.strerror or error
        raise CheckpointError(
            f"cannot {verb} {place}: {reason}. Try again when that is corrected, or "
            "another train.checkpoint_dir."
        ) from None
