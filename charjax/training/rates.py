"""The learning-rate range test: a short run whose rate rises, and what it suggests."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax import devices
from charjax.config import Config, check_config, complete
from charjax.errors import ConfigError, TrainingError
from charjax.training import setup, warm
from charjax.units import Say

_EXPLODED = 3.0  # the test ends at this many times the lowest loss
_MEMORY = 0.9  # decay of the moving mean of the losses
_BELOW = 6.0  # the suggestion is this factor below the rate of the lowest loss


class RateTest(NamedTuple):
    """What a range test found.

    Attributes:
      rates: the learning rate of each step, rising.
      losses: the loss of each step in nats a character, smoothed over steps.
      suggestion: the rate to train with.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float


def find_rate(
    config: Config,
    *,
    lowest: float = 1e-4,
    highest: float = 1.0,
    num_steps: int = 300,
    say: Say = print,
) -> RateTest:
    """Trains for some steps with a rate that rises by the same factor in each.

    The loss falls slowly while the rate is too low, then fast, and rises again once the
    rate is too high. A sixth of the rate with the lowest loss is suggested. Nothing is
    written but the encoded text.

    Args:
      config: of the run to find a rate for; its own rate and schedule do not matter.
      lowest: the first rate.
      highest: the last one, unless the loss explodes before.
      num_steps: steps to take.
      say: called with a line for each thing that people should know.

    Returns:
      The rates, the losses and the suggestion.

    Raises:
      ConfigError: a field of the configuration is wrong.
      TextError: the text is missing, unreadable or too short.
      TrainingError: the loss does not fall at any rate.

    Example:
      >>> import charjax
      >>> from charjax.training.rates import find_rate
      >>> config = charjax.default_config()
      >>> find_rate(config).suggestion  # doctest: +SKIP

    https://arxiv.org/abs/1506.01186 (Smith 2017)
    """
    if not (0 < lowest < highest and num_steps > 1):
        raise ConfigError(
            "the rates must rise from above 0 over at least 2 steps; got "
            f"{lowest:g} to {highest:g} over {num_steps}. Try 1e-4 to 1 over 300."
        )
    full = complete(config).copy_and_resolve_references()
    full.optimizer.learning_rate = lowest
    full = check_config(full).copy_and_resolve_references()
    full.train.update(max_epochs=num_steps, max_steps=num_steps, eval_every=0.0)
    full.sample.prime = ""
    with jax.default_device(devices.choose(full.train.device)):
        full = warm.resolve(full.lock(), say)
        full = setup.keep_text(full, say)
        corpus = setup.open_text(full, say)
        growth = (highest / lowest) ** (1 / (num_steps - 1))
        start = setup.begin(
            full, corpus, lambda step: lowest * growth ** jnp.float32(step)
        )
        losses = _smoothed_losses(start)
    rates = lowest * growth ** np.arange(len(losses))
    best = int(np.argmin(losses))
    if best == 0:
        raise TrainingError(
            f"the loss must fall at some rate; got {losses[0]:.4f} at {lowest:g} and "
            f"more at all higher ones. Try a lower rate than {lowest:g} to begin with."
        )
    return RateTest(rates, losses, float(rates[best]) / _BELOW)


def _smoothed_losses(start: setup.Start) -> np.ndarray:
    """Returns the moving mean of the losses, up to the step where they explode."""
    plan, state, _ = start
    smoothed: list[float] = []
    mean, step, lowest = 0.0, 0, math.inf
    while step < plan.total_steps:
        count = plan.next_count(step)
        state, metrics = plan.advance(state, plan.window(step, count), np.int32(count))
        for loss in np.asarray(metrics.loss_K)[:count].tolist():
            step += 1
            mean = _MEMORY * mean + (1 - _MEMORY) * loss
            smoothed.append(mean / (1 - _MEMORY**step))
            lowest = min(lowest, smoothed[-1])
            if not smoothed[-1] < _EXPLODED * lowest:
                return np.asarray(smoothed[:-1])
    return np.asarray(smoothed)
