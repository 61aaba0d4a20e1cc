"""The guard against an exploding loss, and the speed of training."""

import time

import numpy as np

SUSTAINED = 50  # losses in a row that must be too high


def exploded(recent: list[float], factor: float) -> bool:
    """Returns whether the last `SUSTAINED` losses are all above a limit.

    The limit is `factor` times the median of the losses before them. A median is not
    moved by a few outliers, and a single high loss, which clipping deals with, does
    not end a run.

    Args:
      recent: losses of consecutive steps, the newest last.
      factor: see above.
    """
    before, last = recent[:-SUSTAINED], recent[-SUSTAINED:]
    if len(before) < SUSTAINED:
        return False
    return min(last) > factor * float(np.median(before))


class Clock:
    """The time spent on a run, and the time that a step takes now.

    Args:
      spent: seconds that earlier processes spent on the run.
    """

    def __init__(self, spent: float) -> None:
        self._spent, self._started = spent, time.perf_counter()
        # When the steps read last had ended. None where the time until the next read
        # would include other work: compiling, validating, saving.
        self._mark: float | None = None
        self.seconds_a_step: float | None = None

    def seconds(self) -> float:
        """Returns the time spent on the run so far."""
        return self._spent + time.perf_counter() - self._started

    def steps_ended(self, count: int) -> None:
        """Measures steps that have just ended, those before them being read."""
        now = time.perf_counter()
        if self._mark is not None:
            self.seconds_a_step = (now - self._mark) / count
        self._mark = now

    def pause(self) -> None:
        """Leaves the time until the next steps end out of the speed."""
        self._mark = None
