"""What the units of a model do as it reads: states, gates, and units that track a text.

Karpathy, Johnson and Fei-Fei (2015), https://arxiv.org/abs/1506.02078, saw LSTM units
that count a line's characters or switch on inside quotes. `find_units` looks for them:
it compares every unit with a *predicate*, a value for each character of the text, such
as those in `PREDICATES`.

The text goes through the model in pieces of one size, so that any length takes one
compilation, and only what a function returns grows with the text.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from charjax import cells, model
from charjax.cells.base import Carry, Cell, CellParams
from charjax.devices import jit_forward
from charjax.errors import ConfigError, TextError
from charjax.model import Params
from charjax.text.vocab import codes_of
from charjax.unroll.precision import matmul_in

Predicate = Callable[[str], npt.ArrayLike] | npt.ArrayLike
Measure = Literal["correlation", "auc"]

MEASURES = ("correlation", "auc")
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


class Unit(NamedTuple):
    """A unit, and how well it tracks a predicate.

    Attributes:
      layer: the layer, 0 for the lowest.
      index: the unit within it.
      state: which of the layer's states, as `LayerActivations.carry` names them.
      score: the absolute correlation, 0 to 1; or the area under the curve of
        `sign * activation`, 0.5 to 1.
      sign: 1 where the unit is high when the predicate is, -1 where it is low then.
    """

    layer: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    state: str
    score: float
    sign: int


class Saturation(NamedTuple):
    """How often a layer's gates are shut or open.

    Attributes:
      low_H: the share of characters at which each is below 0.1.
      high_H: the share at which it is above 0.9.
    """

    low_H: np.ndarray
    high_H: np.ndarray


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
      For each layer asked for its states and gates, `TxH` for H units asked for.

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
    ids = _encode(params, text, at_least=1)
    num_layers = len(params.layers)
    layers = range(num_layers) if layers is None else layers
    _check_indices("layers", layers, num_layers)
    chosen: slice | list[int] = slice(None) if units is None else list(units)
    result = None
    for where, piece in _pieces(params, ids):
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


def find_units(
    params: Params,
    text: str | bytes,
    predicate: Predicate,
    *,
    count: int = 10,
    measure: Measure = "correlation",
) -> list[Unit]:
    """Returns the units whose state tracks a predicate best, the best first.

    A unit's state after each character is compared with the predicate there:

        correlation: cov(a, p) / (std(a) std(p))
        auc:         P(a_i > a_j) + P(a_i = a_j) / 2   where p holds at i and not at j

    Correlation asks for a linear relation. The area under the curve asks only that the
    unit be higher where the predicate holds, and is not moved by how rarely it does;
    it is taken from a histogram in which values count as equal that lie within about
    a thousandth of the unit's standard deviation, or 2% of their own distance from its
    mean.

    Args:
      params: the model.
      text: the text that the model reads, 2 characters or more.
      predicate: a value, true or false or real, for each character; or a function that
        returns them, of the text as a str. For a vocabulary of bytes that str has one
        character a byte (as latin-1 reads them).
      count: how many units.
      measure: `'correlation'`, or `'auc'` for predicates that are true or false.

    Raises:
      ConfigError: the predicate has not one finite number for each character, is the
        same everywhere, or does not go with the measure; or count is less than 1.
      TextError: the text is too short or holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> def after_l(text):
      ...     return [character == "l" for character in text]
      >>> best, *others = charjax.find_units(params, "hello world", after_l)
      >>> len(others), best.score > 0.5
      (9, True)
    """
    model.check_choice("measure", measure, MEASURES)
    if count < 1:
        raise ConfigError(f"count: expected 1 or more, got {count}")
    ids = _encode(params, text, at_least=2)
    target_T = _values(predicate, params, ids, measure)
    comparison = _Correlation if measure == "correlation" else _Area
    compared: dict[tuple[int, str], _Correlation | _Area] = {}
    for where, piece in _pieces(params, ids):
        for layer, (carry, _) in enumerate(piece):
            for state, a_PxH in carry.items():
                if (layer, state) not in compared:
                    compared[layer, state] = comparison(target_T, a_PxH)
                compared[layer, state].add(a_PxH, target_T[where])
    units = [
        Unit(layer, int(index), state, float(score_H[index]), int(sign_H[index]))
        for (layer, state), sums in compared.items()
        for score_H, sign_H in [sums.result()]
        for index in np.argsort(-score_H, kind="stable")[:count]
    ]
    return sorted(units, key=lambda unit: -unit.score)[:count]


def gate_saturation(
    params: Params, text: str | bytes
) -> tuple[dict[str, Saturation], ...]:
    """Returns how often each gate is shut (below 0.1) or open (above 0.9), by layer.

    A forget gate that is always open is a counter or a perfect memory; one that is
    always shut makes its unit a feed-forward one (section 4.2 of the paper).

    Args:
      params: the model.
      text: the text that the model reads.

    Returns:
      For each layer, the lowest first, its gates by name; none for a cell without.

    Raises:
      TextError: the text is empty or holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> low, high = charjax.gate_saturation(params, "hello world")
      >>> low["forget"].high_H.shape
      (128,)
    """
    ids = _encode(params, text, at_least=1)
    counts: Any = None
    for _, piece in _pieces(params, ids):
        found = tuple(
            {
                name: Saturation((a_PxH < 0.1).sum(axis=0), (a_PxH > 0.9).sum(axis=0))
                for name, a_PxH in layer.gates.items()
            }
            for layer in piece
        )
        counts = found if counts is None else jax.tree.map(np.add, counts, found)
    return jax.tree.map(lambda count_H: count_H / len(ids), counts)


class _Correlation:
    """Pearson's r of each unit with a target, from sums in float64."""

    def __init__(self, target_T: np.ndarray, a_PxH: np.ndarray) -> None:
        self.count = len(target_T)
        self.mean = target_T.mean()
        self.target_square = np.square(target_T - self.mean).sum()
        # Sums are of differences from a first value: a unit that never moves has none.
        self.origin_H = a_PxH[0].astype(np.float64)
        self.sum_H, self.square_H, self.product_H = np.zeros((3, a_PxH.shape[1]))

    def add(self, a_PxH: np.ndarray, target_P: np.ndarray) -> None:
        moved_PxH = a_PxH - self.origin_H
        self.sum_H += moved_PxH.sum(axis=0)
        self.square_H += np.square(moved_PxH).sum(axis=0)
        self.product_H += (target_P - self.mean) @ moved_PxH

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the score and the sign of each unit."""
        square_H = self.square_H - np.square(self.sum_H) / self.count
        scale_H = np.sqrt(np.maximum(square_H, 0) * self.target_square)
        r_H = np.divide(
            self.product_H, scale_H, out=np.zeros_like(scale_H), where=scale_H > 0
        )
        return np.minimum(np.abs(r_H), 1), np.where(r_H < 0, -1, 1)


class _Area:
    """The area under the curve of each unit for a target of 0 and 1, from histograms.

    The bins are even on the scale of asinh(16 z), with z how many standard deviations
    a value is from the mean, both of the first piece: linear near the mean, and
    logarithmic beyond, since a cell's memory is not bounded.
    """

    _FINEST = 1 / 16
    _LARGEST = 1e6
    _BINS = 1 << 11

    def __init__(self, target_T: np.ndarray, a_PxH: np.ndarray) -> None:
        del target_T
        values_PxH = a_PxH.astype(np.float64)
        self.mean_H, std_H = values_PxH.mean(axis=0), values_PxH.std(axis=0)
        self.scale_H = np.where(std_H > 0, std_H, 1) * self._FINEST
        self.counts_HxBx2 = np.zeros((a_PxH.shape[1], self._BINS, 2), np.int64)

    def add(self, a_PxH: np.ndarray, target_P: np.ndarray) -> None:
        scale = self._BINS / 2 / np.arcsinh(self._LARGEST / self._FINEST)
        bins = np.arcsinh((a_PxH - self.mean_H) / self.scale_H) * scale
        bins = np.clip(bins + self._BINS / 2, 0, self._BINS - 1).astype(np.int64)
        H = a_PxH.shape[1]
        places = (np.arange(H) * self._BINS + bins) * 2 + target_P[:, None].astype(int)
        np.add.at(self.counts_HxBx2.reshape(-1), places, 1)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the score and the sign of each unit."""
        false_HxB, true_HxB = np.moveaxis(self.counts_HxBx2, -1, 0)
        below_HxB = false_HxB.cumsum(axis=1) - false_HxB / 2
        pairs_H = true_HxB.sum(axis=1) * false_HxB.sum(axis=1)
        area_H = (true_HxB * below_HxB).sum(axis=1) / pairs_H
        return np.maximum(area_H, 1 - area_H), np.where(area_H < 0.5, -1, 1)


