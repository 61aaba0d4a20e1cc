"""The real-gated linear recurrent unit of Hawk and Griffin (De et al. 2024).

    y = W x + b
    r = sigmoid(W_r y + b_r),   i = sigmoid(W_i y + b_i)
    a = sigmoid(d)^(8 r)
    h' = a * h + sqrt(1 - a^2) * i * y

It is linear in h, so it can run in parallel over time. Section 2.4 of
https://arxiv.org/abs/2402.19427. The first line is the linear layer that the paper's
block has before the unit; the block's convolution and its second branch are left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Cell,
    Initializers,
    Matmul,
    add_bias,
    linear_step,
    sigmoid,
    zero_carry,
)

_SHARPNESS = 8.0
_LEAST = 1e-6  # below it the derivative of the square root would be too large


class RGLRUParams(NamedTuple):
    """The input's layer, the gates in the order r, i, and how slowly units forget.

    Attributes:
      input_DxH: W.
      bias_H: b.
      gates_Hx2H: W_r and W_i, side by side.
      gate_bias_2H: b_r and b_i.
      decay_H: d.
    """

    input_DxH: jax.Array
    bias_H: jax.Array
    gates_Hx2H: jax.Array
    gate_bias_2H: jax.Array
    decay_H: jax.Array


class Projected(NamedTuple):
    """What a step needs of the input: y, and the gates before their nonlinearities."""

    y_BxH: jax.Array
    gates_Bx2H: jax.Array


def init(
    key: jax.Array, input_size: int, hidden_size: int, initializers: Initializers
) -> RGLRUParams:
    """Returns weights with `sigmoid(d)^8` uniform in [0.9, 0.999], as in the paper."""
    keys = jax.random.split(key, 5)
    kept_H = jax.random.uniform(keys[4], (hidden_size,), minval=0.9, maxval=0.999)
    kept_H = kept_H ** (1 / _SHARPNESS)
    return RGLRUParams(
        initializers.input(keys[0], (input_size, hidden_size), 1),
        initializers.bias(keys[1], hidden_size),
        initializers.input(keys[2], (hidden_size, hidden_size), 2),
        initializers.bias(keys[3], 2 * hidden_size),
        jnp.log(kept_H) - jnp.log1p(-kept_H),
    )


def project(params: RGLRUParams, x: jax.Array, matmul: Matmul) -> Projected:
    """Returns y and the gates; nothing of the unit but `a * h` needs the carry."""
    y = add_bias(matmul(x, params.input_DxH), params.bias_H)
    return Projected(y, add_bias(matmul(y, params.gates_Hx2H), params.gate_bias_2H))


def linear(params: RGLRUParams, z: Projected) -> tuple[jax.Array, jax.Array]:
    """Returns `a` and `b` of `h' = a * h + b`."""
    r, i = jnp.split(sigmoid(z.gates_Bx2H), 2, axis=-1)
    log_kept_H = _SHARPNESS * jax.nn.log_sigmoid(params.decay_H)
    log_a = r * jnp.expand_dims(log_kept_H, tuple(range(r.ndim - 1)))
    # 1 - a^2, exact where a is near 1.
    rest = jnp.maximum(-jnp.expm1(2 * log_a), _LEAST)
    return jnp.exp(log_a), jnp.sqrt(rest) * i * z.y_BxH


def gates(
    params: RGLRUParams, h_BxH: jax.Array, z: Projected, matmul: Matmul
) -> dict[str, jax.Array]:
    """Returns the gates that `step` opens, by name."""
    del params, h_BxH, matmul
    r, i = jnp.split(sigmoid(z.gates_Bx2H), 2, axis=-1)
    return {"recurrence": r, "input": i}


cell = Cell(init, zero_carry, project, linear_step(linear), gates, linear)
