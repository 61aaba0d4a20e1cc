"""The states and gates of a model at each character of a text.

The text goes through the model in pieces of one size, so any length takes one
compilation, and only what a function returns grows with the text.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax.cells.base import Carry, Cell, CellParams
from charjax.devices import jit_forward
from charjax.errors import ConfigError, TextError
from charjax.model.forward import Unroll, forward
from charjax.model.params import Params, initial_carry
from charjax.unroll.execution import Execution
from charjax.unroll.precision import matmul_in

_PIECE = 1 << 10  # characters read in one call of a compiled function


class LayerActivations(NamedTuple):
    """What one layer holds and does at each of T characters.

    Attributes:
      carry: the state after each character as `TxH`, by name: `c` and `h` for the LSTM,
        `h` for the others. The name is the field of the cell's carry without its shape;
        a carry that is one array is `h`; further axes of a state are laid flat.
      gates: the gates opened on reading each character as `TxH` in [0, 1], by name:
        `input`, `forget` and `output` for the LSTM, `reset` and `update` for the GRU.
    """

    carry: dict[str, np.ndarray]
    gates: dict[str, np.ndarray]


def activations(
    params: Params,
    text: str | bytes,
    *,
    layers: Sequence[int] | None = None,
    units: Sequence[int] | None = None,
) -> tuple[LayerActivations, ...]:
    """Returns the states and gates of a model at each character of a text.

    Args:
      params: the model.
      text: T characters, read one after the other from the zero state.
      layers: which, 0 for the lowest; all by default.
      units: which of each layer; all by default. Memory is taken for these only.

    Returns:
      The states and gates of each chosen layer, `TxH` for H chosen units.

    Raises:
      ConfigError: there is no such layer or unit.
      TextError: the text is empty or holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> low, high = charjax.activations(params, "hello")
      >>> high.carry["c"].shape, sorted(high.gates)
      ((5, 128), ['forget', 'input', 'output'])
    """
    ids = encode(params, text, at_least=1)
    num_layers = len(params.layers)
    layers = range(num_layers) if layers is None else layers
    _check_indices("layers", layers, num_layers)
    chosen: slice | list[int] = slice(None) if units is None else list(units)
    result = None
    for where, piece in pieces(params, ids):
        wanted = tuple(piece[layer] for layer in layers)
        if result is None:
            widths = [a_PxH.shape[1] for a_PxH in jax.tree.leaves(wanted)]
            if units is not None:
                _check_indices("units", units, min(widths, default=0))
            result = jax.tree.map(
                lambda a_PxH: np.empty((len(ids), a_PxH[:1, chosen].size), a_PxH.dtype),
                wanted,
            )
        pairs = zip(jax.tree.leaves(result), jax.tree.leaves(wanted), strict=True)
        for a_TxH, a_PxH in pairs:
            a_TxH[where] = a_PxH[:, chosen]
    assert result is not None
    return result


def encode(params: Params, text: str | bytes, *, at_least: int) -> np.ndarray:
    """Returns a text as ids, or says that it is too short."""
    ids = params.vocab.encode(text)
    if len(ids) < at_least:
        raise TextError(
            f"the text to read must have at least {at_least} characters; got "
            f"{len(ids)}. Try a longer text."
        )
    return ids


def pieces(
    params: Params, ids: np.ndarray
) -> Iterator[tuple[slice, tuple[LayerActivations, ...]]]:
    """Yields each piece of the text: where it is, and each layer's activations."""
    carry = initial_carry(params, 1)
    for first in range(0, len(ids), _PIECE):
        piece = ids[first : first + _PIECE]
        count = len(piece)
        ids_P = np.zeros(_PIECE, np.int32)
        ids_P[:count] = piece
        carry, layers = _read_piece(params, carry, ids_P)
        layers = jax.tree.map(lambda a_PxH, n=count: np.asarray(a_PxH)[:n], layers)
        yield slice(first, first + count), layers


@jit_forward
def _read_piece(
    params: Params, carry: Carry, ids_P: jax.Array
) -> tuple[Carry, tuple[LayerActivations, ...]]:
    """Reads the ids; returns the carry after the last, and each layer's activations."""
    found: list[LayerActivations] = []
    out = forward(params, ids_P[:, None], carry, unroll=_observing(found))
    return out.carry, tuple(found)


def _observing(found: list[LayerActivations]) -> Unroll:
    """Returns a strategy that appends each layer's activations to a list."""

    def unroll(
        cell: Cell, params: CellParams, carry: Carry, z_Px1xGH: Any, run: Execution
    ) -> tuple[Carry, jax.Array]:
        matmul = matmul_in(run.precision)

        def step(carry: Carry, z_1xGH: Any) -> tuple[Carry, tuple[Carry, jax.Array]]:
            carry, h_1xH = cell.step(params, carry, z_1xGH, matmul)
            return carry, (carry, h_1xH)

        last, (after, h_Px1xH) = jax.lax.scan(step, carry, z_Px1xGH)
        gates: Any = {}
        if cell.gates is not None:
            # All carries are known now, so the gates of all steps are those of a batch.
            before = jax.tree.map(
                lambda first, rest: jnp.concatenate([first, rest[:-1, 0]]), carry, after
            )
            z_PxGH = jax.tree.map(lambda z: z[:, 0], z_Px1xGH)
            gates = cell.gates(params, before, z_PxGH, matmul)
        found.append(LayerActivations(_by_name(after), gates))
        return last, h_Px1xH

    return unroll


def _by_name(carry: Carry) -> dict[str, Any]:
    """Returns each array of a carry over P steps as `PxH`, named without its shape."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in leaves]
    return {
        re.sub(r"_B(x\w+)?$", "", name) or "h": leaf.reshape(len(leaf), -1)
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def _check_indices(name: str, indices: Sequence[int], size: int) -> None:
    for index in indices:
        if not 0 <= index < size:
            raise ConfigError(f"{name} must be from 0 to {size - 1}; got {index}.")
