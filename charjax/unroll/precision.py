"""Products in float32, or in bfloat16 with float32 sums."""

from functools import partial

import jax
import jax.numpy as jnp

from charjax.cells.base import Matmul
from charjax.unroll.native import product as native_product


def matmul_in(precision: str) -> Matmul:
    """Returns `matmul(x, w) = x @ w` in a precision.

    In bfloat16 both factors are rounded and the sum is float32, in the derivatives too.

    Args:
      precision: `'float32'` (products in the arrays' own type) or `'bfloat16'`.

    Example:
      >>> import jax.numpy as jnp
      >>> matmul = matmul_in("bfloat16")
      >>> matmul(jnp.ones((2, 3)), jnp.ones((3, 4))).dtype
      dtype('float32')
    """

    def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
        if w.ndim != 2:
            return _product(cast(x, precision), cast(w, precision))
        general = partial(_matmul, precision)
        if precision != "bfloat16" or not native_product.fits(x, w):
            return general(x, w)
        return jax.lax.platform_dependent(
            x, w, cpu=native_product.matmul, default=general
        )

    return matmul


def cast(x: jax.Array, precision: str) -> jax.Array:
    """Returns `x` as a factor of a product; in float32 it is `x` itself."""
    return x.astype(jnp.bfloat16) if precision == "bfloat16" else x


def weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Returns `dw = sum x^T dy` of `y = x @ w`, summed over all leading axes.

    It is one product of two matrices as they lie in memory. For the derivative of a
    product with several leading axes XLA would first write out both transposed.

    Args:
      x: `x_...xD`.
      dy: `dy_...xH`. Sums of bfloat16 products are float32.
    """
    dtype = jnp.result_type(x, dy)
    x, dy = (f.astype(dtype).reshape(-1, f.shape[-1]) for f in (x, dy))
    both_first = ((0,), (0,)), ((), ())
    return jax.lax.dot_general(
        x, dy, both_first, preferred_element_type=sum_type(dy.dtype)
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _matmul(precision: str, x: jax.Array, w: jax.Array) -> jax.Array:
    return _product(cast(x, precision), cast(w, precision))


def _forward(
    precision: str, x: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # The derivatives must have the factors' own types, which empty arrays remember.
    types = jnp.zeros(0, x.dtype), jnp.zeros(0, w.dtype)
    x, w = cast(x, precision), cast(w, precision)
    # Transposed here once, not in each step of a loop around the backward product.
    return _matmul(precision, x, w), (x, w.T, *types)


def _backward(
    precision: str, saved: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w_transposed, x_type, w_type = saved
    dy = cast(dy, precision)
    dx = _product(dy, w_transposed)
    return dx.astype(x_type.dtype), weight_gradient(x, dy).astype(w_type.dtype)


_matmul.defvjp(_forward, _backward)


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.matmul(x, w, preferred_element_type=sum_type(x.dtype))


def sum_type(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the type in which products of factors of this type are summed."""
    return jnp.dtype(jnp.float32) if dtype == jnp.bfloat16 else dtype
