"""Large products in bfloat16 by the compiled library, as a JAX function.

XLA's own on CPU are no faster in bfloat16 than in float32.
"""

import math

import jax
import jax.numpy as jnp

from charjax.unroll import native

# With fewer rows, packing the weights takes as long as the product.
_LEAST_ROWS = 128


def fits(x: jax.Array, w: jax.Array) -> bool:
    """Returns whether `matmul` takes these arrays and is fast."""
    if w.ndim != 2 or x.ndim < 2 or x.dtype != jnp.float32 or w.dtype != jnp.float32:
        return False
    rows, empty = math.prod(x.shape[:-1]), 0 in (*x.shape, *w.shape)
    is_large = rows >= _LEAST_ROWS and not empty and x.shape[-1] == len(w)
    return is_large and native.problem("bfloat16") is None


@jax.custom_vjp
def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """Returns `x_...xD @ w_DxN`, both rounded to bfloat16, with sums in float32."""
    return _forward(x, w)[0]


def _forward(
    x: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _on_rows(x, w), (x, w)


def _backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    return _on_rows(dy, w, b_transposed=True), weight_gradient(x, dy)


matmul.defvjp(_forward, _backward)


def weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Returns `sum x^T dy` over all leading axes, as `matmul` multiplies."""
    x, dy = (a.reshape(-1, a.shape[-1]) for a in (x, dy))
    return _product(x, dy, a_transposed=True)


def _on_rows(x: jax.Array, w: jax.Array, *, b_transposed: bool = False) -> jax.Array:
    y = _product(x.reshape(-1, x.shape[-1]), w, b_transposed=b_transposed)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _product(
    a: jax.Array,
    b: jax.Array,
    *,
    a_transposed: bool = False,
    b_transposed: bool = False,
) -> jax.Array:
    """Returns the product of two matrices or their transposes."""
    rows = a.shape[1 if a_transposed else 0]
    depth, columns = b.shape[::-1] if b_transposed else b.shape
    shapes = (rows, columns), (packed_size(depth, columns, "bfloat16"),)
    call = jax.ffi.ffi_call(
        "charjax_product",
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )
    return call(a, b, a_transposed=a_transposed, b_transposed=b_transposed)[0]


def packed_size(depth: int, columns: int, precision: str) -> int:
    """Returns how many float32 have room for packed weights of this many rows."""
    most = columns + 47  # panels are at most three of the widest vectors
    return most * row_size(depth, precision)


def row_size(depth: int, precision: str) -> int:
    """Returns how many float32 have room for a row of this many numbers."""
    # Matrix units take 32 of bfloat16 at once.
    return -(-depth // 32) * 16 if precision == "bfloat16" else depth
