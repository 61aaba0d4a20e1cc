"""The n-gram model that goes on counting: the text it reads joins its training text."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from charjax.predict.grams import UNKNOWN, Grams, counts_of_counts, discounts
from charjax.predict.ngram import NGram, checked_ids
from charjax.text.vocab import Vocab

_PIECE = 1 << 10  # characters whose counts are in memory at once

_NONE = np.zeros(0, np.int64)

State = tuple[tuple["_Reading", int], ...]


@dataclass(frozen=True, eq=False)
class AdaptiveNGram:
    """An n-gram model that learns from the text it reads, as a predictor.

    Each character is predicted from the counts of the training text and of all of this
    text up to then, and is counted after that. Nothing is approximated: counts of
    different characters before, discounts and shares are at every character those that
    `NGram.fit` would find in the two texts, which do not continue each other. Each text
    of a batch has counts of its own. `charjax.sample` lets it count what it draws too.

    It takes some time for each character, as `Dynamic` does, and memory for the counts
    of the training text once for each text read.

    Attributes:
      ngram: the model of the training text.

    Example:
      >>> import charjax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> ngram = charjax.NGram.fit(vocab.encode("hello world"), vocab, order=4)
      >>> text = "low roller " * 20
      >>> adaptive = charjax.AdaptiveNGram(ngram)
      >>> charjax.score(adaptive, text).nats < charjax.score(ngram, text).nats
      True
    """

    ngram: NGram

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        return self.ngram.vocab

    def start(self, batch_size: int) -> State:
        """Returns the state before the first character: the training text's counts."""
        return tuple((_Reading(self.ngram.grams), 0) for _ in range(batch_size))

    def read(
        self,
        state: State,
        ids_TxB: np.ndarray,
        begins_TxB: np.ndarray | None = None,
    ) -> tuple[State, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        Args:
          state: for each text its counts, and how much of it was read.
          ids_TxB: characters as ids of `vocab`.
          begins_TxB: true where a document begins.

        Raises:
          TextError: ids are not integers in [0, V).
        """
        ids_TxB = checked_ids(ids_TxB, len(self.vocab))
        if begins_TxB is None:
            begins_TxB = np.zeros(ids_TxB.shape, bool)
        probs_TxBxV = np.empty((*ids_TxB.shape, len(self.vocab)))
        readings = tuple(_at(*text) for text in state)
        for b, reading in enumerate(readings):
            for first in range(0, len(ids_TxB), _PIECE):
                piece = slice(first, first + _PIECE)
                probs_TxBxV[piece, b] = reading.read(
                    ids_TxB[piece, b].tolist(), begins_TxB[piece, b].tolist()
                )
        last = tuple((reading, len(reading.text)) for reading in readings)
        return last, np.log(probs_TxBxV, out=probs_TxBxV)


def _at(reading: "_Reading", length: int) -> "_Reading":
    """Returns the counts after the first characters of a text.

    They are changed in place as the text grows. If another reader of the same state
    was there first, they are counted anew.
    """
    if len(reading.text) == length:
        return reading
    again = _Reading(reading.base)
    for char, begins in reading.text[:length]:
        again.count(char, begins)
    return again


class _Reading:
    """The counts of a training text and of one text that is being read.

    Attributes:
      base: the grams of the training text. Grams that it lacks have later numbers.
      text: the characters read, and of each whether a document begins with it.
    """

    def __init__(self, base: Grams) -> None:
        self.base = base
        self.text: list[tuple[int, bool]] = []
        self._has_documents = False
        # Those that the text ends with, from the empty one to the longest.
        self._contexts = [0] + [UNKNOWN] * (base.longest - 1)
        self._counts = base.counts.copy()
        self._characters = base.characters
        self._size = len(base.counts)  # grams so far; the arrays have room for more
        self._added: dict[tuple[int, int], int] = {}  # (context, character) -> gram
        self._followers: dict[int, list[int]] = {}  # context -> added grams
        lengths = [base.of_length(k) for k in range(1, base.longest + 1)]
        self._num_with = [counts_of_counts(base.counts[k]) for k in lengths]
        self._discounts = np.array([discounts(num) for num in self._num_with])

    def read(self, chars: list[int], begins: list[bool]) -> np.ndarray:
        """Counts characters, and returns `probs_TxV` of the one after each."""
        T, V, K = len(chars), self.base.vocab_size, self.base.longest
        if not K:
            return np.full((T, V), 1 / V)
        sizes, grams, counts, tables = [], [], [], []
        for char, is_first in zip(chars, begins, strict=True):
            self.count(char, is_first)
            runs = [self._continuations(context) for context in self._contexts]
            sizes += map(len, runs)
            grams.append(np.concatenate(runs))
            counts.append(self._counts.take(grams[-1]))
            tables.append(self._discounts.copy())
        rows = np.arange(T * K).repeat(sizes)  # the place and the length of contexts
        counts = np.concatenate(counts)
        taken = np.concatenate(tables)[rows, np.minimum(counts, 3)]
        totals = np.bincount(rows, counts, minlength=T * K)
        freed = np.bincount(rows, taken, minlength=T * K)
        freed = np.where(totals > 0, freed, 1)  # one that nothing follows is skipped
        totals = np.maximum(totals, 1)
        backoffs_TxK = (freed / totals).reshape(T, K)
        left_TxK = np.cumprod(backoffs_TxK[:, ::-1], axis=1)[:, ::-1]
        parts = (counts - taken) * (left_TxK.ravel() / freed).take(rows)
        places = rows // K * V + self._characters.take(np.concatenate(grams))
        probs_TxV = np.bincount(places, parts, minlength=T * V).reshape(T, V)
        return probs_TxV + left_TxK[:, :1] / V

    def count(self, char: int, begins: bool) -> None:
        """Counts one more character of the text.

        A gram that is new has one more character before the gram without its first. One
        that is as long as the document so far has none, and counts by itself.
        """
        self.text.append((char, begins))
        longest, grams = self.base.longest, []
        known = self.base.find(np.array(self._contexts), np.array(char)).tolist()
        for context, gram in zip(self._contexts, known, strict=True):
            if context < 0:  # the text or the document is still shorter
                break
            if gram < 0:
                gram = self._added.get((context, char), -1)
            if gram < 0:
                gram = self._add(context, char)
                if grams:
                    self._increment(len(grams), grams[-1])
            grams.append(gram)
        if len(grams) == longest or (self._has_documents and len(grams) > 1):
            self._increment(len(grams), grams[-1])
        if begins:
            self._has_documents, grams = True, grams[:1]
        self._contexts = [0, *grams, *[UNKNOWN] * longest][:longest]

    def _continuations(self, context: int) -> np.ndarray:
        """Returns the grams that continue a context."""
        run, added = _NONE, self._followers.get(context)
        if context < len(self.base.firsts) - 1 and (size := self.base.sizes[context]):
            first = self.base.firsts[context]
            run = np.arange(first, first + size)
        return np.append(run, added) if added else run

    def _add(self, context: int, char: int) -> int:
        """Returns the number of a new gram, whose count is 0."""
        gram = self._size
        if gram == len(self._counts):
            room = np.zeros(max(gram // 8, 1 << 12), np.int64)
            self._counts = np.append(self._counts, room)
            self._characters = np.append(self._characters, room)
        self._characters[gram] = char
        self._added[context, char] = gram
        self._followers.setdefault(context, []).append(gram)
        self._size += 1
        return gram

    def _increment(self, k: int, gram: int) -> None:
        """Adds 1 to the count of a gram of k characters."""
        count = int(self._counts[gram])
        self._counts[gram] = count + 1
        if count > 4:
            return
        num_with: Any = self._num_with[k - 1]
        num_with[count] -= 1
        if count < 4:
            num_with[count + 1] += 1
        self._discounts[k - 1] = discounts(num_with)
