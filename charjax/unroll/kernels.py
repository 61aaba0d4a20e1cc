"""The compiled kernels: which there are, for which cell, platform and precision."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from charjax.cells import lstm
from charjax.cells.base import Carry, Cell, CellParams
from charjax.unroll import native
from charjax.unroll.native import lstm as native_lstm


class UnrollKernel(NamedTuple):
    """A kernel that runs one kind of cell over time.

    Attributes:
      problem: `() -> str | None`, why it cannot be used on this machine; the first
        call makes it ready.
      is_slow_to_start: `() -> bool`, whether that call will take seconds.
      fits: `(params, carry, z_TxBxGH) -> bool`, whether it takes arrays of these types
        and shapes.
      unroll: `(params, carry, z_TxBxGH) -> (carry, h_TxBxH)`, differentiable once.
    """

    problem: Callable[[], str | None]
    is_slow_to_start: Callable[[], bool]
    fits: Callable[[CellParams, Carry, Any], bool]
    unroll: Callable[[CellParams, Carry, Any], tuple[Carry, jax.Array]]


class DrawKernel(NamedTuple):
    """A kernel that draws text from a stack of layers of one kind of cell.

    Attributes:
      problem: `() -> str | None`, why it cannot be used on this machine.
      pack: `(layers, z_VxGH, readout_HxV, bias_V) -> weights`, a model's weights in
        the order in which `draw` reads them; z is the first layer's projected input
        for each character.
      draw: `(weights, carry, logits_BxV, noise_PxBxV, count, temperature)
        -> (carry, logits_BxV, ids_PxB)`, the first `count` characters of each text as
        in `charjax.predict.draw`, and the state and logits after them.
    """

    problem: Callable[[], str | None]
    pack: Callable[[Sequence[CellParams], jax.Array, jax.Array, jax.Array], Any]
    draw: Callable[..., tuple[Carry, jax.Array, jax.Array]]


# A cell is known by what it computes, so one with other first weights has the kernel.
_Key = tuple[Any, Any, str, str]


def _key(cell: Cell, platform: str, precision: str) -> _Key:
    return cell.project, cell.step, platform, precision


_UNROLL = {
    _key(lstm.cell, "cpu", "float32"): UnrollKernel(
        native.problem, native.will_compile, native_lstm.fits, native_lstm.unroll
    )
}
_DRAW = {
    _key(lstm.cell, "cpu", "float32"): DrawKernel(
        native.problem, native_lstm.pack, native_lstm.draw
    )
}


def unroll_kernel(cell: Cell, platform: str, precision: str) -> UnrollKernel | None:
    """Returns the kernel that runs a cell over time, if there is one."""
    return _UNROLL.get(_key(cell, platform, precision))


def draw_kernel(cell: Cell, platform: str, precision: str) -> DrawKernel | None:
    """Returns the kernel that draws text from a cell, if there is one."""
    return _DRAW.get(_key(cell, platform, precision))
