"""What a run writes in its folder, where it goes on from, and failures to write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from charjax import checkpoint
from charjax.config import Config
from charjax.errors import CheckpointError
from charjax.storage.files import append
from charjax.training import folder
from charjax.training.folder import Record, json_line
from charjax.units import Say

_T = TypeVar("_T")


class Folder:
    """The folder of a run, for the one process that owns it.

    Args:
      path: the folder.
      config: the run's; `train.keep_best` and `train.on_save_error` matter here.
      is_ours: tells whether the folder is still there, and this process's.
      warn: gets what people should know.
    """

    def __init__(
        self, path: Path, config: Config, is_ours: Callable[[], bool], warn: Say
    ) -> None:
        self.path, self._is_ours, self._warn = path, is_ours, warn
        self._keep_best = config.train.keep_best
        self._goes_on = config.train.on_save_error == "continue"
        self._unwritten = b""

    def latest(self) -> Path | None:
        """Returns the latest sound checkpoint, None where none was ever saved.

        Damaged ones are renamed, to be no more in the way of those that come, and
        those that a kill kept from being pruned are pruned.

        Raises:
          CheckpointError: all are damaged; they stay as they are.
        """
        checkpoint.sweep(self.path)
        entries = checkpoint.examine(self.path)
        if not entries:
            return None
        latest, first_error = entries[0]
        if isinstance(first_error, CheckpointError):
            raise CheckpointError(
                f"no sound checkpoint to go on from; {first_error}, or begin anew "
                "beside it with train.restart=true"
            )
        for path, error in entries:
            if isinstance(error, CheckpointError):
                aside = checkpoint.set_aside(path)
                self._warn(f"damaged, now called {aside.name}: {error}")
        checkpoint.prune(self.path, self._keep_best)
        return latest

    def record(self, record: Record) -> None:
        """Writes a record to the metrics; after a failure, with the next one."""
        self._unwritten += json_line(record)
        self._try(self._write_metrics, self._goes_on)

    def save(self, *args: Any, tolerant: bool = True, **fields: Any) -> Path | None:
        """Saves a checkpoint and prunes the others.

        Args:
          args: those of `checkpoint.save`, but for the folder.
          tolerant: whether there will be another chance, should this fail.
          fields: more of them.

        Returns:
          The checkpoint, or None where it could not be written and training goes on.
        """
        tolerant = tolerant and self._goes_on
        saved = self._try(lambda: checkpoint.save(self.path, *args, **fields), tolerant)
        if saved:
            self._try(lambda: checkpoint.prune(self.path, self._keep_best), tolerant)
        return saved

    def close(self) -> None:
        """Writes the records that could not be written before."""
        self._try(self._write_metrics, tolerant=False)

    def finish(self, summary: dict[str, Any]) -> None:
        """Marks the run as finished."""
        self.close()
        folder.write_summary(self.path, summary)

    def _write_metrics(self) -> None:
        if self._unwritten:
            append(self.path / folder.METRICS, self._unwritten)
            self._unwritten = b""

    def _try(self, write: Callable[[], _T], tolerant: bool) -> _T | None:
        try:
            if not self._is_ours():
                raise CheckpointError(
                    f"cannot write to {self.path}: it was removed or replaced while "
                    "the run was on"
                )
            return write()
        except (CheckpointError, OSError) as error:
            if not tolerant:
                raise
            if isinstance(error, OSError):
                error = cannot_write(error, self.path)
            self._warn(f"{error}; training goes on")
            return None


def cannot_write(error: OSError, folder: Path | str) -> CheckpointError:
    """Returns the one-line error for one of the operating system's."""
    place, reason = error.filename or folder, error.strerror or error
    return CheckpointError(
        f"cannot write {place}: {reason}; mend that, or choose another "
        "train.checkpoint_dir"
    )
