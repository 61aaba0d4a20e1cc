"""The tanh cell of Elman (1990), https://doi.org/10.1207/s15516709cog1402_1.

h' = tanh(W x + U h + b)
"""

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    DenseParams,
    Matmul,
    dense_init,
    dense_project,
    zero_carry,
)


def step(
    params: DenseParams, h_BxH: jax.Array, z_BxH: jax.Array, matmul: Matmul
) -> tuple[jax.Array, jax.Array]:
    """Returns the next state, as carry and as output."""
    h_BxH = jnp.tanh(z_BxH + matmul(h_BxH, params.recurrent_HxGH))
    return h_BxH, h_BxH


cell = Cell(dense_init(gates=1), zero_carry, dense_project, step)
