"""The GRU that resets before the recurrent product, as first published and in char-rnn.

    r = sigmoid(W_r x + U_r h + b_r)
    u = sigmoid(W_u x + U_u h + b_u)
    n = tanh(W_n x + U_n (r * h) + b_n)
    h' = (1 - u) * n + u * h

Cho et al. (2014), https://arxiv.org/abs/1406.1078.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    Initializers,
    Matmul,
    dense_project,
    sigmoid,
    zero_carry,
)


class ResetBeforeParams(NamedTuple):
    """Weights with gates in the order r, u, n; the candidate's matrix is separate."""

    input_DxGH: jax.Array
    recurrent_Hx2H: jax.Array
    candidate_HxH: jax.Array
    bias_GH: jax.Array


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> ResetBeforeParams:
    """Returns weights with gates in the order r, u, n."""
    key_input, key_gates, key_candidate, key_bias = jax.random.split(key, 4)
    square = (hidden_size, hidden_size)
    return ResetBeforeParams(
        initializers.input(key_input, (input_size, hidden_size), 3),
        initializers.recurrent(key_gates, square, 2),
        initializers.recurrent(key_candidate, square, 1),
        initializers.bias(key_bias, 3 * hidden_size),
    )


def step(
    params: ResetBeforeParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[jax.Array, jax.Array]:
    """Returns the next state, as carry and as output."""
    r, u, z_n = _parts(params, h_BxH, z_BxGH, matmul)
    n = jnp.tanh(z_n + matmul(r * h_BxH, params.candidate_HxH))
    h_BxH = n + u * (h_BxH - n)
    return h_BxH, h_BxH


def gates(
    params: ResetBeforeParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    r, u, _ = _parts(params, h_BxH, z_BxGH, matmul)
    return {"reset": r, "update": u}


def _parts(
    params: ResetBeforeParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[jax.Array, ...]:
    """Returns `r`, `u` and the input's part of the candidate `n`."""
    z_r, z_u, z_n = jnp.split(z_BxGH, 3, axis=-1)
    u_r, u_u = jnp.split(matmul(h_BxH, params.recurrent_Hx2H), 2, axis=-1)
    return sigmoid(z_r + u_r), sigmoid(z_u + u_u), z_n


cell = Cell(init, zero_carry, dense_project, step, gates)
