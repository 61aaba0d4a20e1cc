"""How the first weights of a cell are drawn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.errors import check_choice
from charjax.fields import choices


class Initializers(NamedTuple):
    """The distributions of a cell's first weights.

    Attributes:
      input: `(key, (D, H), gates) -> w_DxGH`, drawn gate by gate, side by side.
      recurrent: `(key, (H, H), gates) -> w_HxGH`, likewise.
      bias: `(key, size) -> b`.
      forget_bias: first bias of an LSTM's forget gate; a large one keeps memory.
    """

    input: Callable[[jax.Array, tuple[int, int], int], jax.Array]
    recurrent: Callable[[jax.Array, tuple[int, int], int], jax.Array]
    bias: Callable[[jax.Array, int], jax.Array]
    forget_bias: float = 1.0


def initializers(scheme: str, forget_bias: float = 1.0) -> Initializers:
    """Returns the distributions of a scheme.

    Args:
      scheme: `'orthogonal'` (recurrent weights orthogonal, the others scaled by their
        fan-in and fan-out, biases zero) or `'uniform'` (all in ±0.08, as in char-rnn).
      forget_bias: first bias of an LSTM's forget gate.

    Raises:
      ConfigError: the scheme is unknown.
    """
    check_choice("model.init", scheme, choices("model.init"))
    if scheme == "uniform":
        return Initializers(_uniform_gates, _uniform_gates, _uniform_bias, forget_bias)
    return Initializers(
        _by_gate(jax.nn.initializers.glorot_uniform()),
        _by_gate(jax.nn.initializers.orthogonal()),
        lambda key, size: jnp.zeros(size),
        forget_bias,
    )


def _uniform_gates(key: jax.Array, shape: tuple[int, int], gates: int) -> jax.Array:
    return _uniform(key, (shape[0], gates * shape[1]))


def _uniform_bias(key: jax.Array, size: int) -> jax.Array:
    return _uniform(key, (size,))


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-0.08, maxval=0.08)


def _by_gate(draw: Any) -> Any:
    """Returns a function that draws each gate's matrix on its own, side by side."""

    def weights(key: jax.Array, shape: tuple[int, int], gates: int) -> jax.Array:
        keys = jax.random.split(key, gates)
        return jnp.concatenate([draw(k, shape) for k in keys], axis=1)

    return weights
