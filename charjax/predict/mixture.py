"""A mixture: a weighted mean of predictions, whose weights follow the text.

With p_i(x) what predictor i gives to the next character, and w_i weights that sum to 1,

    p(x) = sum_i w_i p_i(x)

and after the character x has been read,

    w_i' = w_i (1 - rate + rate p_i(x) / p(x)).

At a rate of 1 this is Bayes' rule for the question which predictor made the text, whose
answer soon is one of them. At a small rate the weights stay mixed, and come near those
that would have been the best for the text: Soft-Bayes, Orseau, Lattimore and Legg
(2017), https://arxiv.org/abs/1901.02230. At 0 they stay as they are.

For every predictor i and every text, from the weights w_i at the start,

    -log p(text) <= -log p_i(text) + log(1 / w_i) / rate

since log(1 - rate + rate r) >= rate log(r), and a weight never exceeds 1.
"""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from charjax.errors import ConfigError
from charjax.model.params import Params
from charjax.predict.experts import (
    checked_experts,
    checked_weights,
    read_all,
    start_all,
)
from charjax.predict.predictor import Predictor
from charjax.text.vocab import Vocab

# A weight that rounds to 0 could never grow again, nor all of them after a character
# to which every predictor gave nothing.
_LEAST, _LEAST_LOG_PROB = 1e-300, -650.0


class MixtureState(NamedTuple):
    """What a mixture knows of the texts it has read.

    Attributes:
      experts: the state of each predictor.
      weights_NxB: the weight of each predictor for each text.
      log_probs_NxBxV: what each expects next.
    """

    experts: tuple[Any, ...]
    weights_NxB: np.ndarray
    log_probs_NxBxV: np.ndarray


@dataclass(frozen=True, eq=False)
class Mixture:
    """A weighted mean of several predictors, as one predictor.

    Attributes:
      predictors: models or any other predictors, of one vocabulary.
      weights: their weights before the first character; equal ones by default.
      rate: how fast the weights follow the text, from 0, fixed, to 1, Bayes' rule (the
        equations are in `charjax.predict.mixture`).

    Raises:
      ConfigError: there is no predictor, their vocabularies differ, the weights do not
        sum to 1, or the rate is not from 0 to 1.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> ngram = charjax.NGram.fit(vocab.encode("hello world"), vocab, order=3)
      >>> mixture = charjax.Mixture([params, ngram])
      >>> text = charjax.sample(mixture, "hell", 0.8, length=3)
      >>> fixed = charjax.Mixture([params, ngram], [0.3, 0.7], rate=0)
      >>> charjax.score(fixed, "hello").nats < charjax.score(params, "hello").nats
      True
    """

    predictors: Sequence[Params | Predictor]
    weights: Sequence[float] | None = None
    rate: float = 0.02

    def __post_init__(self) -> None:
        experts = checked_experts(self.predictors)
        weights = checked_weights(self.weights, len(experts))
        if not isinstance(self.rate, numbers.Real) or not 0 <= self.rate <= 1:
            raise ConfigError(
                f"rate must be from 0 to 1; got {self.rate!r:.60}. Try 0.02, or 0 for "
                "fixed weights."
            )
        object.__setattr__(self, "_experts", experts)
        object.__setattr__(self, "_weights", weights)

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        return self._experts[0].vocab

    def start(self, batch_size: int) -> MixtureState:
        """Returns the state before the first character."""
        N, V = len(self._experts), len(self.vocab)
        weights_NxB = np.tile(np.array(self._weights)[:, None], (1, batch_size))
        # The first character says nothing of them: to all it is as likely as any other.
        nothing_NxBxV = np.zeros((N, batch_size, V))
        return MixtureState(
            start_all(self._experts, batch_size), weights_NxB, nothing_NxBxV
        )

    def read(
        self, state: MixtureState, ids_TxB: np.ndarray
    ) -> tuple[MixtureState, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`."""
        experts, log_probs_NxTxBxV = read_all(self._experts, state.experts, ids_TxB)
        before_NxTxBxV = np.concatenate(
            [state.log_probs_NxBxV[:, None], log_probs_NxTxBxV[:, :-1]], axis=1
        )
        ids_1xTxBx1 = np.asarray(ids_TxB, np.int64)[None, :, :, None]
        chosen_NxTxB = np.take_along_axis(before_NxTxBxV, ids_1xTxBx1, axis=-1)[..., 0]
        weights_TxNxB = follow(
            state.weights_NxB, chosen_NxTxB.swapaxes(0, 1), self.rate
        )
        log_weights_NxTxBx1 = np.log(weights_TxNxB).swapaxes(0, 1)[..., None]
        mixed_TxBxV = np.logaddexp.reduce(log_weights_NxTxBx1 + log_probs_NxTxBxV)
        state = MixtureState(experts, weights_TxNxB[-1], log_probs_NxTxBxV[:, -1])
        return state, mixed_TxBxV


def follow(
    weights_NxB: np.ndarray, log_probs_TxNxB: np.ndarray, rate: float
) -> np.ndarray:
    """Returns `weights_TxNxB`, the weights of N predictors after each character.

    Args:
      weights_NxB: those before the first of the characters.
      log_probs_TxNxB: what each predictor gave to each character.
      rate: how fast the weights follow.
    """
    weights_TxNxB = np.empty_like(log_probs_TxNxB)
    if rate == 0:
        weights_TxNxB[:] = weights_NxB
        return weights_TxNxB
    log_probs_TxNxB = np.maximum(log_probs_TxNxB, _LEAST_LOG_PROB)
    likelihoods_TxNxB = np.exp(log_probs_TxNxB - log_probs_TxNxB.max(1, keepdims=True))
    for t, likelihoods_NxB in enumerate(likelihoods_TxNxB):
        ratios_NxB = likelihoods_NxB / (weights_NxB * likelihoods_NxB).sum(axis=0)
        weights_NxB = weights_NxB * (1 - rate + rate * ratios_NxB)
        weights_TxNxB[t] = weights_NxB = np.maximum(weights_NxB, _LEAST)
    return weights_TxNxB


def mixed(
    log_probs_NxT: np.ndarray,
    weights: Sequence[float] | None = None,
    rate: float = Mixture.rate,
) -> np.ndarray:
    """Returns what a mixture gives to each character of a text, `log_probs_T`.

    As `charjax.score(Mixture(predictors, weights, rate), text).log_probs`, without
    another reading of the text.

    Args:
      log_probs_NxT: the same of each of its predictors, from their own scores.
      weights: before the first character; equal ones by default.
      rate: how fast the weights follow.

    Raises:
      ConfigError: the weights do not sum to 1.
    """
    log_probs_TxNx1 = np.asarray(log_probs_NxT, np.float64).T[..., None]
    weights_1xNx1 = np.reshape(checked_weights(weights, len(log_probs_NxT)), (1, -1, 1))
    after_TxNx1 = follow(weights_1xNx1[0], log_probs_TxNx1, rate)
    before_TxNx1 = np.concatenate([weights_1xNx1, after_TxNx1[:-1]])
    return np.logaddexp.reduce(np.log(before_TxNx1) + log_probs_TxNx1, axis=1)[:, 0]
