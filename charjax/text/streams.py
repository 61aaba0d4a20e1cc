"""A corpus cut into lanes and chunks: what each training step reads.

The text is laid out as B lanes of equal length, and each lane is cut into chunks of T
characters. Step k reads chunk k of every lane, and chunk k + 1 starts where chunk k
ended, so the recurrent state can be carried from step to step.
"""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from charjax.errors import TextError
from charjax.text.blocks import Ids
from charjax.text.documents import ends_in
from charjax.text.vocab import Vocab

Split = Literal["lanes", "contiguous"]

SMALL = 50  # a text with fewer chunks is small for its batch shape
_COUNTED = 1 << 24  # characters whose bytes are counted
_PLACES = 64  # where they are, at least
_ROUNDING = 1e-6  # far more than the float error of a share, far less than a chunk


@dataclass(frozen=True, eq=False)
class Lanes:
    """One split of a corpus: B lanes of equal length, each of `num_chunks` chunks.

    Attributes:
      ids: the whole corpus, one id a character.
      starts: where in `ids` each of the B lanes starts.
      num_chunks: chunks in each lane.
      batch_size: B, the number of lanes.
      seq_length: T, the characters in a chunk.
      recoded: the model's id for each id of the corpus, where the model has another
        vocabulary than the corpus; None where they are the same.
      end: the corpus's ids of what ends a document; None without documents.
    """

    ids: np.ndarray | Ids
    starts: tuple[int, ...]
    num_chunks: int
    batch_size: int
    seq_length: int
    recoded: np.ndarray | None = None
    end: np.ndarray | None = None

    def part(self, lanes: slice) -> "Lanes":
        """Returns some of the lanes."""
        starts = self.starts[lanes]
        return replace(self, starts=starts, batch_size=len(starts))

    def window(self, start: int, length: int) -> np.ndarray:
        """Returns the characters [start, start + length) of every lane, as ids_BxL.

        Args:
          start: the first character, counted from the start of each lane.
          length: L, the number of characters. The last may be at num_chunks * T, one
            past the last chunk: it is the target of the lane's last character.

        Returns:
          A new array ids_BxL of the corpus's type, or of the type of `recoded`.

        Raises:
          TextError: the window goes beyond the lane.

        >>> train = split_corpus(np.arange(13), batch_size=2, seq_length=3,
        ...                      train_frac=1.0, val_frac=0.0).train
        >>> train.window(0, 4).tolist()
        [[0, 1, 2, 3], [6, 7, 8, 9]]
        """
        end = self.num_chunks * self.seq_length + 1
        if start < 0 or length < 0 or start + length > end:
            raise TextError(
                f"A window must be within 0 to {end}; got {start} to {start + length}."
            )
        window_BxL = self._read(start, length)
        return window_BxL if self.recoded is None else self.recoded[window_BxL]

    def _read(self, start: int, length: int) -> np.ndarray:
        window_BxL = np.empty((self.batch_size, length), self.ids.dtype)
        for lane, lane_start in zip(window_BxL, self.starts, strict=True):
            lane[:] = self.ids[lane_start + start : lane_start + start + length]
        return window_BxL

    def begins(self, start: int, length: int) -> np.ndarray | None:
        """Returns which characters of a window are read from the zero state.

        Args:
          start: as for `window`.
          length: L, likewise.

        Returns:
          `begins_BxL`, true at the last character of what ends a document (see
          `charjax.text.documents`); None without documents.
        """
        if self.end is None:
            return None
        end, firsts = self.end, [lane_start + start for lane_start in self.starts]
        return np.stack([ends_in(self.ids, end, i, i + length) for i in firsts])

    def counts(self, start: int, length: int) -> np.ndarray | None:
        """Returns which characters of a window have a target that counts in the loss.

        Args:
          start: as for `window`.
          length: L, likewise.

        Returns:
          `counts_BxL`, false where the character after it is not to be predicted; None
          where all count, as in any text that is not made up (`charjax.text.made_up`).
        """
        del start, length
        return None


class Streams(NamedTuple):
    """The three splits of a corpus."""

    train: Lanes
    val: Lanes
    test: Lanes


