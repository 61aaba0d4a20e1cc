"""The cell contract: what a recurrent cell is, and how its weights are first drawn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
CellParams = Any
Carry = Any
Matmul = Callable[[Array, Array], Array]


class Initializers(NamedTuple):
    """How a cell's first weights are drawn.

    Attributes:
      input: `(key, (D, H), gates) -> w_DxGH`, one draw a gate, side by side.
      recurrent: `(key, (H, H), gates) -> w_HxGH`, likewise.
      bias: `(key, size) -> b`.
      forget_bias: what an LSTM's forget gate starts from; large keeps memory.
    """

    input: Callable[[Array, tuple[int, int], int], Array]
    recurrent: Callable[[Array, tuple[int, int], int], Array]
    bias: Callable[[Array, int], Array]
    forget_bias: float = 1.0


class Cell(NamedTuple):
    """A recurrent cell as four pure functions, and a fifth where it has gates.

    One step of the recurrence is `step(params, carry, project(params, x))`. The two
    are apart because `project` needs no carry: it runs once over all time steps.
    Both multiply by weights through `matmul(x, w)`, which is `x @ w` in the model's
    precision (a row lookup where `x` holds integer ids). A weight that `step` hands
    to `matmul` as it stands gets its gradient from one product over all time steps
    after the backward pass instead of one a step (see `charjax.unroll.scan`).

    Attributes:
      init: `(key, input_size, hidden_size, initializers) -> params`, any pytree.
      initial_carry: `(batch_size, hidden_size, dtype) -> carry`, any pytree of arrays
        whose leading axis is the batch.
      project: `(params, x_...xD, matmul) -> z_...xGH`, any leading axes.
      step: `(params, carry, z_BxGH, matmul) -> (carry, h_BxH)`.
      gates: `(params, carry, z_BxGH, matmul) -> {name: gate_BxH}`, the gates in [0, 1]
        that this step opens, for `charjax.activations`; None where there are none.
    """

    init: Callable[[Array, int, int, Initializers], CellParams]
    initial_carry: Callable[[int, int, Any], Carry]
    project: Callable[[CellParams, Array, Matmul], Any]
    step: Callable[[CellParams, Carry, Any, Matmul], tuple[Carry, Array]]
    gates: Callable[[CellParams, Carry, Any, Matmul], dict[str, Array]] | None = None


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
    """Returns the `init` of a cell with `DenseParams` and so many gates."""

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


def dense_project(params: DenseParams, x: Array, matmul: Matmul) -> Array:
    """Returns `x W + b`, the part of every gate that does not depend on the carry."""
    return matmul(x, params.input_DxGH) + params.bias_GH


def zero_carry(batch_size: int, hidden_size: int, dtype: Any) -> Array:
    """Returns the zero state `h_BxH`."""
    return jnp.zeros((batch_size, hidden_size), dtype)


def sigmoid(x: Array) -> Array:
    """Returns `1 / (1 + exp(-x))`, through the tanh that XLA vectorises best on CPU."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5
