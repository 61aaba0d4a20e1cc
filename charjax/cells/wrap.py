"""What turns a cell into another cell: zoneout, and a fresh start in mid-text."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import Array, Carry, Cell, CellParams, Matmul


class ZoneoutInput(NamedTuple):
    """The input of one step, or of all, of a cell with zoneout.

    Attributes:
      z: the cell's own.
      keeps: a pytree like the carry, true where a unit keeps its value; None for the
        expectation.
    """

    z: Any
    keeps: Any


@cache  # a cell is known by its functions, so the same cell must have the same ones
def zoneout(cell: Cell, rate: float) -> Cell:
    """Returns a cell whose units keep their values at random, of any cell.

        carry' = m * carry + (1 - m) * new,   m = 1 with probability `rate`

    In training m is drawn anew for each unit, step and text (see `with_masks`). Without
    masks it is its mean, the rate. An output that `step` returns as a part of its carry
    is mixed with it.

    Krueger et al. (2016), https://arxiv.org/abs/1606.01305.

    Args:
      cell: any cell.
      rate: the probability; with 0 the cell is returned as it is.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import cells
      >>> from charjax.cells.wrap import zoneout
      >>> rnn = cells.get("rnn")
      >>> params = rnn.init(jax.random.key(0), 3, 4, cells.initializers("uniform"))
      >>> cell, x_BxD = zoneout(rnn, 0.5), jnp.ones((2, 3))
      >>> carry, z = jnp.zeros((2, 4)), cell.project(params, x_BxD, jnp.matmul)
      >>> _, h_BxH = cell.step(params, carry, z, jnp.matmul)
      >>> _, new_BxH = rnn.step(params, carry, z.z, jnp.matmul)
      >>> bool(jnp.all(h_BxH == new_BxH / 2))
      True
    """
    if rate == 0:
        return cell

    def project(params: CellParams, x: Array, matmul: Matmul) -> ZoneoutInput:
        return ZoneoutInput(cell.project(params, x, matmul), None)

    def gates(
        params: CellParams, carry: Carry, z: ZoneoutInput, matmul: Matmul
    ) -> dict[str, Array]:
        assert cell.gates is not None
        return cell.gates(params, carry, z.z, matmul)

    def linear(params: CellParams, z: ZoneoutInput) -> tuple[Array, Array]:
        assert cell.linear is not None
        a, b = cell.linear(params, z.z)
        keep = rate if z.keeps is None else z.keeps
        return _mix(keep, jnp.ones_like(a), a), _mix(keep, jnp.zeros_like(b), b)

    return cell._replace(
        project=project,
        step=partial(_step, cell, rate),
        gates=cell.gates and gates,
        linear=cell.linear and linear,
    )


def has_zoneout(cell: Cell) -> bool:
    """Whether `zoneout` made this cell."""
    return isinstance(cell.step, partial) and cell.step.func is _step


class Share(NamedTuple):
    """Which texts of a batch are read here, where others are read elsewhere.

    Attributes:
      first: the number of the first one.
      total: of all texts.
    """

    first: Any
    total: int


def with_masks(
    z_TxBxGH: ZoneoutInput,
    carry: Carry,
    key: Array,
    rate: float,
    share: Share | None = None,
) -> Any:
    """Returns the input of a cell with zoneout with a mask for each of T steps.

    Args:
      z_TxBxGH: `cell.project(params, x_TxBxD, matmul)`.
      carry: a state of the cell.
      key: draws the masks.
      rate: the cell's.
      share: which texts of a batch these are; None for all.
    """
    num_steps = jax.tree.leaves(z_TxBxGH)[0].shape[0]
    leaves, treedef = jax.tree.flatten(carry)
    keeps = [
        bernoulli(jax.random.fold_in(key, i), rate, (num_steps, *leaf.shape), share)
        for i, leaf in enumerate(leaves)
    ]
    return z_TxBxGH._replace(keeps=jax.tree.unflatten(treedef, keeps))


def bernoulli(
    key: Array, p: Any, shape: tuple[int, ...], share: Share | None = None
) -> Array:
    """Returns random booleans, time and texts first.

    Those of a share are those that its texts have in the whole batch.

    Args:
      key: draws them.
      p: the probability of true.
      shape: T, B and others.
      share: which texts of a batch the B are; None for all.
    """
    p = jnp.asarray(p)  # which may be a number of a stack
    if share is None:
        return jax.random.bernoulli(key, p, shape)
    num_steps, num_texts, *others = shape
    whole = jax.random.bernoulli(key, p, (num_steps, share.total, *others))
    return jax.lax.dynamic_slice_in_dim(whole, share.first, num_texts, axis=1)


def _step(
    cell: Cell,
    rate: float,
    params: CellParams,
    carry: Carry,
    z: ZoneoutInput,
    matmul: Matmul,
) -> tuple[Carry, Array]:
    new, h = cell.step(params, carry, z.z, matmul)
    keeps = z.keeps
    if keeps is None:
        keeps = jax.tree.map(lambda _: rate, carry)
    mixed = jax.tree.map(_mix, keeps, carry, new)
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(mixed), strict=True)
    return mixed, next((m for leaf, m in pairs if leaf is h), h)


def _mix(keep: Any, old: Array, new: Array) -> Array:
    """Returns the old value where a mask is true; by a rate, the mean of that."""
    if not jnp.issubdtype(new.dtype, jnp.inexact):
        return new  # a counter, not a unit
    if isinstance(keep, float):
        return keep * old + (1 - keep) * new
    return jnp.where(keep, old, new)


class AnewInput(NamedTuple):
    """The input of one step, or of all, of a cell that can start anew.

    Attributes:
      z: the cell's own.
      is_first: true where the state before the step is the first one, `_TxB` or `_B`.
    """

    z: Any
    is_first: Array


@cache  # as for `zoneout`
def starting_anew(cell: Cell, hidden_size: int) -> Cell:
    """Returns a cell that begins from its first state at the steps that say so.

        carry', h = step(carry_0 where is_first else carry, z)

    It has no `project`: its input is an `AnewInput`, made from that of the cell.

    Args:
      cell: any cell.
      hidden_size: H.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import cells
      >>> from charjax.cells.wrap import AnewInput, starting_anew
      >>> rnn = cells.get("rnn")
      >>> params = rnn.init(jax.random.key(0), 3, 4, cells.initializers("uniform"))
      >>> carry, z = jnp.ones((2, 4)), rnn.project(params, jnp.ones((2, 3)), jnp.matmul)
      >>> anew = AnewInput(z, jnp.array([True, False]))
      >>> _, h_BxH = starting_anew(rnn, 4).step(params, carry, anew, jnp.matmul)
      >>> bool(jnp.all(h_BxH[0] == jnp.tanh(z[0]))), bool(jnp.all(h_BxH[0] == h_BxH[1]))
      (True, False)
    """

    def linear(params: CellParams, z: AnewInput) -> tuple[Array, Array]:
        assert cell.linear is not None
        a, b = cell.linear(params, z.z)
        first = cell.initial_carry(a.shape[-2], hidden_size, a.dtype)
        is_first = z.is_first[..., None]
        a_anew = jnp.where(is_first, 0, a)
        return a_anew, b + (a - a_anew) * jnp.expand_dims(first, range(a.ndim - 2))

    step = partial(_anew_step, cell, hidden_size)
    return cell._replace(step=step, gates=None, linear=cell.linear and linear)


def starts_anew(cell: Cell) -> bool:
    """Whether `starting_anew` made this cell."""
    return isinstance(cell.step, partial) and cell.step.func is _anew_step


def select_lanes(is_first_B: Array, first: Array, other: Array) -> Array:
    """Returns `first` in the lanes where the mask is true, `other` elsewhere."""
    shape = is_first_B.shape + (1,) * (first.ndim - 1)
    return jnp.where(is_first_B.reshape(shape), first, other)


def _anew_step(
    cell: Cell,
    hidden_size: int,
    params: CellParams,
    carry: Carry,
    z: AnewInput,
    matmul: Matmul,
) -> tuple[Carry, Array]:
    dtype = jax.tree.leaves(carry)[0].dtype
    first = cell.initial_carry(len(z.is_first), hidden_size, dtype)
    carry = jax.tree.map(partial(select_lanes, z.is_first), first, carry)
    return cell.step(params, carry, z.z, matmul)
