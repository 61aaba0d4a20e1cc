"""The Mogrifier of Melis et al. (2020): input and state of a cell gate each other."""

from functools import cache
from typing import Any, NamedTuple

import jax

from charjax.cells.base import (
    Array,
    Carry,
    Cell,
    CellParams,
    Initializers,
    Matmul,
    sigmoid,
)
from charjax.errors import ConfigError


class MogrifierParams(NamedTuple):
    """A cell's weights, and a matrix for each round.

    Attributes:
      cell: the cell's own.
      gate_input: `Q_HxD` of each odd round.
      gate_state: `R_DxH` of each even round.
    """

    cell: CellParams
    gate_input: tuple[Array, ...]
    gate_state: tuple[Array, ...]


@cache  # a cell is known by its functions, so the same cell must have the same ones
def mogrifier(cell: Cell, rounds: int) -> Cell:
    """Returns a cell whose input x and last output h gate each other before each step.

        x <- 2 sigmoid(Q h) * x      in the rounds 1, 3, 5 ...
        h <- 2 sigmoid(R x) * h      in the rounds 2, 4 ...

    The input must be known in each step, so `project` only hands it on, and the cell's
    own runs in `step`; a `linear` form is lost.

    Melis et al. (2020), https://arxiv.org/abs/1909.01792, with matrices of full rank.

    Args:
      cell: a cell whose carry is h, or has it as its field `h_BxH`.
      rounds: how many; 5 in the paper; with 0 the cell is returned as it is.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import cells
      >>> from charjax.cells.mogrifier import mogrifier
      >>> cell = mogrifier(cells.get("lstm"), 5)
      >>> params = cell.init(jax.random.key(0), 3, 4, cells.initializers("uniform"))
      >>> [w.shape for w in params.gate_input + params.gate_state]
      [(4, 3), (4, 3), (4, 3), (3, 4), (3, 4)]
    """
    if rounds == 0:
        return cell

    def init(key: Array, input_size: int, hidden_size: int, draw: Initializers) -> Any:
        def matrix(i: int) -> Array:
            rows, columns = (hidden_size, input_size)[:: -1 if i % 2 else 1]
            return draw.input(jax.random.fold_in(key, i), (rows, columns), 1)

        params = cell.init(key, input_size, hidden_size, draw)
        matrices = tuple(map(matrix, range(rounds)))
        return MogrifierParams(params, matrices[::2], matrices[1::2])

    def project(params: MogrifierParams, x: Array, matmul: Matmul) -> Array:
        del params, matmul
        return x

    def gated(
        params: MogrifierParams, carry: Carry, x_BxD: Array, matmul: Matmul
    ) -> Any:
        h_BxH = _output_in(carry)
        for i in range(rounds):
            if i % 2 == 0:
                x_BxD *= 2 * sigmoid(matmul(h_BxH, params.gate_input[i // 2]))
            else:
                h_BxH *= 2 * sigmoid(matmul(x_BxD, params.gate_state[i // 2]))
        carry = h_BxH if carry is _output_in(carry) else carry._replace(h_BxH=h_BxH)
        return params.cell, carry, cell.project(params.cell, x_BxD, matmul), matmul

    def step(
        params: MogrifierParams, carry: Carry, x_BxD: Array, matmul: Matmul
    ) -> Any:
        return cell.step(*gated(params, carry, x_BxD, matmul))

    def gates(
        params: MogrifierParams, carry: Carry, x_BxD: Array, matmul: Matmul
    ) -> Any:
        assert cell.gates is not None
        return cell.gates(*gated(params, carry, x_BxD, matmul))

    return Cell(init, cell.initial_carry, project, step, cell.gates and gates)


def _output_in(carry: Carry) -> Array:
    """Returns the last output, which a carry is or has."""
    h_BxH = carry if hasattr(carry, "ndim") else getattr(carry, "h_BxH", None)
    if h_BxH is None:
        raise ConfigError(
            "for model.mogrifier a cell's state must be its output or have a field "
            f"h_BxH; got {type(carry).__name__}. Try model.mogrifier=0."
        )
    return h_BxH
