"""The GRU that resets after the recurrent product, as cuDNN, PyTorch and Flax have it.

    r = sigmoid(W_r x + U_r h + b_r)
    u = sigmoid(W_u x + U_u h + b_u)
    n = tanh(W_n x + b_n + r * (U_n h + b_hn))
    h' = (1 - u) * n + u * h

Cho et al. (2014), https://arxiv.org/abs/1406.1078, in the variant of section 2 of
https://arxiv.org/abs/1412.3555 with the reset gate moved behind the product.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    Initializers,
    Matmul,
    dense_init,
    dense_project,
    sigmoid,
    zero_carry,
)


class GRUParams(NamedTuple):
    """Weights with gates in the order r, u, n, and the bias behind the reset gate."""

    input_DxGH: jax.Array
    recurrent_HxGH: jax.Array
    bias_GH: jax.Array
    reset_bias_H: jax.Array


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> GRUParams:
    """Returns weights with gates in the order r, u, n."""
    key, key_reset = jax.random.split(key)
    dense = dense_init(gates=3)(key, input_size, hidden_size, initializers)
    return GRUParams(*dense, initializers.bias(key_reset, hidden_size))


def step(
    params: GRUParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[jax.Array, jax.Array]:
    """Returns the next state, as carry and as output."""
    r, u, z_n, u_n = _parts(params, h_BxH, z_BxGH, matmul)
    n = jnp.tanh(z_n + r * (u_n + params.reset_bias_H))
    h_BxH = n + u * (h_BxH - n)
    return h_BxH, h_BxH


def gates(
    params: GRUParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    r, u, _, _ = _parts(params, h_BxH, z_BxGH, matmul)
    return {"reset": r, "update": u}


def _parts(
    params: GRUParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[jax.Array, ...]:
    """Returns `r`, `u` and the two products of the candidate `n`."""
    z_r, z_u, z_n = jnp.split(z_BxGH, 3, axis=-1)
    u_r, u_u, u_n = jnp.split(matmul(h_BxH, params.recurrent_HxGH), 3, axis=-1)
    return sigmoid(z_r + u_r), sigmoid(z_u + u_u), z_n, u_n


cell = Cell(init, zero_carry, dense_project, step, gates)
