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

A k-gram is known by its rank among the different k-grams, and a (k + 1)-gram by (the
rank of its first k characters, its last character): integers that stay small for any
vocabulary and order.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from charjax.errors import ConfigError, TextError
from charjax.text.vocab import Vocab

# For texts too small or too regular to estimate discounts from.
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


class _Grams(NamedTuple):
    """The k-grams of the training text.

    Attributes:
      keys: the sorted keys of the different k-grams.
      characters: the last character of each.
      shares: `(c - D) / c(context)` of each.
      starts: where the k-grams of each context start, and the end of the last.
      backoffs: what each context leaves to the shorter one.
    """

    keys: np.ndarray
    characters: np.ndarray
    shares: np.ndarray
    starts: np.ndarray
    backoffs: np.ndarray

    @classmethod
    def of(
        cls, keys: np.ndarray, counts: np.ndarray, vocab_size: int, num_contexts: int
    ) -> Self:
        """Returns k-grams from the key and the count of each."""
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        contexts = keys // vocab_size
        totals = np.bincount(contexts, counts, minlength=num_contexts)
        freed = np.bincount(contexts, discounts, minlength=num_contexts)
        followed = totals > 0
        totals = np.maximum(totals, 1)
        shares = (counts - discounts) / totals[contexts]
        backoffs = np.where(followed, freed / totals, 1)
        starts = np.searchsorted(contexts, np.arange(num_contexts + 1))
        return cls(keys, keys % vocab_size, shares, starts, backoffs)

    def refine(self, contexts: np.ndarray, probs_xV: np.ndarray) -> None:
        """Turns probabilities given shorter contexts into those given these, in place.

        Args:
          contexts: the rank of the context at each place, -1 for an unknown one.
          probs_xV: the probabilities at each place.
        """
        probs_NxV = probs_xV.reshape(-1, probs_xV.shape[-1])
        places = np.flatnonzero(contexts.ravel() >= 0)
        known = contexts.ravel()[places]
        probs_NxV[places] *= self.backoffs[known, None]
        # The k-grams of a context are neighbours: gather all contexts' runs at once.
        first = self.starts[known]
        counts = self.starts[known + 1] - first
        rows = np.repeat(places, counts)
        run_starts = np.cumsum(counts) - counts
        grams = np.arange(len(rows)) + np.repeat(first - run_starts, counts)
        probs_NxV[rows, self.characters[grams]] += self.shares[grams]


@dataclass(frozen=True, eq=False)
class NGram:
    """A character n-gram model, which predicts as any `charjax.predict.Predictor`.

    Attributes:
      vocab: the characters that the ids mean.
      grams: what it knows of 1-grams, 2-grams and so on.
    """

    vocab: Vocab
    grams: tuple[_Grams, ...]

    @classmethod
    def fit(cls, ids: np.ndarray, vocab: Vocab, order: int = 6) -> Self:
        """Returns the model of a text.

        Args:
          ids: the text as ids of `vocab`, along the last axis. Other axes hold texts
            that do not continue each other, such as the lanes of a split.
          vocab: the characters that the ids mean.
          order: the longest k-gram: `order - 1` characters predict the next. At 0 all
            characters are equally likely.

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
        vocab_size = len(vocab)
        ids = _checked(ids, vocab_size)
        if ids.size == 0:
            raise TextError(
                "the text to fit must have a character; got none. Try a longer text."
            )
        keys: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        shorter = contexts = np.zeros(ids.shape, np.int64)
        for k in range(min(order, ids.shape[-1])):
            keys_at = contexts * vocab_size + ids[..., k:]
            distinct, count = np.unique(keys_at, return_counts=True)
            ranks = np.searchsorted(distinct, keys_at)
            if k:
                suffixes = np.empty(len(distinct), np.int64)
                suffixes[ranks] = shorter[..., 1:]
                counts[-1] = np.bincount(suffixes, minlength=len(keys[-1]))
            keys.append(distinct)
            counts.append(count)
            shorter, contexts = ranks, ranks[..., :-1]
        num_contexts = [1, *map(len, keys)]
        return cls(
            vocab,
            tuple(
                _Grams.of(key, count, vocab_size, num)
                for key, count, num in zip(keys, counts, num_contexts, strict=False)
            ),
        )

    @property
    def vocab_size(self) -> int:
        """V, the number of ids."""
        return len(self.vocab)

    def start(self, batch_size: int) -> np.ndarray:
        """Returns the state before the first character, `ranks_KxB`."""
        ranks_KxB = np.full((max(len(self.grams), 1), batch_size), -1, np.int64)
        ranks_KxB[0] = 0  # the empty context
        return ranks_KxB

    def read(
        self, state: np.ndarray, ids_TxB: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        Args:
          state: `ranks_KxB`, the rank of the k-gram that the last k characters are,
            for k = 0 to the order less 1; -1 where the training text lacks it.
          ids_TxB: characters as ids of `vocab`.

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
        ids_TxB = _checked(ids_TxB, self.vocab_size)
        probs_TxBxV = np.full((*ids_TxB.shape, self.vocab_size), 1 / self.vocab_size)
        last_KxB = np.empty_like(state)
        contexts_TxB = np.zeros(ids_TxB.shape, np.int64)
        for k, grams in enumerate(self.grams):
            last_KxB[k] = contexts_TxB[-1]
            grams.refine(contexts_TxB, probs_TxBxV)
            # The longer context is the one of k characters before, and this character.
            before_TxB = np.concatenate([state[k : k + 1], contexts_TxB[:-1]])
            keys_TxB = before_TxB * self.vocab_size + ids_TxB
            contexts_TxB = _find(grams.keys, np.where(before_TxB < 0, -1, keys_TxB))
        return last_KxB, np.log(probs_TxBxV)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Returns what is taken off counts of 0, 1, 2 and more.

        D_j = j - (j + 1) Y n_{j+1} / n_j,   Y = n_1 / (n_1 + 2 n_2)

    with n_j the number of k-grams that have the count j (Chen and Goodman, eq. 26).
    """
    n1, n2, n3, n4 = ((counts == j).sum() for j in (1, 2, 3, 4))
    if min(n1, n2, n3) > 0:
        Y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * Y * n2 / n1, 2 - 3 * Y * n3 / n2, 3 - 4 * Y * n4 / n3
        if min(found) > 0:
            return np.array([0, *found])
    return np.array([0, *_FALLBACK_DISCOUNTS])


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the place of each wanted key among sorted ones, -1 where it has none."""
    places = np.searchsorted(keys, wanted)
    places[places == len(keys)] = 0
    places[keys[places] != wanted] = -1
    return places


def _checked(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Returns ids as int32."""
    ids = np.asarray(ids)
    if ids.ndim == 0 or (ids.size and ids.dtype.kind not in "iu"):
        raise TextError(f"ids must be integers; got {ids.dtype} of shape {ids.shape}.")
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise TextError(
            f"ids must be 0 to {vocab_size - 1}; got {ids.min()} to {ids.max()}. Try "
            "vocab.encode(text)."
        )
    return ids.astype(np.int32, copy=False)
