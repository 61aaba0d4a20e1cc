"""The text that a run was trained and measured on, and passages of a held-out split."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from charjax import checkpoint
from charjax.checkpoint import Manifest, StrPath
from charjax.config import Config
from charjax.errors import TextError
from charjax.text import Lanes, Streams
from charjax.text.form import form_of
from charjax.text.made_up import MadeLanes
from charjax.text.vocab import Vocab
from charjax.training import folder
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


def run_of(path: Path, manifest: Manifest) -> tuple[Config, str]:
    """Returns the configuration of a checkpoint's run and the checksum of its text."""
    place = str(path / checkpoint.MANIFEST)
    config = folder.checked_config(manifest.config, place, "Try another checkpoint")
    text_sha256 = manifest.progress.get("text_sha256", "")
    if run := folder.read_config(path.parent):
        # The text may have been moved since, and the checksum tells whether it is it.
        now, recorded = run
        config.data.update(name=now.data.name, dir=now.data.dir)
        text_sha256 = text_sha256 or recorded
    return config, text_sha256


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


class HeldOutText(NamedTuple):
    """The characters of a split, lane after lane.

    Attributes:
      name: `'validation'` or `'test'`.
      text: the characters.
      begins: which of them begin a lane, where lanes do not follow each other in the
        text; else None.
    """

    name: str
    text: str | bytes
    begins: np.ndarray | None


def heldout_text(
    path: StrPath, vocab: Vocab, which: str = "best", *, fallback: bool = False
) -> HeldOutText:
    """Returns the split that a saved model was validated on, lane after lane.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs.
      vocab: the model's vocabulary.
      which: `'best'` loss or `'latest'`, if there are several.
      fallback: whether the next one is taken if that is damaged.

    Returns:
      The validation split, or the test split if there is no other.

    Raises:
      CheckpointError: no checkpoint is found, or it is damaged.
      TextError: the run has no such text, or it cannot be read.

    Example:
      >>> from charjax.report import heldout_text
      >>> params = charjax.load("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> held = heldout_text("cv/shakespeare_lstm", params.vocab)  # doctest: +SKIP
      >>> charjax.score(params, held.text, begins=held.begins)  # doctest: +SKIP
    """
    found = checkpoint.find(path, which, fallback=fallback)
    config, text_sha256 = run_of(found, checkpoint.read(found))
    heldout = choose_heldout(open_splits(config, text_sha256, vocab))
    if not isinstance(heldout, str) and isinstance(heldout.lanes, MadeLanes):
        heldout = "Its text was made up as it was read."
    if isinstance(heldout, str):
        raise TextError(
            f"a text must be given to a model without a held-out split; got {found}. "
            f"{heldout} Try naming a text file."
        )
    ids_NxL, _ = passages(heldout.lanes, num_characters(heldout.lanes))
    is_joined = config.data.split == "lanes" and not form_of(config.data).end
    begins_NxL = np.zeros(ids_NxL.shape, bool)
    begins_NxL[:, 0] = True
    begins = begins_NxL.ravel() if is_joined else None
    return HeldOutText(heldout.name, vocab.decode(ids_NxL.ravel()), begins)


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
