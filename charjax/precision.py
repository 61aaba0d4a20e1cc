"""Products in the model's precision: float32, or bfloat16 summed up in float32."""

import jax
import jax.numpy as jnp

from charjax.cells.base import Matmul

DTYPES = ("float32", "bfloat16")


def cast(x: jax.Array, dtype: str) -> jax.Array:
    """Returns `x` as a factor of a product; in float32 it stays what it is."""
    return x.astype(jnp.bfloat16) if dtype == "bfloat16" else x


def matmul_in(dtype: str) -> Matmul:
    """Returns `matmul(x, w)`: `x @ w`, or the rows `w[x]` where x holds integer ids.

    A row lookup is the product with a one-hot x. In bfloat16 both factors are rounded,
    the sum is float32, and so it is in the derivatives.

    Args:
      dtype: `'float32'` (products in the arrays' own type) or `'bfloat16'`.
    """
    dot = _matmul_bfloat16 if dtype == "bfloat16" else jnp.matmul

    def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.take(w, x, axis=0)
        return dot(x, w)

    return matmul


@jax.custom_vjp
def _matmul_bfloat16(x: jax.Array, w: jax.Array) -> jax.Array:
    x, w = cast(x, "bfloat16"), cast(w, "bfloat16")
    return jnp.matmul(x, w, preferred_element_type=jnp.float32)


def _forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # The empty arrays carry the factors' own types, which their derivatives take.
    types = jnp.zeros(0, x.dtype), jnp.zeros(0, w.dtype)
    x, w = cast(x, "bfloat16"), cast(w, "bfloat16")
    return _matmul_bfloat16(x, w), (x, w, *types)


def _backward(
    saved: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w, x_type, w_type = saved
    dy = cast(dy, "bfloat16")
    dx = jnp.matmul(dy, w.T, preferred_element_type=jnp.float32)
    dw = jnp.einsum("...d,...h->dh", x, dy, preferred_element_type=jnp.float32)
    return dx.astype(x_type.dtype), dw.astype(w_type.dtype)


_matmul_bfloat16.defvjp(_forward, _backward)
