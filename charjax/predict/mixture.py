"""A mixture: a weighted mean of predictions, whose weights follow the text.

With p_i(x) what predictor i gives to the next character, and w_i weights that sum to 1,

    p(x) = sum_i w_i p_i(x)

and after the character x has been read,

    w_i' = w_i (1 - rate + rate p_i(x) / p(x)).

At a rate of 1 this is Bayes' rule for the question which predictor made the text, whose
answer soon is one of them. At a small rate the weights stay mixed, and come near those
that would have been the best for the text: Soft-Bayes, Orseau, Lattimore and Legg
(2017), https://arxiv.org/abs/1901.02230. At 0 they stay as they are.

A gated mixture has such weights for each character that may be the last one read, since
some predictors are better within words and others at their start.

For every predictor i and every text, from the weights w_i at the start,

    -log p(text) <= -log p_i(text) + C log(1 / w_i) / rate

with C the number of different characters of the text if the mixture is gated, else 1:
log(1 - rate + rate r) >= rate log(r), and a weight never exceeds 1.
"""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from charjax.errors import ConfigError
from charjax.model.params import Params
from charjax.predict.experts import (
    checked_experts,
    checked_weights,
    frozen_all,
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
      weights_CxBxN: the weights for each text, after each of C last characters.
      last_B: the last character of each text.
      log_probs_NxBxV: what each predictor expects next.
    """

    experts: tuple[Any, ...]
    weights_CxBxN: np.ndarray
    last_B: np.ndarray
    log_probs_NxBxV: np.ndarray


@dataclass(frozen=True, eq=False)
class Mixture:
    """A weighted mean of several predictors, as one predictor.

    Attributes:
      predictors: models or any other predictors, of one vocabulary.
      weights: their weights before the first character; equal ones by default.
      rate: how fast the weights follow the text, from 0, fixed, to 1, Bayes' rule (the
        equations are in `charjax.predict.mixture`).
      gated: whether each last character has weights of its own.

    Raises:
      ConfigError: no predictor is given, their vocabularies differ, the weights do not
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
    rate: float = 0.05
    gated: bool = True
    _experts: tuple[Predictor, ...] = field(init=False, repr=False)
    _weights: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        experts = checked_experts(self.predictors)
        weights = checked_weights(self.weights, len(experts))
        if not isinstance(self.rate, numbers.Real) or not 0 <= self.rate <= 1:
            raise ConfigError(
                f"rate must be from 0 to 1; got {self.rate!r:.60}. Try 0.05, or 0 for "
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
        weights_CxBxN = np.tile(self._weights, (V if self.gated else 1, batch_size, 1))
        # The first character says nothing of them: to all it is as likely as any other.
        nothing_NxBxV = np.zeros((N, batch_size, V))
        last_B = np.zeros(batch_size, np.int64)
        experts = start_all(self._experts, batch_size)
        return MixtureState(experts, weights_CxBxN, last_B, nothing_NxBxV)

    def read(
        self,
        state: MixtureState,
        ids_TxB: np.ndarray,
        begins_TxB: np.ndarray | None = None,
    ) -> tuple[MixtureState, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        A character that begins a document was predicted as the end of the one before,
        so that the weights follow the text on as in any other.
        """
        ids_SxB = np.concatenate([state.last_B[None], ids_TxB], dtype=np.int64)
        experts, log_probs_NxTxBxV = read_all(
            self._experts, state.experts, ids_TxB, begins_TxB
        )
        before_NxTxBxV = np.concatenate(
            [state.log_probs_NxBxV[:, None], log_probs_NxTxBxV[:, :-1]], axis=1
        )
        ids_1xTxBx1 = ids_SxB[None, 1:, :, None]
        chosen_NxTxB = np.take_along_axis(before_NxTxBxV, ids_1xTxBx1, axis=-1)[..., 0]
        contexts_SxB = ids_SxB if self.gated else np.zeros_like(ids_SxB)
        weights_CxBxN, used_TxBxN = follow(
            state.weights_CxBxN,
            contexts_SxB,
            np.moveaxis(chosen_NxTxB, 0, -1),
            self.rate,
        )
        log_weights_NxTxBx1 = np.moveaxis(np.log(used_TxBxN), -1, 0)[..., None]
        mixed_TxBxV = np.logaddexp.reduce(log_weights_NxTxBx1 + log_probs_NxTxBxV)
        state = MixtureState(
            experts, weights_CxBxN, ids_SxB[-1], log_probs_NxTxBxV[:, -1]
        )
        return state, mixed_TxBxV

    def frozen(self, state: MixtureState) -> tuple["Mixture", MixtureState]:
        """Returns the mixture that goes on with the weights of now, and its state."""
        experts, states = frozen_all(self._experts, state.experts)
        return replace(self, predictors=experts, rate=0.0), state._replace(
            experts=states
        )


def follow(
    weights_CxBxN: np.ndarray,
    contexts_SxB: np.ndarray,
    log_probs_TxBxN: np.ndarray,
    rate: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights after some characters, and `used_TxBxN`, those after each.

    Args:
      weights_CxBxN: those before the first of the characters, for each context.
      contexts_SxB: the context of each character, and of the one to come: S = T + 1.
      log_probs_TxBxN: what each of N predictors gave to each character.
      rate: how fast the weights follow.
    """
    texts = np.arange(contexts_SxB.shape[1])
    if rate == 0:
        return weights_CxBxN, weights_CxBxN[contexts_SxB[1:], texts]
    weights_CxBxN, used_TxBxN = weights_CxBxN.copy(), np.empty_like(log_probs_TxBxN)
    logs_TxBxN = np.maximum(log_probs_TxBxN, _LEAST_LOG_PROB)
    likelihoods_TxBxN = np.exp(logs_TxBxN - logs_TxBxN.max(-1, keepdims=True))
    for t, likelihoods_BxN in enumerate(likelihoods_TxBxN):
        weights_BxN = weights_CxBxN[contexts_SxB[t], texts]
        total_Bx1 = (weights_BxN * likelihoods_BxN).sum(axis=-1, keepdims=True)
        weights_BxN *= 1 - rate + rate * likelihoods_BxN / total_Bx1
        weights_CxBxN[contexts_SxB[t], texts] = np.maximum(weights_BxN, _LEAST)
        used_TxBxN[t] = weights_CxBxN[contexts_SxB[t + 1], texts]
    return weights_CxBxN, used_TxBxN


def mixed(
    log_probs_NxT: Sequence[np.ndarray] | np.ndarray,
    ids_T: np.ndarray,
    weights: Sequence[float] | None = None,
    rate: float = Mixture.rate,
    gated: bool = Mixture.gated,
) -> np.ndarray:
    """Returns what a mixture gives to each character of a text, `log_probs_T`.

    As `charjax.score(Mixture(...), text).log_probs`, without another reading of the
    text.

    Args:
      log_probs_NxT: the same of each of its predictors, from their own scores.
      ids_T: the text.
      weights: as `Mixture` takes them.
      rate: as `Mixture` takes it.
      gated: as `Mixture` takes it.

    Raises:
      ConfigError: the weights do not sum to 1.
    """
    log_probs_Tx1xN = np.asarray(log_probs_NxT, np.float64).T[:, None]
    start_N = checked_weights(weights, len(log_probs_NxT))
    contexts_S = np.append(0, ids_T if gated else np.zeros_like(ids_T)).astype(np.int64)
    weights_Cx1xN = np.tile(start_N, (contexts_S.max() + 1, 1, 1))
    _, used_Tx1xN = follow(weights_Cx1xN, contexts_S[:, None], log_probs_Tx1xN, rate)
    used_Tx1xN = np.concatenate([weights_Cx1xN[:1], used_Tx1xN[:-1]])
    return np.logaddexp.reduce(np.log(used_Tx1xN) + log_probs_Tx1xN, axis=-1)[:, 0]
