"""Two predictors on one text: by how much they differ, how surely, and where."""

from typing import NamedTuple

import numpy as np

from charjax.errors import TextError
from charjax.predict.scoring import Score
from charjax.predict.stretches import Passage, passages, standard_error


class Paired(NamedTuple):
    """What the second of two predictors loses more than the first on one text.

    Attributes:
      nats: the mean difference, in nats a character; above 0 the first is better.
      error: its standard error; None for a text too short.
      first_better: the passages in which the second loses the most more.
      second_better: those in which the first does.
    """

    nats: float
    error: float | None
    first_better: list[Passage]
    second_better: list[Passage]


def paired(first: Score, second: Score) -> Paired:
    """Returns the difference between two scores of one text, character by character.

    Both find the same passages hard, so that the difference is known far better than
    either loss.

    Raises:
      TextError: the scores are not of equally many characters.

    Example:
      >>> import charjax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> ids = vocab.encode("hello world " * 20)
      >>> first, second = (
      ...     charjax.score(charjax.NGram.fit(ids, vocab, order), "hello low")
      ...     for order in (3, 1))
      >>> paired(first, second).nats > 0
      True
    """
    if len(first.log_probs) != len(second.log_probs):
        raise TextError(
            "two scores to compare must be of one text; got "
            f"{len(first.log_probs):,} and {len(second.log_probs):,} characters."
        )
    differences_T = first.log_probs.astype(np.float64) - second.log_probs
    return Paired(
        float(differences_T.mean()),
        standard_error(differences_T),
        passages(differences_T),
        passages(-differences_T),
    )
