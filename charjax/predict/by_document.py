"""Whole documents: written until what ends them, and scored each by itself.

See `charjax.text.documents`: the last character of the separator, read from the zero
state, stands for the beginning.
"""

from typing import Any

import numpy as np

from charjax.errors import TextError
from charjax.model.params import Params
from charjax.predict.predictor import Predictor, predictor_of
from charjax.predict.sampling import sample
from charjax.predict.scoring import Score, score_of
from charjax.text.documents import bounds_of
from charjax.text.vocab import OnUnknown, Vocab
from charjax.unroll.execution import Execution

_FIRST = 250  # characters drawn before any document is longer
_LANES = 64  # documents read side by side
_PIECE = 256  # characters of each, whose distributions are in memory at once


def documents(
    model: Params | Predictor,
    end: str | bytes,
    num: int,
    temperature: float = 1.0,
    *,
    prime: str | bytes = "",
    length: int = 2000,
    seed: int | None = None,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
    **options: Any,
) -> list[str | bytes]:
    r"""Returns documents that a model writes, without what ends them.

    Args:
      model: a model of a text with documents, or any other predictor.
      end: what ends a document, as `data.separator`.
      num: how many.
      temperature: as for `charjax.sample`.
      prime: how each document begins.
      length: the most characters to draw; one that has no end by then is cut there.
      seed: as for `charjax.sample`.
      on_unknown: likewise, for the prime.
      execution: how a model runs.
      options: `greedy`, `top_k`, `top_p` and `key`, likewise.

    Raises:
      ConfigError: as `charjax.sample`.
      TextError: the model does not know the separator.

    Example:
      >>> import charjax, jax
      >>> from charjax.predict import documents
      >>> vocab = charjax.Vocab.of("Anna\nBob\n")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> names = documents(params, "\n", 3, length=20)
      >>> len(names), any("\n" in name for name in names)
      (3, False)
    """
    vocab = predictor_of(model, execution).vocab
    own_end = vocab.decode(_encoded(vocab, end))
    own_prime = vocab.decode(vocab.encode(prime, on_unknown=on_unknown))
    # A shorter text is the beginning of a longer one, so it is only drawn further.
    drawn = min(_FIRST, length)
    while True:
        texts: list[Any] = sample(
            model,
            own_end[-1:] + own_prime,  # pyright: ignore[reportOperatorIssue]
            temperature,
            num_samples=num,
            length=drawn,
            seed=seed,
            execution=execution,
            **options,
        )
        texts = [text[1:] for text in texts]
        if drawn == length or all(own_end in text for text in texts):
            return [text.partition(own_end)[0] for text in texts]
        drawn = min(4 * drawn, length)


def score_documents(
    model: Params | Predictor,
    text: str | bytes,
    end: str | bytes,
    *,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
) -> Score:
    """Returns how likely a model finds each character, of each document by itself.

    Args:
      model: a model, or any other predictor.
      text: the documents, one after the other.
      end: what ends one of them.
      on_unknown: as for `charjax.score`.
      execution: how a model runs.

    Raises:
      TextError: the text is empty or holds an unknown character, or the model does not
        know what ends a document.
    """
    predictor = predictor_of(model, execution)
    end_ids = _encoded(predictor.vocab, end)
    ids = predictor.vocab.encode(text, on_unknown=on_unknown)
    if ids.size == 0:
        raise TextError(
            f"the text to score must have a known character; got none in {len(text)}. "
            "Try a longer text."
        )
    bounds = bounds_of(ids, end_ids)
    log_probs = np.empty(len(ids), np.float32)
    # Documents of like lengths are read together.
    order = np.argsort(np.diff(bounds), kind="stable")
    lanes = min(_LANES, len(order))
    for first in range(0, len(order), lanes):
        group = order[first : first + lanes]
        _score_group(predictor, ids, end_ids[-1], bounds, group, lanes, log_probs)
    return score_of(log_probs)


def _score_group(
    predictor: Predictor,
    ids: np.ndarray,
    mark: np.integer[Any],
    bounds: np.ndarray,
    group: np.ndarray,
    lanes: int,
    log_probs: np.ndarray,
) -> None:
    """Fills in the log-probabilities of the characters of some documents."""
    starts_B, lengths_B = bounds[group], bounds[group + 1] - bounds[group]
    state = predictor.start(lanes)
    for first in range(0, int(lengths_B.max()), _PIECE):
        size = min(_PIECE, int(lengths_B.max()) - first)
        steps_Px1 = first + np.arange(size)[:, None]
        counts_PxB = steps_Px1 < lengths_B
        places_PxB = np.minimum(starts_B + steps_Px1, len(ids) - 1)
        # Read is the character before; lanes without a document read the mark.
        read_PxB = np.full((size, lanes), mark, ids.dtype)
        before_PxB = ids[np.maximum(places_PxB - 1, 0)]
        read_PxB[:, : len(group)] = np.where(steps_Px1 == 0, mark, before_PxB)
        state, log_probs_PxBxV = predictor.read(state, read_PxB)
        targets_PxBx1 = ids[places_PxB].astype(np.int64)[..., None]
        chosen_PxBx1 = np.take_along_axis(
            np.asarray(log_probs_PxBxV)[:, : len(group)], targets_PxBx1, axis=-1
        )
        log_probs[places_PxB[counts_PxB]] = chosen_PxBx1[counts_PxB, 0]


def _encoded(vocab: Vocab, end: str | bytes) -> np.ndarray:
    """Returns the ids of what ends a document."""
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
