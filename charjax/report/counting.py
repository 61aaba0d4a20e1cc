"""The n-gram model of a run's training text: counted anew where it is asked for."""

from charjax import checkpoint
from charjax.checkpoint import StrPath
from charjax.errors import TextError
from charjax.predict import NGram
from charjax.report.heldout import open_splits, run_of, start_of_lanes
from charjax.text import Lanes
from charjax.text.vocab import Vocab

ORDER = 8  # the best in mixtures on tinyshakespeare
CHARACTERS = 5_000_000  # of the training split, from the start of its lanes


def ngram_for(
    path: StrPath, vocab: Vocab, which: str = "best", *, fallback: bool = False
) -> NGram:
    """Returns an n-gram model of the text that a saved model was trained on.

    Args:
      path: a checkpoint, a run's folder, or a folder of runs.
      vocab: the model's vocabulary.
      which: `'best'` loss or `'latest'`, if there are several.
      fallback: whether the next one is taken if that is damaged.

    Raises:
      CheckpointError: no checkpoint is found, or it is damaged.
      TextError: the training text cannot be read.

    Example:
      >>> from charjax.report import ngram_for
      >>> params = charjax.load("cv/shakespeare_lstm")  # doctest: +SKIP
      >>> ngram = ngram_for("cv/shakespeare_lstm", params.vocab)  # doctest: +SKIP
      >>> charjax.sample(charjax.Mixture([params, ngram]), "ROMEO:")  # doctest: +SKIP
    """
    found = checkpoint.find(path, which, fallback=fallback)
    streams = open_splits(*run_of(found, checkpoint.read(found)), vocab)
    if isinstance(streams, str):
        raise TextError(
            f"an n-gram model must have the text that {found} was trained on. "
            f"{streams} Try putting it back."
        )
    return fit_ngram(streams.train, vocab)


def fit_ngram(train: Lanes, vocab: Vocab) -> NGram:
    """Returns an n-gram model of a training split."""
    ids_BxL, begins_BxL = start_of_lanes(train, CHARACTERS)
    return NGram.fit(ids_BxL, vocab, ORDER, begins_BxL)
