"""The GRU that resets after the recurrent product, as in cuDNN, PyTorch and Flax.

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
    add_bias,
    dense_init,
    dense_project,
    sigmoid,
    zero_carry,
)


class GRUParams(NamedTuple):
    """Weights with gates in the order r, u, n, and the bias inside the reset gate."""

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
    y_BxGH = matmul(h_BxH, params.recurrent_HxGH)
    h_BxH = update(z_BxGH, y_BxGH, params.reset_bias_H, h_BxH)
    return h_BxH, h_BxH


def gates(
    params: GRUParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    y_BxGH = matmul(h_BxH, params.recurrent_HxGH)
    r, u, _, _ = _activations(z_BxGH, y_BxGH, params.reset_bias_H)
    return {"reset": r, "update": u}


def _activations(
    z_BxGH: jax.Array, y_BxGH: jax.Array, reset_bias_H: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns `r u n` after their nonlinearities, and what r multiplies."""
    z_r, z_u, z_n = jnp.split(z_BxGH, 3, axis=-1)
    y_r, y_u, y_n = jnp.split(y_BxGH, 3, axis=-1)
    r, u, y_n = sigmoid(z_r + y_r), sigmoid(z_u + y_u), add_bias(y_n, reset_bias_H)
    return r, u, jnp.tanh(z_n + r * y_n), y_n


@jax.custom_vjp
def update(
    z_BxGH: jax.Array, y_BxGH: jax.Array, reset_bias_H: jax.Array, h_BxH: jax.Array
) -> jax.Array:
    """Returns the next h from the projected input z and the recurrent product y.

    The derivative is written out so that the backward pass reads five arrays a step.
    With `r u n` after their nonlinearities:

        dn = dh' (1 - u) (1 - n^2)      du = dh' (h - n) u (1 - u)
        dr = dn (y_n + b_hn) r (1 - r)  dh = dh' u

    and the derivative with respect to `y_n` is `dn r`.
    """
    return _update_forward(z_BxGH, y_BxGH, reset_bias_H, h_BxH)[0]


def _update_forward(
    z_BxGH: jax.Array, y_BxGH: jax.Array, reset_bias_H: jax.Array, h_BxH: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    r, u, n, y_n = _activations(z_BxGH, y_BxGH, reset_bias_H)
    return n + u * (h_BxH - n), (r, u, n, y_n, h_BxH)


def _update_backward(
    saved: tuple[jax.Array, ...], dh: jax.Array
) -> tuple[jax.Array, ...]:
    r, u, n, y_n, h = saved
    dn = dh * (1 - u) * (1 - n * n)
    du = dh * (h - n) * u * (1 - u)
    dr = dn * y_n * r * (1 - r)
    dy_n = dn * r
    dz = jnp.concatenate([dr, du, dn], axis=-1)
    dy = jnp.concatenate([dr, du, dy_n], axis=-1)
    return dz, dy, jnp.sum(dy_n, axis=0), dh * u


update.defvjp(_update_forward, _update_backward)


cell = Cell(init, zero_carry, dense_project, step, gates)