def _encode(params: Params, text: str | bytes, *, at_least: int) -> np.ndarray:
    ids = params.vocab.encode(text)
    if len(ids) < at_least:
        raise TextError(
            f"Text to read: expected at least {at_least} characters, got {len(ids)}; "
            "give a longer text"
        )
    return ids


def _check_indices(name: str, indices: Sequence[int], size: int) -> None:
    for index in indices:
        if not 0 <= index < size:
            raise ConfigError(f"{name}: expected 0 to {size - 1}, got {index}")


def _values(
    predicate: Predicate, params: Params, ids: np.ndarray, measure: Measure
) -> np.ndarray:
    """Returns the predicate's value at each character, as float64."""
    if callable(predicate):
        text = params.vocab.decode(ids)
        predicate = predicate(text if isinstance(text, str) else text.decode("latin-1"))
    values = np.asarray(predicate)
    if values.shape != ids.shape:
        raise ConfigError(
            f"predicate: expected one value for each of {len(ids)} characters, "
            f"got shape {values.shape}"
        )
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ConfigError(
            "predicate: expected true, false or finite numbers, got "
            + ("one that is not" if values.dtype.kind in "biuf" else str(values.dtype))
        )
    if (values == values[0]).all():
        raise ConfigError(
            f"predicate: expected values that differ, got {values[0]} at each of "
            f"{len(ids)} characters; give a text in which it varies"
        )
    if measure == "auc" and not np.isin(values, (0, 1)).all():
        raise ConfigError(
            "predicate: expected true or false for measure='auc', got real values; "
            "use measure='correlation' or a threshold"
        )
    return values.astype(np.float64)


