"""The n-gram model with modified Kneser-Ney smoothing: a baseline for other models.

With c(context w) the count of a k-gram and c(context) the sum over w,

    p(w | context) = (c(context w) - D) / c(context) + b p(w | shorter context)

where D depends on whether the count is 1, 2 or more, b is the mass that D takes away,
and the shorter context lacks the first character. The longest k-grams are counted as
often as they occur, shorter ones by the number of different characters before them. The
context shorter than the empty one gives the uniform distribution. A context that the
training text lacks is skipped.
Kneser and Ney (1995), https://doi.org/10.1109/ICASSP.1995.479394, as modified by Chen
and Goodman (1999), https://doi.org/10.1006/csla.1999.0128.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from charjax.errors import ConfigError, TextError
from charjax.predict.grams import UNKNOWN, Grams, counts_of_counts, discounts
from charjax.text.vocab import Vocab

_PIECE = 1 << 12  # distributions that are summed at once


@dataclass(frozen=True, eq=False)
class NGram:
    """A character n-gram model, which predicts as any `charjax.predict.Predictor`.

    Attributes:
      vocab: the characters that the ids mean.
      grams: the k-grams of the training text and their counts.
      shares: `(c - D) / c(context) / b` of each gram.
      backoffs: `b` of each context; 1 for an unknown one, the last.
      probs_V: the distribution after the empty context.
    """

    vocab: Vocab
    grams: Grams
    shares: np.ndarray
    backoffs: np.ndarray
    probs_V: np.ndarray

    @classmethod
    def fit(
        cls,
        ids: np.ndarray,
        vocab: Vocab,
        order: int = 6,
        begins: np.ndarray | None = None,
    ) -> Self:
        """Returns the model of a text.

        Args:
          ids: the text as ids of `vocab`, along the last axis. Other axes hold texts
            that do not continue each other, such as the lanes of a split.
          vocab: the characters that the ids mean.
          order: the longest k-gram: `order - 1` characters predict the next. At 0 all
            characters are equally likely.
          begins: true where a document begins, in the shape of the ids. Characters
            before that are not used to predict.

        Raises:
          ConfigError: the order is negative.
          TextError: ids are not integers in [0, V), or there are none.

        Example:
          >>> from charjax import NGram, Vocab, score
          >>> vocab = Vocab.of("hello world")
          >>> ngram = NGram.fit(vocab.encode("hello hello world"), vocab, order=3)
          >>> score(ngram, "hell").nats < score(ngram, "lleh").nats
          True
        """
        if order < 0:
            raise ConfigError(f"order must be 0 or more; got {order}. Try 6.")
        ids = checked_ids(ids, len(vocab))
        if ids.size == 0:
            raise TextError(
                "the text to fit must have a character; got none. Try a longer text."
            )
        grams = Grams.of(ids, len(vocab), min(order, ids.shape[-1]), begins)
        taken = np.zeros(len(grams.counts))
        for k in range(1, grams.longest + 1):
            counts = grams.counts[grams.of_length(k)]
            table = np.array(discounts(counts_of_counts(counts)))
            taken[grams.of_length(k)] = table[np.minimum(counts, 3)]
        contexts, num = grams.keys[1:-1] // len(vocab), len(grams.firsts)
        totals = np.bincount(contexts, grams.counts[1:], minlength=num)
        freed = np.bincount(contexts, taken[1:], minlength=num)
        backoffs = np.where(totals > 0, freed / np.maximum(totals, 1), 1)
        shares = grams.counts - taken
        shares[1:] /= np.where(totals > 0, freed, 1)[contexts]
        probs_V = np.full(len(vocab), backoffs[0] / len(vocab))
        first = slice(grams.firsts[0], grams.firsts[0] + grams.sizes[0])
        probs_V[grams.characters[first]] += backoffs[0] * shares[first]
        return cls(vocab, grams, shares, backoffs, probs_V)

    def start(self, batch_size: int) -> np.ndarray:
        """Returns the state before the first character, `contexts_KxB`."""
        contexts_KxB = np.full((max(self.grams.longest, 1), batch_size), UNKNOWN)
        contexts_KxB[0] = 0  # the empty context
        return contexts_KxB

    def read(
        self,
        state: np.ndarray,
        ids_TxB: np.ndarray,
        begins_TxB: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        Args:
          state: `contexts_KxB`, the number of the gram that the last k characters are,
            for k = 0 to the order less 1; -1 where the training text lacks it.
          ids_TxB: characters as ids of `vocab`.
          begins_TxB: true where a document begins.

        Raises:
          TextError: ids are not integers in [0, V).

        Example:
          >>> from charjax import NGram, Vocab
          >>> vocab = Vocab.of("ab")
          >>> ngram = NGram.fit(vocab.encode("aabab"), vocab, order=2)
          >>> ids_TxB = vocab.encode("ab")[:, None]
          >>> state, log_probs_TxBxV = ngram.read(ngram.start(1), ids_TxB)
          >>> log_probs_TxBxV.shape
          (2, 1, 2)
        """
        ids_TxB = checked_ids(ids_TxB, len(self.vocab))
        contexts_KxTxB = np.zeros((len(state), *ids_TxB.shape), np.int64)
        if len(ids_TxB) == 1 and begins_TxB is None:
            # Contexts of all lengths grow by one character at once.
            contexts_KxTxB[1:, 0] = self.grams.find(state[:-1], ids_TxB)
        else:
            for k in range(1, len(state)):
                before_TxB = [state[k - 1 : k], contexts_KxTxB[k - 1, :-1]]
                before_TxB = np.concatenate(before_TxB)
                if k > 1 and begins_TxB is not None:
                    before_TxB[begins_TxB] = UNKNOWN
                contexts_KxTxB[k] = self.grams.find(before_TxB, ids_TxB)
        contexts_KxN = contexts_KxTxB.reshape(len(state), -1)
        probs_NxV = np.empty((ids_TxB.size, len(self.vocab)))
        for first in range(0, ids_TxB.size, _PIECE):
            piece = slice(first, first + _PIECE)
            probs_NxV[piece] = self._probs(contexts_KxN[1:, piece])
        log_probs_TxBxV = np.log(probs_NxV, out=probs_NxV).reshape(*ids_TxB.shape, -1)
        return contexts_KxTxB[:, -1], log_probs_TxBxV

    def _probs(self, contexts_JxN: np.ndarray) -> np.ndarray:
        """Returns the distribution after each place's contexts, `probs_NxV`.

        The recursion over the contexts, written as a sum over their grams.

        Args:
          contexts_JxN: from the context of one character to the longest.
        """
        N, V = contexts_JxN.shape[1], len(self.vocab)
        # What each context leaves to all shorter ones, its own b included.
        left_JxN = self.backoffs.take(contexts_JxN)
        left_JxN = np.cumprod(left_JxN[::-1], axis=0)[::-1]
        # The grams that continue a context are neighbours: gather all of them at once.
        contexts = contexts_JxN.ravel()
        sizes = self.grams.sizes.take(contexts)
        ends = sizes.cumsum()
        runs = np.arange(len(sizes)).repeat(sizes)
        grams = (self.grams.firsts.take(contexts) - ends + sizes).take(runs)
        grams += np.arange(len(runs))
        places = runs % N * V + self.grams.characters.take(grams)
        parts = left_JxN.ravel().take(runs) * self.shares.take(grams)
        probs_NxV = np.bincount(places, parts, minlength=N * V).reshape(N, V)
        left_Nx1 = left_JxN[0][:, None] if len(left_JxN) else 1.0
        return probs_NxV + left_Nx1 * self.probs_V


def checked_ids(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Returns ids as int32.

    Raises:
      TextError: they are not integers in [0, V).
    """
    ids = np.asarray(ids)
    if ids.ndim == 0 or (ids.size and ids.dtype.kind not in "iu"):
        raise TextError(f"ids must be integers; got {ids.dtype} of shape {ids.shape}.")
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise TextError(
            f"ids must be 0 to {vocab_size - 1}; got {ids.min()} to {ids.max()}. Try "
            "vocab.encode(text)."
        )
    return ids.astype(np.int32, copy=False)
