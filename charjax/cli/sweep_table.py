"""The table of a sweep's runs that `charjax sweep` redraws on a terminal."""

import collections
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence

from charjax.sweep import Standing
from charjax.units import printable

_STATES = ("running", "finished", "paused", "failed", "new")


def table(found: Sequence[Standing], lines: int = 24, columns: int = 80) -> list[str]:
    """Returns the runs by loss, as many as fit; those that run are always there.

    Args:
      found: how far each run has come.
      lines: of the table, at most; at least 3.
      columns: of a line, at most.

    Returns:
      How many runs are in which state, the columns' names, and a line for each run.
    """
    states = collections.Counter(run.state for run in found)
    counts = [f"{states[state]} {state}" for state in _STATES if states[state]]
    ranked = list(enumerate(sorted(found, key=lambda run: run.loss), 1))
    first = sorted(ranked, key=lambda row: row[1].state != "running")
    shown = sorted(first[: lines - 2], key=lambda row: row[0])
    text = [
        f"{len(found)} runs: {', '.join(counts)}",
        f"{'rank':>4}  {'loss':>7}  {'epoch':>7}  {'state':8}  run",
    ]
    for rank, run in shown:
        loss = f"{run.loss:7.4f}" if math.isfinite(run.loss) else f"{'-':>7}"
        name = printable(run.trial.name, None)
        text.append(f"{rank:4}  {loss}  {run.latest:7.2f}  {run.state:8}  {name}")
    return [line[:columns] for line in text]


class Terminal:
    """A terminal whose last lines are the table, below what the workers print.

    The cursor is left below the table after each drawing, and nothing else of the
    terminal is changed, so that it is sane wherever the program ends.

    Attributes:
      log: an open file, for the workers to print into.
    """

    def show(self, found: Sequence[Standing]) -> None:
        """Draws the table in place of the one before."""
        columns, lines = shutil.get_terminal_size()
        self._draw(table(found, max(lines - 1, 3), columns - 1))

    def __enter__(self) -> "Terminal":
        self.log = tempfile.TemporaryFile()
        self._read = 0  # bytes of the log that are on the screen
        self._height = 0
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        """Takes the table away, but not after a failure; prints what is left."""
        if failed:
            self._height = 0
        self._draw([])
        self.log.close()

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        text = "".join(f"{line}\n" for line in lines)
        sys.stdout.write(up + self._printed() + text)
        sys.stdout.flush()
        self._height = len(lines)

    def _printed(self) -> str:
        """Returns the whole lines that the workers have printed since."""
        size = os.fstat(self.log.fileno()).st_size
        new = os.pread(self.log.fileno(), size - self._read, self._read)
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        return printable(new.decode("utf-8", "replace"), None)
