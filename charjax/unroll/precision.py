"""Products in the model's precision: float32, or bfloat16 summed up in float32."""

from functools import partial

import jax
import jax.numpy as jnp

from charjax.cells.base import Matmul

DTYPES = ("float32", "bfloat16")


def matmul_in(dtype: str) -> Matmul:
    """Returns `matmul(x, w)`: `x @ w`, or the rows `w[x]` where x holds integer ids.

    A row lookup is the product with a one-hot x. In bfloat16 both factors are rounded,
    the sum is float32, and so it is in the derivatives.

    Args:
      dtype: `'float32'` (products in the arrays' own type) or `'bfloat16'`.
    """

    def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.take(w, x, axis=0)
        if w.ndim == 2:
            return _matmul(dtype, x, w)
        return _product(cast(x, dtype), cast(w, dtype))

    return matmul


def cast(x: jax.Array, dtype: str) -> jax.Array:
    """Returns `x` as a factor of a product; in float32 it stays what it is."""
    return x.astype(jnp.bfloat16) if dtype == "bfloat16" else x


def weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Returns `dw = sum x^T dy` of `y = x @ w`, over all leading axes.

    One product of two matrices as they lie in memory: for the derivative of a product
    with leading axes XLA would first write both out transposed.

    Args:
      x: `x_...xD`.
      dy: `dy_...xH`, of the same type; a sum of bfloat16 is float32.
    """
    x, dy = (factor.reshape(-1, factor.shape[-1]) for factor in (x, dy))
    both_first = ((0,), (0,)), ((), ())
    return jax.lax.dot_general(
        x, dy, both_first, preferred_element_type=sum_type(dy.dtype)
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _matmul(dtype: str, x: jax.Array, w: jax.Array) -> jax.Array:
    return _product(cast(x, dtype), cast(w, dtype))


def _forward(
    dtype: str, x: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # The empty arrays carry the factors' own types, which their derivatives take.
    types = jnp.zeros(0, x.dtype), jnp.zeros(0, w.dtype)
    x, w = cast(x, dtype), cast(w, dtype)
    # Transposed here, once, and not in each step of a loop over the backward product.
    return _matmul(dtype, x, w), (x, w.T, *types)


def _backward(
    dtype: str, saved: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w_transposed, x_type, w_type = saved
    dy = cast(dy, dtype)
    dx = _product(dy, w_transposed)
    return dx.astype(x_type.dtype), weight_gradient(x, dy).astype(w_type.dtype)


_matmul.defvjp(_forward, _backward)


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.matmul(x, w, preferred_element_type=sum_type(x.dtype))


def sum_type(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the type in which products of factors of this type are summed up."""
    return jnp.dtype(jnp.float32) if dtype == jnp.bfloat16 else dtype
