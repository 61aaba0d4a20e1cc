"""Memorisation: how much of a sampled text stands in the training text word for word.

The distinct substrings of the sample are named level by level: the name of a substring
is a number for (the name of all but its last character, its last character). At each
level every position of the training text goes from the name of its last substring to
that of the next longer one, or drops out where the sample has none. The names that are
reached belong to substrings of both texts. All is integers, compared exactly.
"""

import numpy as np

from charjax.errors import ConfigError, TextError
from charjax.text.vocab import codes_of

_NUM_SYMBOLS = 0x110000  # code points; bytes are fewer
_PIECE = 1 << 18  # characters of the training text at a time: what fits a cache


def novel_share(
    sample_text: str | bytes, training_text: str | bytes, max_length: int = 49
) -> np.ndarray:
    """Returns which share of a sample's substrings are not in the training text.

    For every length n, all substrings sample_text[i : i + n] are looked up, one for
    each position i. Time grows with the training text's length times the length of
    its matches; memory is about 5 bytes a character beside the texts.

    Args:
      sample_text: what a model wrote.
      training_text: what it was trained on, a str or bytes as the sample is.
      max_length: the longest substrings to look up.

    Returns:
      `shares`, where `shares[n - 1]` speaks of length n; nan where the sample is
      shorter than n.

    Raises:
      ConfigError: max_length is less than 1.
      TextError: one text is a str and the other bytes.

    Example:
      >>> import charjax
      >>> charjax.novel_share("abcx", "abcabc", max_length=4)
      array([0.25      , 0.33333333, 0.5       , 1.        ])
    """
    if max_length < 1:
        raise ConfigError(f"max_length: expected 1 or more, got {max_length}")
    sample, training = _codes(sample_text, training_text)
    shares = np.where(np.arange(max_length) < len(sample), 1.0, np.nan)
    # Where substrings start that are known to be in both texts, and their names.
    starts = np.arange(len(sample))
    names = np.zeros(len(sample), np.int64)
    # The name of the substring at every place of the training text, -1 for none.
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
            f"Texts to compare: expected two of str or two of bytes, got {kinds}; "
            "decode or encode one of them"
        )
    return [codes_of(text) for text in texts]


def _advance(
    names: np.ndarray, training: np.ndarray, length: int, keys: np.ndarray
) -> np.ndarray:
    """Replaces, in place, each place's name by that of the substring one longer.

    Args:
      names: of the substrings of `length - 1` characters.
      training: the training text.
      length: of the substrings to name.
      keys: the names are the places of these.

    Returns:
      For each new name whether any place got it.
    """
    table = _Table(keys)
    reached = np.zeros(len(keys), bool)
    last_characters = training[length - 1 :]
    names[len(last_characters) :] = -1
    for first in range(0, len(last_characters), _PIECE):
        piece = slice(first, first + _PIECE)
        names_P = names[piece]
        alive = np.flatnonzero(names_P >= 0)
        old_names = names_P[alive].astype(np.int64)
        new_names = table.find(old_names * _NUM_SYMBOLS + last_characters[piece][alive])
        names_P[alive] = new_names
        reached[new_names[new_names >= 0]] = True
    return reached


class _Table:
    """Finds the places of keys in an array, many at a time.

    A hash table with linear probing: a key's place is noted in the slot of its hash,
    or in the first free one after it. Several times as fast as a binary search.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys
        bits = (4 * len(keys)).bit_length()  # at most one slot in four is taken
        self.shift, self.mask = np.uint64(64 - bits), (1 << bits) - 1
        self.places = np.full(1 << bits, -1, np.int32)
        slots = self._hash(keys)
        rest = np.arange(len(keys), dtype=np.int32)
        while rest.size:
            free = rest[self.places[slots[rest]] < 0]
            self.places[slots[free]] = free  # of several in one slot, one stays
            rest = rest[self.places[slots[rest]] != rest]
            slots[rest] = (slots[rest] + 1) & self.mask

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Returns the place of each key, -1 where it has none."""
        slots = self._hash(keys)
        places = self.places[slots]
        rest = np.flatnonzero((places >= 0) & (self.keys[places] != keys))
        while rest.size:
            slots[rest] = (slots[rest] + 1) & self.mask
            places[rest] = self.places[slots[rest]]
            wrong = self.keys[places[rest]] != keys[rest]
            rest = rest[(places[rest] >= 0) & wrong]
        return places

    def _hash(self, keys: np.ndarray) -> np.ndarray:
        """Returns the top bits of `key * 2^64 / golden ratio` (Knuth, 6.4)."""
        products = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (products >> self.shift).view(np.int64)