def split_corpus(
    ids: np.ndarray | Ids,
    *,
    batch_size: int,
    seq_length: int,
    train_frac: float,
    val_frac: float,
    split: Split = "lanes",
    lengths: tuple[int, int, int] | None = None,
) -> Streams:
    """Returns a corpus cut into lanes and chunks, in train, val and test splits.

    Args:
      ids: the corpus, one id a character.
      batch_size: B, the number of lanes.
      seq_length: T, the characters in a chunk.
      train_frac: the share to train on.
      val_frac: the share to validate on, 0 for none. The rest is the test split; where
        there is no rest, val is all that is not train.
      split: `'lanes'` lays the whole text out as B lanes and splits every lane, so
        validation text is the end of each lane (char-rnn's way); `'contiguous'`
        splits the text into three parts, then lays out lanes within each part.
      lengths: the characters of the three parts, instead of shares and a split.

    Raises:
      TextError: a size or fraction is out of range; or the train split has no chunk, or
        the val split has none though val_frac is not 0.

    >>> streams = split_corpus(np.arange(101), batch_size=2, seq_length=5,
    ...                        train_frac=0.8, val_frac=0.1)
    >>> [lanes.num_chunks for lanes in streams]
    [8, 1, 1]
    """
    _check_arguments(batch_size, seq_length, train_frac, val_frac, split)
    is_contiguous = split == "contiguous" or lengths is not None
    plan_parts = _plan_contiguous if is_contiguous else _plan_lanes

    def shares(total: int) -> tuple[int, int, int]:
        return lengths or _shares(total, train_frac, val_frac)

    def plan(batch_size: int, seq_length: int) -> list[_Part]:
        return plan_parts(len(ids), batch_size, seq_length, shares)

    def empty_split(batch_size: int, seq_length: int) -> str | None:
        train, val, _ = plan(batch_size, seq_length)
        if train.num_chunks == 0:
            return "train"
        return "val" if val.num_chunks == 0 and val_frac > 0 else None

    if name := empty_split(batch_size, seq_length):
        raise _too_short(name, len(ids), batch_size, seq_length, empty_split)
    parts = plan(batch_size, seq_length)
    return Streams(*(_lay_out(ids, part, batch_size, seq_length) for part in parts))


def small_text_warning(streams: Streams) -> str | None:
    """Returns a one-line warning where a text has fewer than `SMALL` chunks, else None.

    >>> streams = split_corpus(np.arange(101), batch_size=2, seq_length=5,
    ...                        train_frac=0.8, val_frac=0.1)
    >>> small_text_warning(streams)[:26]
    'Only 10 chunks (8 train, 1'
    """
    train, val, test = (lanes.num_chunks for lanes in streams)
    if train + val + test >= SMALL:
        return None
    return (
        f"Only {train + val + test} chunks ({train} train, {val} val, {test} test) of "
        f"{streams.train.batch_size} x {streams.train.seq_length} characters; with "
        f"fewer than {SMALL}, a smaller data.batch_size or data.seq_length is better"
    )


