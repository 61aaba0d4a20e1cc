"""A cell unrolled over time, with weight gradients taken once after the backward scan.

Forward, the carry runs through `carry', h = step(params, carry, z_t)` for t = 1..T.

Backward, automatic differentiation of that scan would add, in every step, the outer
product `x_t^T d_t` of a recurrent product `y_t = x_t U` to the gradient of U: T passes
over an array as large as U. But

    dL/dU = sum_t x_t^T d_t,   d_t = dL/dy_t,

is one matrix product of the stacked x and d. So `_scan` hides U from the scan's
derivative, adds to every product a *tap*, an input that is zero and costs nothing, and
asks for the taps' derivatives instead: these are the d_t. All else (the pointwise part
of a cell, biases, the carry, z) is differentiated as JAX does it, so a cell may choose
with `jax.custom_vjp` what its step saves.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry, Cell, CellParams
from charjax.devices import find_kernel
from charjax.unroll.precision import cast, matmul_in, weight_gradient


def unroll(
    cell: Cell,
    dtype: str,
    params: CellParams,
    carry: Carry,
    z_TxBxGH: Any,
    *,
    kernel: str = "auto",
) -> tuple[Carry, jax.Array]:
    """Runs a cell over time.

    It is differentiable in reverse mode (`jax.grad`, `jax.vjp`) only, and where a
    compiled kernel runs it, once.

    Args:
      cell: the cell.
      dtype: the precision of its products, `'float32'` or `'bfloat16'`.
      params: the cell's weights.
      carry: its state before the first step.
      z_TxBxGH: `cell.project(params, x_TxBxD, matmul)`.
      kernel: what runs it, see `charjax.devices.find_kernel`.

    Returns:
      The state after the last step, and the outputs `h_TxBxH`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import cells, recurrence
      >>> from charjax.model import initializers
      >>> lstm = cells.get("lstm")
      >>> params = lstm.init(jax.random.key(0), 3, 4, initializers("orthogonal"))
      >>> z = lstm.project(params, jnp.ones((5, 2, 3)), jnp.matmul)
      >>> carry = lstm.initial_carry(2, 4, jnp.float32)
      >>> carry, h = recurrence.unroll(lstm, "float32", params, carry, z)
      >>> h.shape
      (5, 2, 4)
    """
    compiled = find_kernel(kernel, cell, dtype, jax.tree.leaves(z_TxBxGH))
    if compiled is not None and compiled.fits(params, carry, z_TxBxGH):
        return compiled.unroll(params, carry, z_TxBxGH)
    return _scan(cell, dtype, params, carry, z_TxBxGH)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(
    cell: Cell, dtype: str, params: CellParams, carry: Carry, z_TxBxGH: Any
) -> Any:
    matmul = matmul_in(dtype)
    return jax.lax.scan(
        lambda carry, z: cell.step(params, carry, z, matmul), carry, z_TxBxGH
    )


def _forward(
    cell: Cell, dtype: str, params: CellParams, carry: Carry, z_TxBxGH: Any
) -> tuple[tuple[Carry, jax.Array], Any]:
    matmul = matmul_in(dtype)
    num_steps = jax.tree.leaves(z_TxBxGH)[0].shape[0]
    taps = jax.tree.map(
        lambda y: jnp.zeros((num_steps, *y.shape), y.dtype),
        _products(cell, dtype, params, carry, z_TxBxGH),
    )
    factors = [cast(w, dtype) for w in jax.tree.leaves(params)]

    def scan(params: CellParams, carry: Carry, z_TxBxGH: Any, taps: _ByLeaf) -> Any:
        def body(carry: Carry, inputs: Any) -> Any:
            z_BxGH, taps = inputs
            xs: _ByLeaf = {leaf: [] for leaf in taps}

            def tapped_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
                leaf = _leaf_index(params, x, w)
                if leaf is None:
                    return matmul(x, w)
                tap = taps[leaf][len(xs[leaf])]
                xs[leaf].append(cast(x, dtype))
                return _tapped(matmul(x, factors[leaf]), tap)

            carry, h_BxH = cell.step(params, carry, z_BxGH, tapped_matmul)
            return carry, (h_BxH, xs)

        carry, (h_TxBxH, xs) = jax.lax.scan(body, carry, (z_TxBxGH, taps))
        return (carry, h_TxBxH), xs

    outputs, vjp, xs = jax.vjp(scan, params, carry, z_TxBxGH, taps, has_aux=True)
    return outputs, (vjp, xs)


def _backward(cell: Cell, dtype: str, saved: Any, cotangents: Any) -> Any:
    vjp, xs = saved
    dparams, dcarry, dz_TxBxGH, dtaps = vjp(cotangents)
    leaves, treedef = jax.tree.flatten(dparams)
    for leaf in xs:
        for x, dy in zip(xs[leaf], dtaps[leaf], strict=True):
            leaves[leaf] += weight_gradient(x, cast(dy, dtype))
    return jax.tree.unflatten(treedef, leaves), dcarry, dz_TxBxGH


_scan.defvjp(_forward, _backward)

# What belongs to each recurrent product of a step, by the index of its weight among the
# leaves of the params, in the order in which the step takes them.
_ByLeaf = dict[int, list[Any]]


def _products(
    cell: Cell, dtype: str, params: CellParams, carry: Carry, z_TxBxGH: Any
) -> _ByLeaf:
    """Returns the shapes of one step's products with whole leaves of the params."""

    def step(params: CellParams, carry: Carry, z_TxBxGH: Any) -> _ByLeaf:
        products: _ByLeaf = {}

        def recording_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
            y = matmul_in(dtype)(x, w)
            leaf = _leaf_index(params, x, w)
            if leaf is not None:
                products.setdefault(leaf, []).append(y)
            return y

        # With no step as well there is one to look at.
        z_BxGH = jax.tree.map(lambda z: jnp.zeros(z.shape[1:], z.dtype), z_TxBxGH)
        cell.step(params, carry, z_BxGH, recording_matmul)
        return products

    return jax.eval_shape(step, params, carry, z_TxBxGH)


def _leaf_index(params: CellParams, x: jax.Array, w: jax.Array) -> int | None:
    """Returns which leaf of the params `w` is, or None for a product without a tap.

    Those are of other weights, of several matrices at once, and lookups of rows.
    """
    if w.ndim != 2 or jnp.issubdtype(x.dtype, jnp.integer):
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
