"""The LSTM of Hochreiter and Schmidhuber (1997) with the forget gate of Gers (2000).

    i, f, g, o = split(W x + U h + b)
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(c')

https://doi.org/10.1162/neco.1997.9.8.1735, https://doi.org/10.1162/089976600300015015
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    DenseParams,
    Initializers,
    Matmul,
    dense_init,
    dense_project,
    sigmoid,
    zero_carry,
)


class LSTMCarry(NamedTuple):
    """The state of an LSTM: its memory `c_BxH` and its last output `h_BxH`."""

    c_BxH: jax.Array
    h_BxH: jax.Array


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> DenseParams:
    """Returns weights with gates in the order i, f, g, o and the forget bias set."""
    params = dense_init(gates=4)(key, input_size, hidden_size, initializers)
    forget = slice(hidden_size, 2 * hidden_size)
    bias_GH = params.bias_GH.at[forget].set(initializers.forget_bias)
    return params._replace(bias_GH=bias_GH)


def initial_carry(batch_size: int, hidden_size: int, dtype: Any) -> LSTMCarry:
    """Returns the zero state."""
    zero = zero_carry(batch_size, hidden_size, dtype)
    return LSTMCarry(zero, jnp.zeros_like(zero))


def step(
    params: DenseParams, carry: LSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[LSTMCarry, jax.Array]:
    """Returns the next state and its output."""
    gates_BxGH = _preactivations(params, carry, z_BxGH, matmul)
    c_BxH, h_BxH = update(gates_BxGH, carry.c_BxH)
    return LSTMCarry(c_BxH, h_BxH), h_BxH


def gates(
    params: DenseParams, carry: LSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    i, f, _, o = _activations(_preactivations(params, carry, z_BxGH, matmul))
    return {"input": i, "forget": f, "output": o}


def _preactivations(
    params: DenseParams, carry: LSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> jax.Array:
    return z_BxGH + matmul(carry.h_BxH, params.recurrent_HxGH)


def _activations(gates_BxGH: jax.Array) -> tuple[jax.Array, ...]:
    """Returns `i f g o` after their nonlinearities."""
    i, f, g, o = jnp.split(gates_BxGH, 4, axis=-1)
    return sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)


@jax.custom_vjp
def update(gates_BxGH: jax.Array, c_BxH: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the next `(c, h)` from the gates before their nonlinearities.

    The derivative is written out so that the backward pass reads six arrays a step
    where automatic differentiation would store thirteen. With `dc` the whole
    derivative with respect to `c'`, and `i f g o` after their nonlinearities:

        dc = dc' + dh' o (1 - tanh(c')^2)
        di = dc g i (1 - i)         df = dc c f (1 - f)
        dg = dc i (1 - g^2)         do = dh' tanh(c') o (1 - o)
    """
    return _update_forward(gates_BxGH, c_BxH)[0]


def _update_forward(gates_BxGH: jax.Array, c_BxH: jax.Array) -> tuple[Any, Any]:
    i, f, g, o = _activations(gates_BxGH)
    next_c = f * c_BxH + i * g
    tanh_c = jnp.tanh(next_c)
    return (next_c, o * tanh_c), (i, f, g, o, c_BxH, tanh_c)


def _update_backward(saved: Any, cotangents: Any) -> tuple[jax.Array, jax.Array]:
    i, f, g, o, c, tanh_c = saved
    dc, dh = cotangents
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    di = dc * g * i * (1 - i)
    df = dc * c * f * (1 - f)
    dg = dc * i * (1 - g * g)
    do = dh * tanh_c * o * (1 - o)
    return jnp.concatenate([di, df, dg, do], axis=-1), dc * f


update.defvjp(_update_forward, _update_backward)

cell = Cell(init, initial_carry, dense_project, step, gates)
