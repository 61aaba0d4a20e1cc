"""Cells whose step is linear in the state, run over all time steps at once.

    h_t = a_t * h_{t-1} + b_t

On an accelerator the T steps are combined pairwise in log T rounds (Blelloch 1990,
https://www.cs.cmu.edu/~guyb/papers/Ble93.pdf), since a loop would launch T kernels. A
CPU runs the loop: it computes each h_t once, and the rounds compute more and need more
memory traffic. The backward pass of the loop is the same loop in reverse,

    g_t = dL/dh_t + a_{t+1} * g_{t+1},   dL/da_t = g_t * h_{t-1},   dL/db_t = g_t.
"""

from typing import Any

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry, Cell, CellParams
from charjax.unroll.execution import Execution


def linear(
    cell: Cell, params: CellParams, carry: Carry, z_TxBxGH: Any, execution: Execution
) -> tuple[Carry, jax.Array]:
    """Runs a cell that has a `linear` form; as `charjax.unroll.scan.scan`."""
    del execution  # the recurrence has no matrix product
    assert cell.linear is not None
    a_TxBxH, b_TxBxH = cell.linear(params, z_TxBxGH)
    h_TxBxH = jax.lax.platform_dependent(
        a_TxBxH, b_TxBxH, carry, cpu=in_sequence, default=in_parallel
    )
    return h_TxBxH[-1], h_TxBxH


def in_parallel(a_TxBxH: jax.Array, b_TxBxH: jax.Array, h_BxH: jax.Array) -> jax.Array:
    """Returns `h_TxBxH` by combining neighbouring steps pairwise."""

    def combine(first: Any, second: Any) -> Any:
        (a1, b1), (a2, b2) = first, second
        return a1 * a2, a2 * b1 + b2

    a_TxBxH, b_TxBxH = jax.lax.associative_scan(combine, (a_TxBxH, b_TxBxH))
    return a_TxBxH * h_BxH[None] + b_TxBxH


@jax.custom_vjp
def in_sequence(a_TxBxH: jax.Array, b_TxBxH: jax.Array, h_BxH: jax.Array) -> jax.Array:
    """Returns `h_TxBxH` by a loop over time."""
    return _forward(a_TxBxH, b_TxBxH, h_BxH)[0]


def _forward(a_TxBxH: jax.Array, b_TxBxH: jax.Array, h_BxH: jax.Array) -> Any:
    def body(h_BxH: jax.Array, step: Any) -> Any:
        a_BxH, b_BxH = step
        h_BxH = a_BxH * h_BxH + b_BxH
        return h_BxH, h_BxH

    _, h_TxBxH = jax.lax.scan(body, h_BxH, (a_TxBxH, b_TxBxH))
    return h_TxBxH, (a_TxBxH, h_BxH, h_TxBxH)


def _backward(saved: Any, dh_TxBxH: jax.Array) -> Any:
    a_TxBxH, h_BxH, h_TxBxH = saved

    def body(from_later_BxH: jax.Array, step: Any) -> Any:
        a_BxH, dh_BxH = step
        g_BxH = dh_BxH + from_later_BxH
        return a_BxH * g_BxH, g_BxH

    first_BxH, g_TxBxH = jax.lax.scan(
        body, jnp.zeros_like(h_BxH), (a_TxBxH, dh_TxBxH), reverse=True
    )
    before_TxBxH = jnp.concatenate([h_BxH[None], h_TxBxH[:-1]])
    return g_TxBxH * before_TxBxH, g_TxBxH, first_BxH


in_sequence.defvjp(_forward, _backward)
