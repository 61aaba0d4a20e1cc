"""The minLSTM of Feng et al. (2024): two gates that read the input alone.

    f = sigmoid(W_f x + b_f),   i = sigmoid(W_i x + b_i)
    n = W_n x + b_n
    h' = f / (f + i) * h + i / (f + i) * n

It is linear in h, so it can run in parallel over time. Section 3.2 of
https://arxiv.org/abs/2410.01201; its figure 5 is on a forget gate that starts with a
large bias, here `model.forget_bias`.
"""

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    Initializers,
    InputParams,
    Matmul,
    dense_project,
    input_init,
    linear_step,
    sigmoid,
    zero_carry,
)


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> InputParams:
    """Returns weights with gates in the order f, i, n and the forget bias set."""
    params = input_init(gates=3)(key, input_size, hidden_size, initializers)
    bias_GH = params.bias_GH.at[:hidden_size].set(initializers.forget_bias)
    return params._replace(bias_GH=bias_GH)


def linear(params: InputParams, z_BxGH: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `a` and `b` of `h' = a * h + b`."""
    del params
    f, i, new = jnp.split(z_BxGH, 3, axis=-1)
    # f / (f + i) is the logistic function of log f - log i: finite where both are 0.
    kept = sigmoid(jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i))
    return kept, (1 - kept) * new


def gates(
    params: InputParams, h_BxH: jax.Array, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name, before they are normalised."""
    del params, h_BxH, matmul
    f, i, _ = jnp.split(z_BxGH, 3, axis=-1)
    return {"forget": sigmoid(f), "input": sigmoid(i)}


cell = Cell(init, zero_carry, dense_project, linear_step(linear), gates, linear)
