"""The LSTM with peepholes of Graves (2013): its gates see the memory.

    i, f, g, o = split(W x + U h + b)
    c' = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    h' = sigmoid(o + p_o * c') * tanh(c')

Each unit's gates see the unit's own memory alone. Equations 7 to 11 of
https://arxiv.org/abs/1308.0850; `model.skip` gives the paper's whole network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells import lstm
from charjax.cells.base import (
    Cell,
    Initializers,
    Matmul,
    dense_project,
    sigmoid,
)
from charjax.cells.lstm import LSTMCarry


class PeepholeParams(NamedTuple):
    """Weights with gates in the order i, f, g, o; peepholes in the order i, f, o."""

    input_DxGH: jax.Array
    recurrent_HxGH: jax.Array
    bias_GH: jax.Array
    peepholes_3H: jax.Array


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> PeepholeParams:
    """Returns weights with the forget bias set; peepholes are drawn like biases."""
    key, key_peepholes = jax.random.split(key)
    dense = lstm.init(key, input_size, hidden_size, initializers)
    return PeepholeParams(*dense, initializers.bias(key_peepholes, 3 * hidden_size))


def step(
    params: PeepholeParams, carry: LSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[LSTMCarry, jax.Array]:
    """Returns the next state and its output."""
    _, _, o, c_BxH = _parts(params, carry, z_BxGH, matmul)
    h_BxH = o * jnp.tanh(c_BxH)
    return LSTMCarry(c_BxH, h_BxH), h_BxH


def gates(
    params: PeepholeParams, carry: LSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    i, f, o, _ = _parts(params, carry, z_BxGH, matmul)
    return {"input": i, "forget": f, "output": o}


def _parts(
    params: PeepholeParams, carry: LSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[jax.Array, ...]:
    """Returns `i f o` after their nonlinearities, and the next memory."""
    gates_BxGH = z_BxGH + matmul(carry.h_BxH, params.recurrent_HxGH)
    i, f, g, o = jnp.split(gates_BxGH, 4, axis=-1)
    see_i, see_f, see_o = jnp.split(params.peepholes_3H[None], 3, axis=-1)
    i = sigmoid(i + see_i * carry.c_BxH)
    f = sigmoid(f + see_f * carry.c_BxH)
    c_BxH = f * carry.c_BxH + i * jnp.tanh(g)
    return i, f, sigmoid(o + see_o * c_BxH), c_BxH


cell = Cell(init, lstm.initial_carry, dense_project, step, gates)
