"""The multiplicative LSTM of Krause et al. (2016).

    m = (W_m x) * (U_m h)
    i, f, g, o = split(W x + U m + b)
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(c')

An LSTM that reads the factors m of a multiplicative RNN in place of its last output.
https://arxiv.org/abs/1609.07959
"""

import jax

from charjax.cells import lstm
from charjax.cells.base import Cell, Initializers, Matmul
from charjax.cells.lstm import LSTMCarry
from charjax.cells.multiplicative_rnn import (
    MultiplicativeParams,
    Projected,
    factors,
    multiplicative,
    project,
)


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> MultiplicativeParams:
    """Returns weights with gates in the order i, f, g, o and the forget bias set."""
    dense = lstm.init(key, input_size, hidden_size, initializers)
    return multiplicative(key, input_size, initializers, dense)


def step(
    params: MultiplicativeParams, carry: LSTMCarry, z: Projected, matmul: Matmul
) -> tuple[LSTMCarry, jax.Array]:
    """Returns the next state and its output."""
    carry = carry._replace(h_BxH=factors(params, carry.h_BxH, z, matmul))
    return lstm.step(params.dense, carry, z.dense_BxGH, matmul)


def gates(
    params: MultiplicativeParams, carry: LSTMCarry, z: Projected, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    carry = carry._replace(h_BxH=factors(params, carry.h_BxH, z, matmul))
    return lstm.gates(params.dense, carry, z.dense_BxGH, matmul)


cell = Cell(init, lstm.initial_carry, project, step, gates)
