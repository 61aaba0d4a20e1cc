"""Several predictors of one vocabulary, read side by side: what mixtures share."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from charjax.errors import ConfigError
from charjax.model.params import Params
from charjax.predict.predictor import Learner, Predictor, predictor_of, read


def checked_experts(models: Sequence[Params | Predictor]) -> tuple[Predictor, ...]:
    """Returns models as predictors.

    Raises:
      ConfigError: there are none, or their vocabularies differ.
    """
    experts = tuple(predictor_of(model) for model in models)
    if not experts:
        raise ConfigError(
            "the predictors must be at least one; got none. Try [params, ngram]."
        )
    for place, expert in enumerate(experts):
        if expert.vocab != experts[0].vocab:
            raise ConfigError(
                "the predictors must have one vocabulary; got another at place "
                f"{place}: {expert.vocab!r}, not {experts[0].vocab!r}. Try models "
                "trained on one text."
            )
    return experts


def checked_weights(weights: Sequence[float] | None, num: int) -> tuple[float, ...]:
    """Returns a weight for each predictor; equal ones where none are given.

    Raises:
      ConfigError: they are not as many positive numbers, or do not sum to 1.
    """
    if weights is None:
        return (1 / num,) * num
    given: list[Any] = list(weights)
    if not all(isinstance(w, numbers.Real) and 0 < float(w) < math.inf for w in given):
        raise ConfigError(
            f"weights must be numbers above 0; got {given!r:.60}. Try [0.7, 0.3]."
        )
    if len(given) != num:
        raise ConfigError(
            f"weights must be one for each of {num} predictors; got {len(given)}."
        )
    if abs(math.fsum(given) - 1) > 1e-6:
        raise ConfigError(
            f"weights must sum to 1; got {given!r:.60}, {math.fsum(given):.6g} in all. "
            f"Try {[round(w / math.fsum(given), 3) for w in given]!r:.60}."
        )
    return tuple(map(float, given))


def start_all(experts: Sequence[Predictor], batch_size: int) -> tuple[Any, ...]:
    """Returns the state of each before the first character."""
    return tuple(expert.start(batch_size) for expert in experts)


def read_all(
    experts: Sequence[Predictor],
    states: Sequence[Any],
    ids_TxB: np.ndarray,
    begins_TxB: np.ndarray | None,
) -> tuple[tuple[Any, ...], np.ndarray]:
    """Returns the states after more characters, and `log_probs_NxTxBxV` in double."""
    pairs = zip(experts, states, strict=True)
    found = [read(expert, state, ids_TxB, begins_TxB) for expert, state in pairs]
    log_probs_NxTxBxV = np.stack([np.asarray(x, np.float64) for _, x in found])
    return tuple(state for state, _ in found), log_probs_NxTxBxV


def frozen_all(
    experts: Sequence[Predictor], states: Sequence[Any]
) -> tuple[list[Predictor], tuple[Any, ...]]:
    """Returns what goes on from the states without learning, and its own states."""
    pairs = [
        expert.frozen(state) if isinstance(expert, Learner) else (expert, state)
        for expert, state in zip(experts, states, strict=True)
    ]
    return [expert for expert, _ in pairs], tuple(state for _, state in pairs)
