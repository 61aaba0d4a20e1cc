"""The multiplicative RNN of Sutskever, Martens and Hinton (2011).

    m = (W_m x) * (U_m h)
    h' = tanh(W x + U m + b)

The matrix from h to h' is different for each character: `U diag(W_m x) U_m`. Section 4
of https://www.cs.toronto.edu/~jmartens/docs/RNN_Language.pdf, with as many factors m as
units.
"""

from typing import NamedTuple

import jax

from charjax.cells import rnn
from charjax.cells.base import (
    Cell,
    DenseParams,
    Initializers,
    Matmul,
    dense_project,
    zero_carry,
)


class MultiplicativeParams(NamedTuple):
    """The weights of a cell that reads factors m where another reads its last output.

    Attributes:
      input_DxH: W_m.
      recurrent_HxH: U_m.
      dense: the weights of the other cell, which it has for m in place of h.
    """

    input_DxH: jax.Array
    recurrent_HxH: jax.Array
    dense: DenseParams


class Projected(NamedTuple):
    """What a step needs of the input: `W_m x`, and `W x + b`."""

    factor_BxH: jax.Array
    dense_BxGH: jax.Array


def multiplicative(
    key: jax.Array, input_size: int, initializers: Initializers, dense: DenseParams
) -> MultiplicativeParams:
    """Returns the first weights of a cell that reads m, from those of the other."""
    hidden_size = len(dense.recurrent_HxGH)
    key_input, key_recurrent = jax.random.split(jax.random.fold_in(key, 0))
    return MultiplicativeParams(
        initializers.input(key_input, (input_size, hidden_size), 1),
        initializers.recurrent(key_recurrent, (hidden_size, hidden_size), 1),
        dense,
    )


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> MultiplicativeParams:
    """Returns the first weights."""
    dense = rnn.cell.init(key, input_size, hidden_size, initializers)
    return multiplicative(key, input_size, initializers, dense)


def project(params: MultiplicativeParams, x: jax.Array, matmul: Matmul) -> Projected:
    """Returns what does not depend on the carry."""
    dense = dense_project(params.dense, x, matmul)
    return Projected(matmul(x, params.input_DxH), dense)


def factors(
    params: MultiplicativeParams, h_BxH: jax.Array, z: Projected, matmul: Matmul
) -> jax.Array:
    """Returns m."""
    return z.factor_BxH * matmul(h_BxH, params.recurrent_HxH)


def step(
    params: MultiplicativeParams, h_BxH: jax.Array, z: Projected, matmul: Matmul
) -> tuple[jax.Array, jax.Array]:
    """Returns the next state, as carry and as output."""
    m_BxH = factors(params, h_BxH, z, matmul)
    return rnn.step(params.dense, m_BxH, z.dense_BxGH, matmul)


cell = Cell(init, zero_carry, project, step)
