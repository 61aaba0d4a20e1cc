"""The compiled kernels: which there are, for which cell, platform and precision."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from charjax import cells
from charjax.cells.base import Carry, Cell, CellParams
from charjax.unroll import native
from charjax.unroll.native import recurrence


class UnrollKernel(NamedTuple):
    """A kernel that runs one kind of cell over time.

    Attributes:
      problem: `() -> str | None`, why it cannot be used on this machine; the first
        call makes it ready.
      fits: `(params, carry, z_TxBxGH) -> bool`, whether it takes arrays of these types
        and shapes.
      unroll: `(params, carry, z_TxBxGH) -> (carry, h_TxBxH)`, differentiable once.
    """

    problem: Callable[[], str | None]
    fits: Callable[[CellParams, Carry, Any], bool]
    unroll: Callable[[CellParams, Carry, Any], tuple[Carry, jax.Array]]


class DrawKernel(NamedTuple):
    """A kernel that draws text from a stack of layers of one kind of cell.

    Attributes:
      problem: `() -> str | None`, why it cannot be used on this machine.
      pack: `(layers, z_VxGH, readout_HxV, bias_V) -> weights`, a model's weights in
        the order in which `draw` reads them; z is the first layer's projected input
        for each character.
      draw: `(weights, carry, logits_BxV, noise_PxBxV, count, temperature, cut)
        -> (carry, logits_BxV, ids_PxB)`, the first `count` characters of each text as
        in `charjax.predict.draw`, and the state and logits after them. The cut is
        `(top_k, top_p, min_p)`, rules in this order.
    """

    problem: Callable[[], str | None]
    pack: Callable[[Sequence[CellParams], jax.Array, jax.Array, jax.Array], Any]
    draw: Callable[..., tuple[Carry, jax.Array, jax.Array]]


# A cell is known by what it computes, so one with other first weights has the kernel.
_Key = tuple[Any, Any, str, str]


def _key(cell: Cell, platform: str, precision: str) -> _Key:
    return cell.project, cell.step, platform, precision


_UNROLL = {}
_DRAW = {}
for (_name, _precision), _kind in recurrence.KINDS.items():
    _at = _key(cells.get(_name), "cpu", _precision)
    _problem = partial(native.problem, _precision)
    _UNROLL[_at] = UnrollKernel(
        _problem,
        partial(recurrence.fits, _kind),
        partial(recurrence.unroll, _kind),
    )
    _DRAW[_at] = DrawKernel(
        _problem, partial(recurrence.pack, _kind), partial(recurrence.draw, _kind)
    )


def unroll_kernel(cell: Cell, platform: str, precision: str) -> UnrollKernel | None:
    """Returns the kernel that runs a cell over time, if there is one."""
    return _UNROLL.get(_key(cell, platform, precision))


def draw_kernel(cell: Cell, platform: str, precision: str) -> DrawKernel | None:
    """Returns the kernel that draws text from a cell, if there is one."""
    return _DRAW.get(_key(cell, platform, precision))
