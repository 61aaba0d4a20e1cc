"""The text that a run was trained and measured on, and passages of a held-out split."""

import math
from typing import NamedTuple

import numpy as np

from charjax.config import Config
from charjax.errors import TextError
from charjax.text import Lanes, Streams
from charjax.text.vocab import Vocab
from charjax.training.setup import make_streams, open_text


class HeldOut(NamedTuple):
    """A split that was not trained on.

    Attributes:
      name: `'validation'` or `'test'`.
      lanes: the split.
    """

    name: str
    lanes: Lanes


class Passages(NamedTuple):
    """Parts of a split.

    Attributes:
      ids_NxL: their characters.
      begins_NxL: which of them begin a document; None without documents.
    """

    ids_NxL: np.ndarray
    begins_NxL: np.ndarray | None


def open_splits(config: Config, text_sha256: str, vocab: Vocab) -> Streams | str:
    """Returns the splits of a run's text, or why they cannot be read.

    Args:
      config: the run's.
      text_sha256: the checksum of its text.
      vocab: its model's vocabulary.
    """
    try:
        corpus = open_text(config)
        if corpus.sha256 != text_sha256:
            return f"{corpus.path} has changed since the run."
        return make_streams(config, corpus, vocab)
    except TextError as error:
        return f"The text cannot be read: {str(error).rstrip('.')}."


def choose_heldout(streams: Streams | str) -> HeldOut | str:
    """Returns the validation split, else the test split, or why there is neither."""
    if isinstance(streams, str):
        return streams
    for name, lanes in (("validation", streams.val), ("test", streams.test)):
        if lanes.num_chunks:
            return HeldOut(name, lanes)
    return "The run has neither a validation nor a test split (data.train_frac is 1)."


def num_characters(lanes: Lanes) -> int:
    """Returns the characters of a split."""
    return lanes.batch_size * lanes.seq_length * lanes.num_chunks


def num_chunks(lanes: Lanes, characters: int) -> int:
    """Returns how many chunks of each lane have about as many characters in all."""
    chunk_size = lanes.batch_size * lanes.seq_length
    return min(lanes.num_chunks, math.ceil(characters / chunk_size))


def start_of_lanes(lanes: Lanes, most: int) -> Passages:
    """Returns the start of every lane: about `most` characters in all."""
    length = min(lanes.num_chunks * lanes.seq_length, max(most // lanes.batch_size, 1))
    return Passages(lanes.window(0, length), lanes.begins(0, length))


def passages(lanes: Lanes, most: int) -> Passages:
    """Returns the start of as few lanes as give about `most` characters."""
    length = min(lanes.num_chunks * lanes.seq_length, most)
    count = min(max(most // length, 1), lanes.batch_size)
    ids_BxL, begins_BxL = lanes.window(0, length), lanes.begins(0, length)
    begins_NxL = None if begins_BxL is None else begins_BxL[:count]
    return Passages(ids_BxL[:count], begins_NxL)


def symbol_names(vocab: Vocab) -> list[str]:
    r"""Returns each symbol as text; a byte that is not an ASCII character as `\xff`."""
    if isinstance(vocab.symbols, str):
        return list(vocab.symbols)
    return [chr(b) if b < 128 else f"\\x{b:02x}" for b in vocab.symbols]
