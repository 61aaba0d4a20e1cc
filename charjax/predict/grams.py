"""The k-grams of a text, numbered and counted as Kneser-Ney smoothing needs them.

A k-gram is known by a number, and a longer one by its key,

    key = (number of the gram without its last character) * V + last character

which are integers that stay small for any vocabulary and length. Number 0 is the empty
gram. Then come those of one character, of two and so on, each in the order of their
keys, so that the keys of all are sorted and the grams that continue one context are
neighbours.
"""

from typing import Any, NamedTuple, Self

import numpy as np

UNKNOWN = -1  # the number of a gram that the text lacks

# For texts too small or too regular to estimate discounts from.
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


class Grams(NamedTuple):
    """The different k-grams of a text, up to a longest length K.

    A context is a gram of fewer than K characters. Arrays over contexts have one more
    entry, the last, for an unknown one: index -1 reads it.

    Attributes:
      vocab_size: V.
      bounds: the grams of k characters are those from bounds[k] to bounds[k + 1].
      keys: the key of each gram, behind a number below and before one above all keys.
      characters: the last character of each.
      counts: how often each of the longest occurs; the number of different characters
        before each shorter one, and how often a document begins with it.
      firsts: the first gram that continues each context.
      sizes: how many different ones continue it.
    """

    vocab_size: int
    bounds: tuple[int, ...]
    keys: np.ndarray
    characters: np.ndarray
    counts: np.ndarray
    firsts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        vocab_size: int,
        longest: int,
        begins: np.ndarray | None = None,
    ) -> Self:
        """Returns the grams of a text.

        Args:
          ids: the text along the last axis; other axes hold texts that do not continue
            each other.
          vocab_size: V.
          longest: K, at most the length of a text.
          begins: true where a document begins; no context goes beyond that.
        """
        bounds = [0, 1]
        keys, counts = [np.array([np.iinfo(np.int64).min])], [np.zeros(1, np.int64)]
        shorter = contexts = np.zeros(ids.shape, np.int64)
        is_whole: Any = ...  # which contexts lie in one document; all
        for k in range(longest):
            keys_at = (contexts * vocab_size + ids[..., k:])[is_whole]
            distinct, count = np.unique(keys_at, return_counts=True)
            numbers = np.searchsorted(distinct, keys_at)
            if k:
                suffixes = np.empty(len(distinct), np.int64)
                suffixes[numbers] = shorter[..., 1:][is_whole]
                if k > 1 and begins is not None:
                    first = shorter[begins[..., : 1 - k]]
                    suffixes = np.append(suffixes, first[first != UNKNOWN])
                counts[-1] = np.bincount(suffixes - bounds[k], minlength=len(keys[-1]))
            keys.append(distinct)
            counts.append(count)
            shorter = np.full(contexts.shape, UNKNOWN)
            shorter[is_whole] = numbers + bounds[-1]
            bounds.append(bounds[-1] + len(distinct))
            contexts = shorter[..., :-1]
            if begins is not None:
                is_whole = contexts != UNKNOWN
                is_whole &= (k == 0) | ~begins[..., k:-1]
        keys.append(np.array([np.iinfo(np.int64).max]))
        all_keys = np.concatenate(keys)
        limits = np.searchsorted(all_keys, np.arange(bounds[longest] + 1) * vocab_size)
        return cls(
            vocab_size,
            tuple(bounds),
            all_keys,
            all_keys[:-1] % vocab_size,
            np.concatenate(counts),
            limits,
            np.append(np.diff(limits), 0),
        )

    @property
    def longest(self) -> int:
        """K, the characters of the longest grams."""
        return len(self.bounds) - 2

    def of_length(self, k: int) -> slice:
        """Returns which grams have k characters."""
        return slice(self.bounds[k], self.bounds[k + 1])

    def find(self, contexts: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Returns the numbers of contexts with a character more, or UNKNOWN."""
        wanted = contexts * self.vocab_size + ids  # negative for an unknown context
        numbers = self.keys.searchsorted(wanted)
        numbers[self.keys[numbers] != wanted] = UNKNOWN
        return numbers


def counts_of_counts(counts: np.ndarray) -> list[int]:
    """Returns for 0 to 4 how many grams have it as their count."""
    return np.bincount(counts[counts <= 4], minlength=5).tolist()


def discounts(num_with: list[int]) -> list[float]:
    """Returns what is taken off counts of 0, 1, 2 and more.

        D_j = j - (j + 1) Y n_{j+1} / n_j,   Y = n_1 / (n_1 + 2 n_2)

    with n_j the number of k-grams that have the count j (Chen and Goodman, eq. 26).

    Args:
      num_with: n_0 to n_4, for the grams of one length.
    """
    _, n1, n2, n3, n4 = num_with
    if min(n1, n2, n3) > 0:
        Y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * Y * n2 / n1, 2 - 3 * Y * n3 / n2, 3 - 4 * Y * n4 / n3
        if min(found) > 0:
            return [0.0, *found]
    return [0.0, *_FALLBACK_DISCOUNTS]
