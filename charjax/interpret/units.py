"""Units whose state tracks a property of the text.

Karpathy, Johnson and Fei-Fei (2015), https://arxiv.org/abs/1506.02078, saw LSTM units
that count a line's characters or switch on inside quotes. `find_units` searches for
them: it compares every unit with a *predicate*, a value for each character of the text,
such as those in `PREDICATES`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from charjax.errors import ConfigError, check_choice
from charjax.interpret.measures import Area, Correlation
from charjax.interpret.states import encode, pieces
from charjax.model.params import Params

Predicate = Callable[[str], npt.ArrayLike] | npt.ArrayLike
Measure = Literal["correlation", "auc"]

MEASURES: tuple[Measure, ...] = get_args(Measure)


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
    check_choice("measure", measure, MEASURES)
    if count < 1:
        raise ConfigError(f"count must be at least 1; got {count}. Try 10.")
    ids = encode(params, text, at_least=2)
    target_T = _values(predicate, params, ids, measure)
    comparison = Correlation if measure == "correlation" else Area
    compared: dict[tuple[int, str], Correlation | Area] = {}
    for where, piece in pieces(params, ids):
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
            f"predicate must have one value for each of {len(ids)} characters; got "
            f"shape {values.shape}."
        )
    is_numeric = values.dtype.kind in "biuf"
    if not is_numeric or not np.isfinite(values).all():
        got = "a value that is not finite" if is_numeric else values.dtype
        raise ConfigError(
            f"predicate must be true, false or finite numbers; got {got}."
        )
    if (values == values[0]).all():
        raise ConfigError(
            f"predicate must vary in the text; got {values[0]} at each of {len(ids)} "
            "characters. Try a longer text."
        )
    if measure == "auc" and not np.isin(values, (0, 1)).all():
        raise ConfigError(
            "predicate must be true or false for measure='auc'; got other numbers. Try "
            "measure='correlation' or a threshold."
        )
    return values.astype(np.float64)