def _pieces(
    params: Params, ids: np.ndarray
) -> Iterator[tuple[slice, tuple[LayerActivations, ...]]]:
    """Gives the text piece by piece: where it stands, and each layer's activations."""
    carry = model.initial_carry(params, 1)
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
    cell = cells.get(params.spec.cell)
    x = ids_P[:, None]
    if params.embedding_VxE is not None:
        x = jnp.take(params.embedding_VxE, x, axis=0)
    carries, layers = [], []
    for layer, layer_carry in zip(params.layers, carry, strict=True):
        layer_carry, found, x = _read_layer(
            cell, params.spec.dtype, layer, layer_carry, x
        )
        carries.append(layer_carry)
        layers.append(found)
    return tuple(carries), tuple(layers)


def _read_layer(
    cell: Cell, dtype: str, params: CellParams, carry: Carry, x_Px1xD: jax.Array
) -> tuple[Carry, LayerActivations, jax.Array]:
    """Returns a layer's carry after the last step, its activations and its outputs."""
    matmul = matmul_in(dtype)
    z_Px1xGH = cell.project(params, x_Px1xD, matmul)

    def step(carry: Carry, z_1xGH: Any) -> tuple[Carry, tuple[Carry, jax.Array]]:
        carry, h_1xH = cell.step(params, carry, z_1xGH, matmul)
        return carry, (carry, h_1xH)

    last, (after, h_Px1xH) = jax.lax.scan(step, carry, z_Px1xGH)
    gates: Any = {}
    if cell.gates is not None:
        # The steps' carries are known now, so their gates come as those of one batch.
        before = jax.tree.map(
            lambda first, rest: jnp.concatenate([first, rest[:-1, 0]]), carry, after
        )
        z_PxGH = jax.tree.map(lambda z: z[:, 0], z_Px1xGH)
        gates = cell.gates(params, before, z_PxGH, matmul)
    return last, LayerActivations(_by_name(after), gates), h_Px1xH


