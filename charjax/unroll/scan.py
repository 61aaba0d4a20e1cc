"""`jax.lax.scan` over time, with weight gradients taken once after the backward scan.

Forward, the carry runs through `carry', h = step(params, carry, z_t)` for t = 1..T.

Backward, automatic differentiation of that scan would add, in every step, the outer
product `x_t^T d_t` of a recurrent product `y_t = x_t U` to the gradient of U: T passes
over an array as large as U. But

    dL/dU = sum_t x_t^T d_t,   d_t = dL/dy_t,

is one matrix product of the stacked x and d. To get it,

1. U is closed over, so the derivative of the scan does not see it,
2. every product gets a *tap* added, an input that is zero and costs nothing,
3. the derivatives with respect to the taps are the d_t, stacked over time by the scan.

All else (the pointwise part of a cell, biases, the carry, z) is differentiated by JAX,
so a cell can choose with `jax.custom_vjp` what its step saves.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry, Cell, CellParams
from charjax.unroll.execution import Execution
from charjax.unroll.precision import cast, matmul_in, sum_type, weight_gradient

# For each weight that takes part in recurrent products, by its index among the leaves
# of the params: one entry a product, in the order in which the step takes them.
_ByLeaf = dict[int, list[Any]]


def scan(
    cell: Cell, params: CellParams, carry: Carry, z_TxBxGH: Any, execution: Execution
) -> tuple[Carry, jax.Array]:
    """Runs any cell over time. It is differentiable in reverse mode only.

    Args:
      cell: the cell.
      params: its weights.
      carry: its state before the first step.
      z_TxBxGH: `cell.project(params, x_TxBxD, matmul)`.
      execution: gives the precision.

    Returns:
      The state after the last step, and the outputs `h_TxBxH`.
    """
    if jax.tree.leaves(z_TxBxGH)[0].shape[0] == 1:
        # Without a loop there is nothing to save, and a step is often inside a loop.
        z_BxGH = jax.tree.map(lambda z: z[0], z_TxBxGH)
        carry, h_BxH = cell.step(params, carry, z_BxGH, matmul_in(execution.precision))
        return carry, h_BxH[None]
    return _scan(cell, execution.precision, params, carry, z_TxBxGH)


def recurrent_weights(
    cell: Cell, params: CellParams, input_size: int, hidden_size: int
) -> frozenset[int]:
    """Returns which leaves of the params, by index, are a cell's recurrent weights.

    Those are the matrices that `cell.step` passes to `matmul` unchanged. Nothing is
    computed.

    Args:
      cell: the cell.
      params: its weights, or their shapes.
      input_size: D.
      hidden_size: H.

    Example:
      >>> import jax
      >>> from charjax import cells
      >>> gru = cells.get("gru_reset_before")
      >>> params = gru.init(jax.random.key(0), 3, 4, cells.initializers("uniform"))
      >>> [params._fields[i] for i in sorted(recurrent_weights(gru, params, 3, 4))]
      ['recurrent_Hx2H', 'candidate_HxH']
    """
    leaves = jax.tree.leaves(params)
    if not leaves:
        return frozenset()
    dtype = sum_type(jnp.result_type(*leaves))

    def first_inputs(params: CellParams) -> tuple[Carry, Any]:
        z_1x1xGH = cell.project(
            params, jnp.zeros((1, 1, input_size), dtype), jnp.matmul
        )
        return cell.initial_carry(1, hidden_size, dtype), z_1x1xGH

    carry, z_1x1xGH = jax.eval_shape(first_inputs, params)
    return frozenset(_products(cell, "float32", params, carry, z_1x1xGH))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(
    cell: Cell, precision: str, params: CellParams, carry: Carry, z_TxBxGH: Any
) -> Any:
    matmul = matmul_in(precision)
    return jax.lax.scan(
        lambda carry, z: cell.step(params, carry, z, matmul), carry, z_TxBxGH
    )


def _forward(
    cell: Cell, precision: str, params: CellParams, carry: Carry, z_TxBxGH: Any
) -> tuple[tuple[Carry, jax.Array], Any]:
    matmul = matmul_in(precision)
    num_steps = jax.tree.leaves(z_TxBxGH)[0].shape[0]
    taps = jax.tree.map(
        lambda y: jnp.zeros((num_steps, *y.shape), y.dtype),
        _products(cell, precision, params, carry, z_TxBxGH),
    )
    factors = [cast(w, precision) for w in jax.tree.leaves(params)]

    def run(params: CellParams, carry: Carry, z_TxBxGH: Any, taps: _ByLeaf) -> Any:
        def body(carry: Carry, inputs: Any) -> Any:
            z_BxGH, taps = inputs
            xs: _ByLeaf = {leaf: [] for leaf in taps}

            def tapped_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
                leaf = _leaf_index(params, w)
                if leaf is None:
                    return matmul(x, w)
                tap = taps[leaf][len(xs[leaf])]
                xs[leaf].append(cast(x, precision))
                return _tapped(matmul(x, factors[leaf]), tap)

            carry, h_BxH = cell.step(params, carry, z_BxGH, tapped_matmul)
            return carry, (h_BxH, xs)

        carry, (h_TxBxH, xs) = jax.lax.scan(body, carry, (z_TxBxGH, taps))
        return (carry, h_TxBxH), xs

    outputs, vjp, xs = jax.vjp(run, params, carry, z_TxBxGH, taps, has_aux=True)
    return outputs, (vjp, xs)


def _backward(cell: Cell, precision: str, saved: Any, cotangents: Any) -> Any:
    vjp, xs = saved
    dparams, dcarry, dz_TxBxGH, dtaps = vjp(cotangents)
    leaves, treedef = jax.tree.flatten(dparams)
    for leaf in xs:
        for x, dy in zip(xs[leaf], dtaps[leaf], strict=True):
            gradient = weight_gradient(x, cast(dy, precision))
            leaves[leaf] += gradient.astype(leaves[leaf].dtype)
    return jax.tree.unflatten(treedef, leaves), dcarry, dz_TxBxGH


_scan.defvjp(_forward, _backward)


def _products(
    cell: Cell, precision: str, params: CellParams, carry: Carry, z_TxBxGH: Any
) -> _ByLeaf:
    """Returns the shapes of one step's products with whole leaves of the params."""

    def step(params: CellParams, carry: Carry, z_TxBxGH: Any) -> _ByLeaf:
        products: _ByLeaf = {}

        def recording_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
            y = matmul_in(precision)(x, w)
            leaf = _leaf_index(params, w)
            if leaf is not None:
                products.setdefault(leaf, []).append(y)
            return y

        # Build one step's z instead of slicing one out, so that T = 0 works.
        z_BxGH = jax.tree.map(lambda z: jnp.zeros(z.shape[1:], z.dtype), z_TxBxGH)
        cell.step(params, carry, z_BxGH, recording_matmul)
        return products

    return jax.eval_shape(step, params, carry, z_TxBxGH)


def _leaf_index(params: CellParams, w: jax.Array) -> int | None:
    """Returns which leaf of the params `w` is; None for a product without a tap.

    Those are products with other weights, and with several matrices at once.
    """
    if w.ndim != 2:
        return None
    for index, leaf in enumerate(jax.tree.leaves(params)):
        if leaf is w:
            return index
    return None


@jax.custom_jvp
def _tapped(y: jax.Array, tap: jax.Array) -> jax.Array:
    """Returns `y + tap` for a tap that is zero, without reading it."""
    del tap
    return y


@_tapped.defjvp
def _tapped_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    y, _ = primals
    dy, dtap = tangents
    return y, dy + dtap
