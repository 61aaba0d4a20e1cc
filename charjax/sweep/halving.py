"""Which run of a sweep goes on next: asynchronous successive halving.

Runs are compared at rungs, at epochs E / f^k, ..., E / f, E. Of the n runs that have
reached a rung, those among the best n / f go on to the next one, as soon as they are
among them. No process waits for others, and a run that does not go on keeps its state:
it may yet do so when more runs have reached its rung.

Li et al. (2020), https://arxiv.org/abs/1810.05934
"""

import math
from collections.abc import Collection, Sequence

from charjax.config import Config
from charjax.errors import ConfigError
from charjax.text.made_up import is_made_up


def check_factor(config: Config, factor: int, name: str) -> None:
    """Raises a ConfigError if the runs of a configuration cannot be halved.

    Args:
      config: what the runs have in common.
      factor: of as many runs one goes on at each rung; 0: all.
      name: of the factor, for the message.
    """
    if factor and is_made_up(config.data):
        raise ConfigError(
            f"{name} must be 0 with data.name={config.data.name}, whose one epoch "
            f"is the whole run; got {factor}. Try without it."
        )
    if factor and not 2 <= factor <= config.train.max_epochs:
        raise ConfigError(
            f"{name} must be from 2 to train.max_epochs, which is "
            f"{config.train.max_epochs}; got {factor}. Try 3."
        )


def rungs_of(config: Config, factor: int) -> tuple[float, ...]:
    """Returns the epochs at which runs are compared, the last one their end."""
    end = config.train.max_epochs
    if not factor:
        return (float(end),)
    count = int(math.log(end, factor) + 1e-9)
    return tuple(end / factor**k for k in range(count, -1, -1))


def rung_of(epoch: float, rungs: Sequence[float]) -> int:
    """Returns how many rungs a run has reached."""
    return sum(epoch >= rung * (1 - 1e-9) for rung in rungs)


def next_run(
    losses: Sequence[Sequence[float]],
    factor: int,
    num_rungs: int,
    skipped: Collection[int] = (),
) -> int | None:
    """Returns which run goes on next; None if none may.

    Args:
      losses: of each run, its loss at each rung that it has reached.
      factor: of as many runs one goes on at each rung; 0: all.
      num_rungs: how many rungs there are.
      skipped: runs that others work on, or that have failed.

    Example:
      >>> next_run([[2.0], [1.5], [1.9], []], factor=3, num_rungs=2)
      1
      >>> next_run([[2.0], [1.5, 1.1], [1.9], []], factor=3, num_rungs=2)
      3
    """
    for rung in reversed(range(num_rungs - 1)):
        reached = [i for i, loss in enumerate(losses) if len(loss) > rung]
        reached.sort(key=lambda i: losses[i][rung])
        best = reached[: len(reached) // factor] if factor else reached
        for i in best:
            if len(losses[i]) == rung + 1 and i not in skipped:
                return i
    for i, loss in enumerate(losses):
        if not loss and i not in skipped:
            return i
    return None
