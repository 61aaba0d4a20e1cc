"""What training adds to the loss: penalties on activations, and smoothed targets."""

import dataclasses
import math
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from charjax.errors import ConfigError
from charjax.fields import FIELDS
from charjax.model.forward import Output


@dataclasses.dataclass(frozen=True)
class Penalties:
    """What the gradient of a training step is of, beside the loss. Static.

        objective = (1 - s) * nats + s * mean_v(-log p_v)
                    + alpha * mean(d_t^2) + beta * mean((h_t - h_{t-1})^2)

    with h the outputs of the last layer, and d those after dropout.

    Attributes:
      activation_penalty: alpha, and
      temporal_penalty: beta, both of AWD-LSTM (https://arxiv.org/abs/1708.02182).
      label_smoothing: s, the share of the target that is spread over all characters
        (https://arxiv.org/abs/1512.00567).

    Raises:
      ConfigError: a value is out of range.

    Example:
      >>> from charjax.model import Penalties
      >>> Penalties(activation_penalty=2.0, temporal_penalty=1.0).label_smoothing
      0.0
    """

    activation_penalty: float = 0.0
    temporal_penalty: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value: object = getattr(self, field.name)
            table = FIELDS[f"model.{field.name}"]
            assert table.rule is not None
            is_number = isinstance(value, numbers.Real) and value < math.inf
            if not (is_number and table.rule.accepts(value)):
                raise ConfigError(
                    f"model.{field.name} must be {table.rule.words}; got "
                    f"{value!r:.100}. Try {table.example}."
                )


class Changes(NamedTuple):
    """How the outputs of a layer change over a piece of text.

    Attributes:
      squares: sum of the squared changes from step to step.
      first_BxH: the outputs at the first step, and
      last_BxH: at the last, for the change from one piece to the next.
    """

    squares: jax.Array
    first_BxH: jax.Array
    last_BxH: jax.Array

    def mean_square(self, num_steps: int) -> jax.Array:
        """Returns that of N pieces in a row, stacked, of T > 1 steps together."""
        between_NxBxH = self.first_BxH[1:] - self.last_BxH[:-1]
        total = jnp.sum(self.squares) + jnp.sum(jnp.square(between_NxBxH))
        return total / ((num_steps - 1) * self.first_BxH[0].size)


class Measured(NamedTuple):
    """What the penalties need of a piece of text; None for what is off.

    Attributes:
      uniform: mean of `-log p` over all characters that could come.
      square: mean square of the last layer's outputs after dropout.
      changes: of its outputs before dropout, from step to step.
    """

    uniform: jax.Array | None
    square: jax.Array | None
    changes: Changes | None


def measure(
    penalties: Penalties, out: Output, weights_TxB: jax.Array | None = None
) -> Measured:
    """Returns what the penalties need of a piece of text.

    Args:
      penalties: those that are on.
      out: what the model made of the piece.
      weights_TxB: how much each target counts; equally by default.
    """
    uniform = square = changes = None
    if penalties.label_smoothing:
        log_norm_TxB = jax.nn.logsumexp(out.logits_TxBxV, axis=-1)
        uniform_TxB = log_norm_TxB - jnp.mean(out.logits_TxBxV, axis=-1)
        uniform = jnp.mean(
            uniform_TxB if weights_TxB is None else weights_TxB * uniform_TxB
        )
    if penalties.activation_penalty:
        square = jnp.mean(jnp.square(out.dropped_TxBxH))
    if penalties.temporal_penalty:
        h_TxBxH = out.layers[-1]
        squares = jnp.sum(jnp.square(jnp.diff(h_TxBxH, axis=0)))
        changes = Changes(squares, h_TxBxH[0], h_TxBxH[-1])
    return Measured(uniform, square, changes)


def objective(
    penalties: Penalties, nats: jax.Array, pieces_N: Measured, num_steps: int
) -> jax.Array:
    """Returns what the gradient is taken of; the nats themselves with all off.

    Args:
      penalties: how much of each.
      nats: the mean loss in nats a character.
      pieces_N: what was measured of each of N pieces of equal length, stacked.
      num_steps: T of all pieces together.
    """
    total, smoothing = nats, penalties.label_smoothing
    if pieces_N.uniform is not None:
        total = (1 - smoothing) * nats + smoothing * jnp.mean(pieces_N.uniform)
    if pieces_N.square is not None:
        total += penalties.activation_penalty * jnp.mean(pieces_N.square)
    if pieces_N.changes is not None and num_steps > 1:
        total += penalties.temporal_penalty * pieces_N.changes.mean_square(num_steps)
    return total
