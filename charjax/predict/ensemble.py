"""An ensemble: the mean of what several predictors expect."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from charjax.errors import check_choice
from charjax.model.params import Params
from charjax.predict.experts import (
    checked_experts,
    frozen_all,
    read_all,
    start_all,
)
from charjax.predict.predictor import Predictor
from charjax.text.vocab import Vocab

Mean = Literal["geometric", "arithmetic"]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Several predictors that count alike, as one predictor.

        p(x) = (p_1(x) ... p_N(x))^(1/N) / sum_y (p_1(y) ... p_N(y))^(1/N)    geometric
        p(x) = (p_1(x) + ... + p_N(x)) / N                                   arithmetic

    The geometric mean suits models of one kind, trained from other seeds; where one of
    them is sure that a character cannot come, so is the ensemble. Predictors of
    different kinds are better mixed, see `Mixture`.

    Attributes:
      predictors: models or any other predictors, of one vocabulary.
      mean: `'geometric'` or `'arithmetic'`.

    Raises:
      ConfigError: no predictor is given, their vocabularies differ, or the mean is
        unknown.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> models = [charjax.init(jax.random.key(seed), charjax.ModelSpec(), vocab)
      ...           for seed in (0, 1)]
      >>> charjax.score(charjax.Ensemble(models), "hello").log_probs.shape
      (5,)
    """

    predictors: Sequence[Params | Predictor]
    mean: Mean = "geometric"
    _experts: tuple[Predictor, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("mean", self.mean, ("geometric", "arithmetic"))
        object.__setattr__(self, "_experts", checked_experts(self.predictors))

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        return self._experts[0].vocab

    def start(self, batch_size: int) -> tuple[Any, ...]:
        """Returns the states of all before the first character."""
        return start_all(self._experts, batch_size)

    def read(
        self,
        state: tuple[Any, ...],
        ids_TxB: np.ndarray,
        begins_TxB: np.ndarray | None = None,
    ) -> tuple[tuple[Any, ...], np.ndarray]:
        """Returns the states after more characters, and `log_probs_TxBxV`."""
        state, log_probs_NxTxBxV = read_all(self._experts, state, ids_TxB, begins_TxB)
        if self.mean == "arithmetic":
            total_TxBxV = np.logaddexp.reduce(log_probs_NxTxBxV)
            return state, total_TxBxV - np.log(len(log_probs_NxTxBxV))
        mean_TxBxV = log_probs_NxTxBxV.mean(axis=0)
        total_TxBx1 = np.logaddexp.reduce(mean_TxBxV, axis=-1, keepdims=True)
        return state, mean_TxBxV - total_TxBx1

    def frozen(self, state: tuple[Any, ...]) -> tuple["Ensemble", tuple[Any, ...]]:
        """Returns the ensemble that goes on without learning, and its state."""
        experts, state = frozen_all(self._experts, state)
        return replace(self, predictors=experts), state