def bytes_per_character(lanes: Lanes, vocab: Vocab) -> float:
    """Returns the mean length of a split's characters in UTF-8.

    Of a split of more than 16 million characters, 16 million spread evenly are counted.

    Args:
      lanes: the split, which has a chunk.
      vocab: what its ids mean.

    >>> vocab = Vocab.of("aé")
    >>> lanes = Lanes(vocab.encode("aéaéé"), (0,), 4, 1, 1)
    >>> bytes_per_character(lanes, vocab)
    1.5
    """
    size_V = vocab.num_bytes
    if size_V.max() == 1:
        return 1.0
    counts_V = np.zeros(len(vocab), np.int64)
    places = max(1, _PLACES // lanes.batch_size)
    length = max(1, _COUNTED // (places * lanes.batch_size))
    end = lanes.num_chunks * lanes.seq_length
    for first in range(0, end, max(length, math.ceil(end / places))):
        for ids_L in lanes.window(first, min(length, end - first)):
            counts_V += np.bincount(ids_L, minlength=len(vocab))
    return float(counts_V @ size_V / counts_V.sum())


class _Part(NamedTuple):
    """Where a split is in the text: lane b starts at `first + b * stride`."""

    first: int
    stride: int
    num_chunks: int


_Shares = Callable[[int], tuple[int, int, int]]


def _plan_lanes(
    length: int, batch_size: int, seq_length: int, shares: _Shares
) -> list[_Part]:
    """Returns the parts where lanes go over the whole text and each is split."""
    total = _chunks_in(length, batch_size, seq_length)
    first = 0
    parts: list[_Part] = []
    for num_chunks in shares(total):
        parts.append(_Part(first, total * seq_length, num_chunks))
        first += num_chunks * seq_length
    return parts


def _plan_contiguous(
    length: int, batch_size: int, seq_length: int, shares: _Shares
) -> list[_Part]:
    """Returns the parts where the text is split and each part has its own lanes."""
    first = 0
    parts: list[_Part] = []
    for part_length in shares(length):
        num_chunks = _chunks_in(part_length, batch_size, seq_length)
        parts.append(_Part(first, num_chunks * seq_length, num_chunks))
        first += part_length
    return parts


def _lay_out(
    ids: np.ndarray | Ids, part: _Part, batch_size: int, seq_length: int
) -> Lanes:
    starts = tuple(part.first + lane * part.stride for lane in range(batch_size))
    return Lanes(ids, starts, part.num_chunks, batch_size, seq_length)


def _chunks_in(length: int, batch_size: int, seq_length: int) -> int:
    """Returns the chunks in each lane; one character is kept for the last target."""
    return max(length - 1, 0) // (batch_size * seq_length)


def _shares(total: int, train_frac: float, val_frac: float) -> tuple[int, int, int]:
    """Returns a total in three parts, each rounded down except for float errors."""
    train = min(math.floor(total * train_frac + _ROUNDING), total)
    rest = total - train
    if train_frac + val_frac > 1 - _ROUNDING:
        return train, rest, 0
    val = min(math.floor(total * val_frac + _ROUNDING), rest)
    return train, val, rest - val


def _check_arguments(
    batch_size: int, seq_length: int, train_frac: float, val_frac: float, split: str
) -> None:
    for name, size in (("batch_size", batch_size), ("seq_length", seq_length)):
        if size < 1:
            raise TextError(f"data.{name} must be at least 1; got {size}. Try 50.")
    for name, fraction, usual in (
        ("train_frac", train_frac, 0.95),
        ("val_frac", val_frac, 0.05),
    ):
        if not 0 <= fraction <= 1:
            raise TextError(
                f"data.{name} must be from 0 to 1; got {fraction}. Try {usual}."
            )
    if train_frac == 0:
        raise TextError("data.train_frac must be more than 0; got 0. Try 0.95.")
    if train_frac + val_frac > 1 + _ROUNDING:
        raise TextError(
            "data.train_frac + data.val_frac must be at most 1; "
            f"got {train_frac} + {val_frac}. Try 0.95 and 0.05."
        )
    if split not in ("lanes", "contiguous"):
        raise TextError(f"data.split must be 'lanes' or 'contiguous'; got {split!r}.")


def _too_short(
    name: str,
    length: int,
    batch_size: int,
    seq_length: int,
    empty_split: Callable[[int, int], str | None],
) -> TextError:
    """Returns the error for an empty split, with the largest sizes that fit."""
    batch = _largest(lambda size: not empty_split(size, seq_length), batch_size)
    seq = _largest(lambda size: not empty_split(batch_size, size), seq_length)
    limits = [f"data.batch_size to at most {batch}"] if batch else []
    limits += [f"data.seq_length to at most {seq}"] if seq else []
    advice = f"lowering {' or '.join(limits)}" if limits else "a longer text"
    if name == "val":
        advice += ", or data.val_frac=0"
    return TextError(
        f"The {name} split must have a chunk; got none in {length:,} characters with "
        f"batch_size {batch_size}, seq_length {seq_length}. Try {advice}."
    )


def _largest(fits: Callable[[int], bool], bound: int) -> int:
    """Returns the largest size from 1 to `bound` that fits, 0 where none does."""
    return bisect.bisect_left(range(1, bound + 1), True, key=lambda n: not fits(n))
