"""What only training does to a model: dropout."""

import dataclasses
import numbers

import jax
import jax.numpy as jnp

from charjax.errors import ConfigError, check_choice
from charjax.fields import choices


@dataclasses.dataclass(frozen=True)
class Noise:
    """The random changes of a training step. Static, like an `Execution`.

    Attributes:
      dropout: share of units set to zero, on the input of every layer but the first
        and on the output of the last.
      dropout_mode: `'each_step'` draws a mask for each time step, `'locked'` one for
        each sequence (https://arxiv.org/abs/1512.05287).
      embedding_dropout: share of units set to zero in the embedded characters.

    Raises:
      ConfigError: a value is unknown or out of range.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> ids_BxT = vocab.encode("hello")[None]
      >>> noise, key = charjax.Noise(dropout=0.5), jax.random.key(1)
      >>> logits, carry = charjax.apply(params, ids_BxT, noise=noise, key=key)
    """

    dropout: float = 0.0
    dropout_mode: str = "each_step"
    embedding_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dropout", "embedding_dropout"):
            rate = getattr(self, name)
            if not (isinstance(rate, numbers.Real) and 0 <= float(rate) < 1):
                raise ConfigError(
                    f"model.{name} must be in [0, 1); got {rate!r:.100}. Try 0.5."
                )
        modes = choices("model.dropout_mode")
        check_choice("model.dropout_mode", self.dropout_mode, modes)


def dropout(x_TxBxH: jax.Array, key: jax.Array, rate: float, mode: str) -> jax.Array:
    """Sets a share of the units to zero and scales the others up to keep the mean."""
    if rate == 0:
        return x_TxBxH
    shape = x_TxBxH.shape if mode == "each_step" else (1, *x_TxBxH.shape[1:])
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(keep, x_TxBxH / (1 - rate), 0)
