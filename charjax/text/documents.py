r"""Documents within a text: where each begins, and a text of them in another order.

A document ends with the separator. What is read first of the next one is the last
character of that separator, from the zero state: so it stands for the beginning, and
the first character of a document is predicted like any other.

    A n n a \n B o b \n       read      \n A n n a | \n B o b
                              predicted  A n n a \n |  B o b \n

Of separators that overlap, such as "\n\n" in "\n\n\n", the last one counts.
"""

import tempfile
from collections.abc import Iterator

import numpy as np

from charjax.errors import TextError
from charjax.text.blocks import Ids
from charjax.text.vocab import Vocab

_PIECE = 1 << 20


def end_ids(vocab: Vocab, end: str) -> np.ndarray | None:
    """Returns the ids of what ends a document; None where the text has no documents.

    Raises:
      TextError: it has characters that the text lacks.
    """
    if not end:
        return None
    try:
        return vocab.encode(end)
    except TextError:
        raise TextError(
            f"data.separator must occur in the text; got {end!r}, which does not. Try "
            "what stands between its documents."
        ) from None


def known_end(vocab: Vocab, end: str | bytes) -> np.ndarray:
    """Returns the ids of what ends a document, for a model of documents.

    Raises:
      TextError: the model does not know it.
    """
    try:
        ids = vocab.encode(end)
    except TextError:
        ids = np.zeros(0)
    if not ids.size:
        raise TextError(
            f"what ends a document must be known to the model; got {end!r}. Try the "
            "data.separator that it was trained with."
        )
    return ids


def with_beginning(ids: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a text with what begins it put first, and where documents begin.

    >>> ids, begins = with_beginning(np.array([1, 0, 2]), np.array([0]))
    >>> ids.tolist(), begins.tolist()
    ([0, 1, 0, 2], [True, False, True, False])
    """
    begins = np.append(True, ends_in(ids, end, 0, len(ids)))
    return np.append(end[-1:].astype(ids.dtype), ids), begins


def ends_in(
    ids: np.ndarray | Ids, end: np.ndarray, start: int, stop: int
) -> np.ndarray:
    r"""Returns for each character of a window whether a document ends with it.

    Args:
      ids: the whole text.
      end: the ids of the separator.
      start: the window's first character.
      stop: where it stops.

    >>> text = np.frombuffer(b"a--b---c", np.uint8)
    >>> np.flatnonzero(ends_in(text, np.frombuffer(b"--", np.uint8), 0, 8)).tolist()
    [2, 6]
    """
    reach = len(end) - 1
    first = max(start - reach, 0)
    piece = ids[first : stop + reach]
    ends = np.zeros(len(piece), bool)
    if len(piece) > reach:
        count = len(piece) - reach
        ends[reach:] = True
        for offset, symbol in enumerate(end):
            ends[reach:] &= piece[offset : offset + count] == symbol
    found = ends.copy()
    for shift in range(1, len(end)):
        found[:-shift] &= ~ends[shift:]
    return found[start - first : stop - first]


def bounds_of(ids: np.ndarray | Ids, end: np.ndarray) -> np.ndarray:
    """Returns where each document begins, and where the last one ends.

    >>> bounds_of(np.array([1, 0, 2, 2, 0, 3]), np.array([0])).tolist()
    [0, 2, 5, 6]
    """
    parts = [np.zeros(1, np.int64)]
    for start in range(0, len(ids), _PIECE):
        ends = ends_in(ids, end, start, min(start + _PIECE, len(ids)))
        parts.append(np.flatnonzero(ends) + start + 1)
    bounds = np.concatenate(parts)
    return bounds if bounds[-1] == len(ids) else np.append(bounds, len(ids))


def shuffled(
    ids: np.ndarray | Ids,
    end: np.ndarray,
    seed: int,
    train_frac: float,
    val_frac: float,
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Returns a text's documents in a random order, and the lengths of its splits.

    The first documents are the train split, up to its share of the characters; then
    come those to validate on, and to test on. The new text is a file without a name, so
    it takes no memory and leaves nothing behind.

    Raises:
      TextError: there are fewer documents than splits.
    """
    bounds = bounds_of(ids, end)
    lengths = np.diff(bounds)
    order = np.random.default_rng(seed).permutation(len(lengths))
    ends = np.cumsum(lengths[order])
    shares = [train_frac, min(train_frac + val_frac, 1.0)]
    cuts = [int(np.searchsorted(ends, share * len(ids) - 0.5)) + 1 for share in shares]
    train, val = (int(ends[min(cut, len(ends)) - 1]) for cut in cuts)
    if (val_frac and val == train) or (val_frac + train_frac < 1 and val == len(ids)):
        raise TextError(
            f"data.by_document must have a document for each split; got {len(order)} "
            "in all. Try more documents, or data.by_document=false."
        )
    with tempfile.TemporaryFile() as file:
        for piece in _pieces(ids, bounds, order):
            file.write(piece.tobytes())
        file.flush()
        mixed = np.memmap(file, ids.dtype, "r", shape=(len(ids),))
    return mixed, (train, val - train, len(ids) - val)


def _pieces(
    ids: np.ndarray | Ids, bounds: np.ndarray, order: np.ndarray
) -> Iterator[np.ndarray]:
    for document in order:
        first, last = int(bounds[document]), int(bounds[document + 1])
        for start in range(first, last, _PIECE):
            yield ids[start : min(start + _PIECE, last)]
