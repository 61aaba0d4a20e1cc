"""The sLSTM of the xLSTM (Beck et al. 2024): exponential gates, and a sum of them.

    i, f, g, o = split(W x + U h + b)
    c' = sigmoid(f) * c + exp(i) * tanh(g)
    n' = sigmoid(f) * n + exp(i)
    h' = sigmoid(o) * c' / n'

So c' / n' is a mean of all g so far, in which a later one can outweigh all before it.
Section 2.2 of https://arxiv.org/abs/2405.04517, with one head.

Since exp(i) may be too large for a number, the paper carries c and n divided by exp(m),
m a third state. What is carried here is r = c / n and log n, which needs no third one:

    log n' = log(exp(f + log n) + exp(i)),  f here the logarithm of the forget gate
    r' = r + exp(i - log n') * (tanh(g) - r)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells import lstm
from charjax.cells.base import (
    Cell,
    DenseParams,
    Matmul,
    dense_project,
    sigmoid,
    zero_carry,
)

_LOG_OF_NOTHING = -100.0  # log n before the first step: exp of it adds to no number


class SLSTMCarry(NamedTuple):
    """The state of an sLSTM: c / n, log n and the last output."""

    c_BxH: jax.Array
    log_n_BxH: jax.Array
    h_BxH: jax.Array


def initial_carry(batch_size: int, hidden_size: int, dtype: Any) -> SLSTMCarry:
    """Returns the state before the first step, where c and n are zero."""
    zero = zero_carry(batch_size, hidden_size, dtype)
    log_n_BxH = jnp.full_like(zero, _LOG_OF_NOTHING)
    return SLSTMCarry(zero, log_n_BxH, jnp.zeros_like(zero))


def step(
    params: DenseParams, carry: SLSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> tuple[SLSTMCarry, jax.Array]:
    """Returns the next state and its output."""
    i, f, g, o = _preactivations(params, carry, z_BxGH, matmul)
    share, log_n_BxH = _share_of_new(i, f, carry)
    c_BxH = carry.c_BxH + share * (jnp.tanh(g) - carry.c_BxH)
    h_BxH = sigmoid(o) * c_BxH
    return SLSTMCarry(c_BxH, log_n_BxH, h_BxH), h_BxH


def gates(
    params: DenseParams, carry: SLSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name; the input gate divided by n'."""
    i, f, _, o = _preactivations(params, carry, z_BxGH, matmul)
    share, _ = _share_of_new(i, f, carry)
    return {"input": share, "forget": sigmoid(f), "output": sigmoid(o)}


def _preactivations(
    params: DenseParams, carry: SLSTMCarry, z_BxGH: jax.Array, matmul: Matmul
) -> list[jax.Array]:
    gates_BxGH = z_BxGH + matmul(carry.h_BxH, params.recurrent_HxGH)
    return jnp.split(gates_BxGH, 4, axis=-1)


def _share_of_new(
    i: jax.Array, f: jax.Array, carry: SLSTMCarry
) -> tuple[jax.Array, jax.Array]:
    """Returns `exp(i) / n'`, in [0, 1], and `log n'`."""
    # exp(i) / (exp(i) + exp(k)) is the logistic function of i - k.
    kept = jax.nn.log_sigmoid(f) + carry.log_n_BxH
    return sigmoid(i - kept), jnp.logaddexp(kept, i)


cell = Cell(lstm.init, initial_carry, dense_project, step, gates)
