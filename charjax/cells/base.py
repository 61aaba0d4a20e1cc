"""The cell contract: what a recurrent cell is, and parts that several cells share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.initializers import Initializers

Array = jax.Array
CellParams = Any
Carry = Any
Matmul = Callable[[Array, Array], Array]


class Cell(NamedTuple):
    """A recurrent cell as four pure functions, and two optional ones.

    One step of the recurrence is `step(params, carry, project(params, x))`. The two are
    separate because `project` needs no carry: it runs once over all time steps. Both
    multiply by weights through `matmul(x, w)`, which is `x @ w` in the precision of the
    execution. A weight that `step` passes to `matmul` unchanged gets its gradient from
    one product over all time steps after the backward pass, instead of one product a
    step (see `charjax.unroll.scan`).

    Attributes:
      init: `(key, input_size, hidden_size, initializers) -> params`, any pytree.
      initial_carry: `(batch_size, hidden_size, dtype) -> carry`, any pytree of arrays
        whose leading axis is the batch.
      project: `(params, x_...xD, matmul) -> z_...xGH`, any leading axes. The input is
        always vectors: an embedding, one-hot characters, or the layer below.
      step: `(params, carry, z_BxGH, matmul) -> (carry, h_BxH)`.
      gates: `(params, carry, z_BxGH, matmul) -> {name: gate_BxH}`, the gates in [0, 1]
        that this step opens, for `charjax.activations`; None without gates.
      linear: `(params, z) -> (a, b)` with `step`'s `h' = a * h + b`, for a cell whose
        carry and output are the same array h. Such a cell can run in parallel over
        time (see `charjax.unroll.linear`); None for all others.
    """

    init: Callable[[Array, int, int, Initializers], CellParams]
    initial_carry: Callable[[int, int, Any], Carry]
    project: Callable[[CellParams, Array, Matmul], Any]
    step: Callable[[CellParams, Carry, Any, Matmul], tuple[Carry, Array]]
    gates: Callable[[CellParams, Carry, Any, Matmul], dict[str, Array]] | None = None
    linear: Callable[[CellParams, Any], tuple[Array, Array]] | None = None


class DenseParams(NamedTuple):
    """The weights of a cell whose gates are affine in its input and its last output.

    Attributes:
      input_DxGH: weights of the input, gates side by side.
      recurrent_HxGH: weights of the last output.
      bias_GH: one bias a gate.
    """

    input_DxGH: Array
    recurrent_HxGH: Array
    bias_GH: Array


def dense_init(gates: int) -> Callable[[Array, int, int, Initializers], DenseParams]:
    """Returns the `init` of a cell with `DenseParams` and this number of gates."""

    def init(
        key: Array, input_size: int, hidden_size: int, initializers: Initializers
    ) -> DenseParams:
        key_input, key_recurrent, key_bias = jax.random.split(key, 3)
        return DenseParams(
            initializers.input(key_input, (input_size, hidden_size), gates),
            initializers.recurrent(key_recurrent, (hidden_size, hidden_size), gates),
            initializers.bias(key_bias, gates * hidden_size),
        )

    return init


class InputParams(NamedTuple):
    """The weights of a cell whose gates are affine in its input alone.

    Attributes:
      input_DxGH: weights of the input, gates side by side.
      bias_GH: one bias a gate.
    """

    input_DxGH: Array
    bias_GH: Array


def input_init(gates: int) -> Callable[[Array, int, int, Initializers], InputParams]:
    """Returns the `init` of a cell with `InputParams` and this number of gates."""

    def init(
        key: Array, input_size: int, hidden_size: int, initializers: Initializers
    ) -> InputParams:
        key_input, key_bias = jax.random.split(key)
        return InputParams(
            initializers.input(key_input, (input_size, hidden_size), gates),
            initializers.bias(key_bias, gates * hidden_size),
        )

    return init


def linear_step(
    linear: Callable[[CellParams, Any], tuple[Array, Array]],
) -> Callable[[CellParams, Carry, Any, Matmul], tuple[Carry, Array]]:
    """Returns the `step` of a cell with this `linear` form."""

    def step(
        params: CellParams, h_BxH: Array, z_BxGH: Any, matmul: Matmul
    ) -> tuple[Carry, Array]:
        del matmul  # all products are of the input alone
        a_BxH, b_BxH = linear(params, z_BxGH)
        h_BxH = a_BxH * h_BxH + b_BxH
        return h_BxH, h_BxH

    return step


def dense_project(params: DenseParams | InputParams, x: Array, matmul: Matmul) -> Array:
    """Returns `x W + b`, the part of every gate that does not depend on the carry."""
    return add_bias(matmul(x, params.input_DxGH), params.bias_GH)


def add_bias(x: Array, bias_H: Array) -> Array:
    """Returns `x_...xH + bias_H`, even if JAX is set to refuse rank promotion."""
    return x + jnp.expand_dims(bias_H, tuple(range(x.ndim - 1)))


def zero_carry(batch_size: int, hidden_size: int, dtype: Any) -> Array:
    """Returns the zero state `h_BxH`."""
    return jnp.zeros((batch_size, hidden_size), dtype)


def sigmoid(x: Array) -> Array:
    """Returns `1 / (1 + exp(-x))`, through the tanh that XLA vectorises best on CPU."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5