def _by_name(carry: Carry) -> dict[str, Any]:
    """Returns each array of a carry over P steps as `PxH`, named without its shape."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in leaves]
    return {
        re.sub(r"_B(x\w+)?$", "", name) or "h": leaf.reshape(len(leaf), -1)
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def _inside_quotes(text: str) -> np.ndarray:
    """An odd number of double quotes since the last blank line."""
    codes = codes_of(text)
    newline = codes == ord("\n")
    blank = newline & np.roll(newline, 1)
    blank[:1] = False
    quotes = np.isin(codes, [ord(quote) for quote in '"“”'])
    return _count(quotes, since=blank) % 2 == 1


def _position_in_line(text: str) -> np.ndarray:
    """Characters since the last newline: 0 at it, 1 at the first of a line."""
    newline = codes_of(text) == ord("\n")
    return _count(np.ones_like(newline), since=newline)


def _bracket_depth(text: str) -> np.ndarray:
    """Brackets of any kind that are open; a closing one too many counts for nothing."""
    codes = codes_of(text)
    opening, closing = (np.isin(codes, [ord(c) for c in s]) for s in ("([{", ")]}"))
    depth = np.cumsum(opening.astype(np.int64) - closing)
    return depth - np.minimum(np.minimum.accumulate(depth), 0)


def _line_ends_in_colon(text: str) -> np.ndarray:
    """A line whose last character is a colon, as a speaker's name in a play."""
    codes = codes_of(text)
    newline = codes == ord("\n")
    line = np.cumsum(newline) - newline
    ends = np.append(np.flatnonzero(newline), len(codes))
    last_characters = np.insert(codes, 0, ord("\n"))[ends]
    return (last_characters == ord(":"))[line] & ~newline


def _indentation(text: str) -> np.ndarray:
    """Leading spaces and tabs of the line, as far as read."""
    codes = codes_of(text)
    newline = codes == ord("\n")
    blank = (codes == ord(" ")) | (codes == ord("\t"))
    leading = blank & (_count(~blank, since=newline) == 0)
    return _count(leading, since=newline)


def _capital_word(text: str) -> np.ndarray:
    """A word of two letters or more, all of them capitals."""
    codes, place = np.unique(codes_of(text), return_inverse=True)
    letter = np.array([chr(code).isalpha() for code in codes], bool)[place]
    capital = np.array([chr(code).isupper() for code in codes], bool)[place]
    word = np.cumsum(~letter)  # with what stands before it
    letters, capitals = np.bincount(word, letter), np.bincount(word, letter & capital)
    return letter & ((letters >= 2) & (letters == capitals))[word]


def _consecutive_newlines(text: str) -> np.ndarray:
    """Newlines in a row: 0 within a line, 1 at its end, 2 after a blank line."""
    newline = codes_of(text) == ord("\n")
    return _count(newline, since=~newline)


def _count(events: np.ndarray, *, since: np.ndarray) -> np.ndarray:
    """Returns how many events there are, at each place, since the last `since`."""
    counts = np.cumsum(events)
    return counts - np.maximum.accumulate(np.where(since, counts, 0))


PREDICATES: dict[str, Callable[[str], np.ndarray]] = {
    "inside quotes": _inside_quotes,
    "position in line": _position_in_line,
    "bracket depth": _bracket_depth,
    "line that ends in a colon": _line_ends_in_colon,
    "indentation": _indentation,
    "capital word": _capital_word,
    "consecutive newlines": _consecutive_newlines,
}
