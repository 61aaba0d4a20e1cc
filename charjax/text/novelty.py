"""Memorisation: how much of a sampled text also occurs in the training text.

The distinct substrings of the sample are named level by level: the name of a substring
is a number for (the name of all but its last character, its last character). At each
level every position of the training text goes from the name of its last substring to
that of the next longer one, or is dropped where the sample has none. The names that
some position reaches belong to substrings of both texts. Names are integers that are
compared exactly: no result depends on a hash being unique.
"""

import numpy as np

from charjax.errors import ConfigError, TextError
from charjax.text.vocab import codes_of

_NUM_SYMBOLS = 0x110000  # code points; bytes are fewer
_PIECE = 1 << 18  # characters of the training text at a time, so that they fit a cache


def novel_share(
    sample_text: str | bytes, training_text: str | bytes, max_length: int = 49
) -> np.ndarray:
    r"""Returns the share of a sample's substrings that the training text does not have.

    For a sample of N characters and each length n up to max_length,

        shares[n - 1] = #{i : sample[i : i + n] not in training_text} / (N - n + 1)

    Time grows with the length of the training text times the length of its matches;
    memory is about 5 bytes per character in addition to the texts.

    Args:
      sample_text: a text that a model wrote, as str or bytes.
      training_text: the text it was trained on, of the same type.
      max_length: the longest substrings to look up.

    Returns:
      An array of shape (max_length,); nan for lengths greater than N.

    Raises:
      ConfigError: max_length is less than 1.
      TextError: one text is a str and the other bytes.

    Example:
      >>> import charjax
      >>> charjax.novel_share("abcx", "abcabc", max_length=4)
      array([0.25      , 0.33333333, 0.5       , 1.        ])
    """
    if max_length < 1:
        raise ConfigError(f"max_length must be at least 1; got {max_length}. Try 49.")
    sample, training = _codes(sample_text, training_text)
    shares = np.where(np.arange(max_length) < len(sample), 1.0, np.nan)
    # Where the sample's substrings start that occur in both texts, and their names.
    starts = np.arange(len(sample))
    names = np.zeros(len(sample), np.int64)
    # The name of the substring at each position of the training text, -1 for none.
    training_names = np.zeros(len(training), np.int32)
    for length in range(1, min(max_length, len(sample)) + 1):
        inside = starts <= len(sample) - length
        starts, names = starts[inside], names[inside]
        if starts.size == 0:
            break
        keys = names * _NUM_SYMBOLS + sample[starts + length - 1]
        keys, names = np.unique(keys, return_inverse=True)
        reached = _advance(training_names, training, length, keys)
        in_both = reached[names]
        starts, names = starts[in_both], names[in_both]
        shares[length - 1] = 1 - len(starts) / (len(sample) - length + 1)
    return shares


def _codes(*texts: str | bytes) -> list[np.ndarray]:
    """Returns each text as an array of its code points or bytes."""
    if len({type(text) for text in texts}) > 1:
        kinds = " and ".join(type(text).__name__ for text in texts)
        raise TextError(
            f"The texts to compare must be both str or both bytes; got {kinds}. "
            "Try decoding or encoding one of them."
        )
    return [codes_of(text) for text in texts]


def _advance(
    names: np.ndarray, training: np.ndarray, length: int, keys: np.ndarray
) -> np.ndarray:
    """Reindices each position's name by the name of the substring one character longer.

    Args:
      names: the name of the substring of `length - 1` characters at each position;
        overwritten.
      training: the training text.
      length: the length of the longer substrings.
      keys: `old name * _NUM_SYMBOLS + last character` of the substrings to name; a new
        name is an index into it.

    Returns:
      For each new name, whether any position has it.
    """
    table = _Table(keys)
    reached = np.zeros(len(keys), bool)
    last_characters = training[length - 1 :]
    names[len(last_characters) :] = -1
    for first in range(0, len(last_characters), _PIECE):
        piece = slice(first, first + _PIECE)
        names_P = names[piece]
        named = np.flatnonzero(names_P >= 0)
        old_names = names_P[named].astype(np.int64)
        new_names = table.find(old_names * _NUM_SYMBOLS + last_characters[piece][named])
        names_P[named] = new_names
        reached[new_names[new_names >= 0]] = True
    return reached


class _Table:
    """Finds the indices of keys in an array, many at a time.

    A hash table with linear probing: a key's index is in the slot of its hash or, where
    that was taken, in the next free one. It is several times as fast as binary search.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys
        bits = (4 * len(keys)).bit_length()  # at most one slot in four is taken
        self.shift, self.mask = np.uint64(64 - bits), (1 << bits) - 1
        self.indices = np.full(1 << bits, -1, np.int32)
        slots = self._hash(keys)
        rest = np.arange(len(keys), dtype=np.int32)
        while rest.size:
            free = rest[self.indices[slots[rest]] < 0]
            self.indices[slots[free]] = free  # of several keys for one slot, one stays
            rest = rest[self.indices[slots[rest]] != rest]
            slots[rest] = (slots[rest] + 1) & self.mask

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Returns the index of each key, -1 for a key that is not in the array."""
        slots = self._hash(keys)
        indices = self.indices[slots]
        rest = np.flatnonzero((indices >= 0) & (self.keys[indices] != keys))
        while rest.size:
            slots[rest] = (slots[rest] + 1) & self.mask
            indices[rest] = self.indices[slots[rest]]
            wrong = self.keys[indices[rest]] != keys[rest]
            rest = rest[(indices[rest] >= 0) & wrong]
        return indices

    def _hash(self, keys: np.ndarray) -> np.ndarray:
        """Returns the top bits of `key * 2^64 / golden ratio` (Knuth, 6.4)."""
        products = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (products >> self.shift).view(np.int64)
