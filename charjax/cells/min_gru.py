"""The minGRU of Feng et al. (2024): a GRU whose gates do not read the last output.

    z = sigmoid(W_z x + b_z)
    n = W_n x + b_n
    h' = (1 - z) * h + z * n

It is linear in h, so it can run in parallel over time. Section 3.1 of
https://arxiv.org/abs/2410.01201, without the changes of its appendix for computing in
logarithms, which this library does not need.
"""

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    InputParams,
    Matmul,
    dense_project,
    input_init,
    linear_step,
    sigmoid,
    zero_carry,
)


def linear(params: InputParams, z_BxGH: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `a` and `b` of `h' = a * h + b`."""
    del params
    update, new = jnp.split(z_BxGH, 2, axis=-1)
    update = sigmoid(update)
    return 1 - update, update * new


def gates(
    params: InputParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gate that `step` opens, by name."""
    del params, h_BxH, matmul
    return {"update": sigmoid(jnp.split(z_BxGH, 2, axis=-1)[0])}


cell = Cell(
    input_init(gates=2), zero_carry, dense_project, linear_step(linear), gates, linear
)
