"""Layer normalisation of Ba, Kiros and Hinton (2016), of any cell."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import (
    Array,
    Carry,
    Cell,
    CellParams,
    Initializers,
    Matmul,
    add_bias,
)

_EPSILON = 1e-5  # added to the variance


class LayerNormParams(NamedTuple):
    """A cell's weights, and what its products with matrices are scaled and moved by.

    Attributes:
      cell: the cell's own.
      gains: `gain_H` for each matrix among the leaves of `cell`, in their order.
      biases: `bias_H` likewise.
    """

    cell: CellParams
    gains: tuple[Array, ...]
    biases: tuple[Array, ...]


@cache  # a cell is known by its functions, so the same cell must have the same ones
def layer_norm(cell: Cell) -> Cell:
    """Returns a cell that normalises its products with matrices, of any cell.

        x W  ->  g * (x W - mean(x W)) / std(x W) + b

    The mean and the deviation are those of one product, over all gates. For RNN, LSTM
    and GRU this is the supplementary material of the paper, but that an LSTM's memory
    is not normalised: what else a cell computes is its own.

    Ba et al. (2016), https://arxiv.org/abs/1607.06450.

    Args:
      cell: any cell.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import cells
      >>> from charjax.cells.layer_norm import layer_norm
      >>> rnn = layer_norm(cells.get("rnn"))
      >>> params = rnn.init(jax.random.key(0), 3, 4, cells.initializers("uniform"))
      >>> z_BxH = rnn.project(params, jnp.eye(3), jnp.matmul) - params.cell.bias_GH
      >>> bool(jnp.allclose(z_BxH.mean(axis=-1), 0, atol=1e-6))
      True
    """

    def init(key: Array, input_size: int, hidden_size: int, draw: Initializers) -> Any:
        params = cell.init(key, input_size, hidden_size, draw)
        widths = [w.shape[1] for w in _matrices(params)]
        ones, zeros = (tuple(map(f, widths)) for f in (jnp.ones, jnp.zeros))
        return LayerNormParams(params, ones, zeros)

    def project(params: LayerNormParams, x: Array, matmul: Matmul) -> Any:
        return cell.project(params.cell, x, _normalised(params, matmul))

    def step(params: LayerNormParams, carry: Carry, z: Any, matmul: Matmul) -> Any:
        return cell.step(params.cell, carry, z, _normalised(params, matmul))

    def gates(params: LayerNormParams, carry: Carry, z: Any, matmul: Matmul) -> Any:
        assert cell.gates is not None
        return cell.gates(params.cell, carry, z, _normalised(params, matmul))

    def linear(params: LayerNormParams, z: Any) -> tuple[Array, Array]:
        assert cell.linear is not None
        return cell.linear(params.cell, z)

    return Cell(
        init,
        cell.initial_carry,
        project,
        step,
        cell.gates and gates,
        cell.linear and linear,
    )


def _normalised(params: LayerNormParams, matmul: Matmul) -> Matmul:
    """Returns `matmul` with products with the cell's own matrices normalised."""
    matrices = _matrices(params.cell)

    def normalised_matmul(x: Array, w: Array) -> Array:
        y = matmul(x, w)
        index = next((i for i, matrix in enumerate(matrices) if matrix is w), None)
        if index is None:
            return y
        y -= jnp.mean(y, axis=-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + _EPSILON)
        gain = jnp.expand_dims(params.gains[index], tuple(range(y.ndim - 1)))
        return add_bias(y * gain, params.biases[index])

    return normalised_matmul


def _matrices(params: CellParams) -> Sequence[Array]:
    return [w for w in jax.tree.leaves(params) if w.ndim == 2]
