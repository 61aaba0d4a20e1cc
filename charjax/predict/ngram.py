"""The n-gram model with modified Kneser-Ney smoothing: what a recurrent one must beat.

With c(context w) the count of a k-gram and c(context) the sum over w,

    p(w | context) = (c(context w) - D) / c(context) + b p(w | shorter context)

where D depends on whether the count is 1, 2 or more, b is the mass so freed, and the
shorter context lacks the first character. A count of the longest k-grams is how often
the text has them; of shorter ones, after how many different characters. Under the empty
context lies the uniform distribution; a context that was never followed is passed over.
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

# For texts too small or too regular to estimate discounts from.
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


class _Grams(NamedTuple):
    """The k-grams of the training text; the last share and backoff are for none.

    Attributes:
      keys: the sorted keys of the different k-grams.
      shares: `(c - D) / c(context)` of each, then 0.
      backoffs: what each context leaves to the shorter one, then 1.
    """

    keys: np.ndarray
    shares: np.ndarray
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
        return cls(keys, np.append(shares, 0), np.append(backoffs, 1))


@dataclass(frozen=True, eq=False)
class NGram:
    """A character n-gram model.

    Attributes:
      vocab_size: V, the number of ids.
      grams: what it knows of 1-grams, 2-grams and so on.
    """

    vocab_size: int
    grams: tuple[_Grams, ...]

    @classmethod
    def fit(cls, ids: np.ndarray, vocab_size: int, order: int = 6) -> Self:
        """Returns the model of a text.

        Args:
          ids: the text as integers in [0, V), along the last axis; further axes hold
            texts that do not go on in one another, such as the lanes of a split.
          vocab_size: V.
          order: the longest k-gram: `order - 1` characters predict the next. At 0 all
            characters are equally likely.

        Raises:
          ConfigError: a size is out of range.
          TextError: ids are not integers in [0, V), or there are none.

        Example:
          >>> from charjax import Vocab
          >>> from charjax.predict.ngram import NGram
          >>> vocab = Vocab.of("hello world")
          >>> model = NGram.fit(vocab.encode("hello hello world"), len(vocab), order=3)
          >>> nats = model.nats(vocab.encode("hell"))
          >>> nats.shape, bool(nats[-1] < nats[0])
          ((4,), True)
        """
        for name, size, least in (("vocab_size", vocab_size, 1), ("order", order, 0)):
            if size < least:
                raise ConfigError(f"{name}: expected {least} or more, got {size}")
        ids = _checked(ids, vocab_size)
        if ids.size == 0:
            raise TextError("Text to fit: expected at least one character, got none")
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
            vocab_size,
            tuple(
                _Grams.of(key, count, vocab_size, num)
                for key, count, num in zip(keys, counts, num_contexts, strict=False)
            ),
        )

    def nats(self, ids: np.ndarray) -> np.ndarray:
        """Returns `-log p` of each character given up to `order - 1` before it.

        Args:
          ids: the text as integers in [0, V), along the last axis. Its first characters
            have fewer before them.

        Returns:
          An array of the shape of ids, in nats; its mean is the loss.

        Raises:
          TextError: ids are not integers in [0, V).

        Example:
          >>> import numpy as np
          >>> from charjax.predict.ngram import NGram
          >>> NGram.fit(np.array([0, 1, 1]), 2, order=0).nats(np.array([1, 0])).round(3)
          array([0.693, 0.693])
        """
        ids = _checked(ids, self.vocab_size)
        p = np.full(ids.shape, 1 / self.vocab_size)
        contexts = np.zeros(ids.shape, np.int64)
        for k, grams in enumerate(self.grams):
            # A context that is none, -1, gives negative keys, which no k-gram has.
            ranks = _find(grams.keys, contexts * self.vocab_size + ids[..., k:])
            p[..., k:] = grams.shares[ranks] + grams.backoffs[contexts] * p[..., k:]
            contexts = ranks[..., :-1]
        return -np.log(p)


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
        raise TextError(
            f"Ids: expected a row of integers, got {ids.dtype} of shape {ids.shape}"
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise TextError(
            f"Ids: expected 0 to {vocab_size - 1}, got {ids.min()} to {ids.max()}; "
            "encode the text with the vocabulary that vocab_size is of"
        )
    return ids.astype(np.int32, copy=False)
