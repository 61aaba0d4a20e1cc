"""Averages of the weights over steps: they often predict better than the last ones.

Training goes on with its own weights; the averaged ones are validated, sampled from and
saved as the model.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from charjax.config import Config
from charjax.model import Params

NEVER = np.iinfo(np.int32).max


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Averages:
    """The averaged weights.

    Attributes:
      weights: the average; before it begins, the weights themselves.
      first: the first step in it, int32; `NEVER` as long as that is not known.
    """

    weights: Params
    first: jax.Array


@dataclasses.dataclass(frozen=True)
class Averaging:
    """Which average of the weights is kept. Static, like an `Execution`.

    With n weights w so far, the last of weight w_n:

        ema    a' = a + (1 - d) / (1 - d^n) (w_n - a)   (a moving mean, bias corrected)
        mean   a' = a + 1 / n (w_n - a)                 (Polyak and Juditsky 1992)
        free   what `optax.contrib.schedule_free` averages (Defazio et al. 2024)

    https://doi.org/10.1137/0330046, https://arxiv.org/abs/2405.15682

    Attributes:
      kind: see above.
      decay: d of the moving mean.
      first: the first step that counts.
    """

    kind: Literal["ema", "mean", "free"]
    decay: float = 0.0
    first: int = 0

    def begin(self, params: Params) -> Averages:
        """Returns the average before the first step."""
        # Arrays of their own, since a training step is given the memory of its state.
        return Averages(jax.tree.map(jnp.copy, params), jnp.int32(self.first))

    def update(
        self, averages: Averages, step: jax.Array, params: Any, opt_state: Any
    ) -> Averages:
        """Returns the average after a step.

        Args:
          averages: the average before it.
          step: the step's number, from 0.
          params: the weights after it.
          opt_state: the optimiser's memory after it.
        """
        if self.kind == "free":
            free: Any = optax.tree.get(opt_state, "ScheduleFreeState")
            weights: Any = optax.contrib.schedule_free_eval_params(free, params)
            return dataclasses.replace(averages, weights=weights)
        n = jnp.maximum(step + 1 - averages.first, 1)
        share = 1 / n
        if self.kind == "ema":
            share = (1 - self.decay) / (1 - self.decay**n)

        def add(mean: jax.Array, w: jax.Array) -> jax.Array:
            return jnp.where(n == 1, w, mean + share.astype(w.dtype) * (w - mean))

        weights = jax.tree.map(add, averages.weights, params)
        return dataclasses.replace(averages, weights=weights)


def averaging(config: Config, steps_per_epoch: int) -> Averaging | None:
    """Returns the average that a configuration asks for.

    Args:
      config: the `optimizer` group of a checked configuration.
      steps_per_epoch: by which `average_from` is multiplied.
    """
    if config.schedule == "free":
        return Averaging("free")
    if config.ema_decay:
        return Averaging("ema", decay=config.ema_decay)
    if config.average_from:
        return Averaging("mean", first=round(config.average_from * steps_per_epoch))
    if config.average_patience:
        return Averaging("mean", first=NEVER)
    return None


def is_stale(losses: list[float], patience: int) -> bool:
    """Returns whether the last loss is above the best of those `patience` and more ago.

    It is the trigger of AWD-LSTM (Merity et al. 2017, https://arxiv.org/abs/1708.02182).

    Args:
      losses: of all validations, the newest last.
      patience: validations that are not looked at.
    """
    before = losses[: -patience - 1]
    return bool(before) and losses[-1] > min(before)
