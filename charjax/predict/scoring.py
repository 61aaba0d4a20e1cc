"""How well a predictor predicts a text, and what it expects next."""

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from charjax.errors import ConfigError, TextError
from charjax.model.params import Params
from charjax.predict.predictor import Predictor, predictor_of, read
from charjax.text.documents import known_end, with_beginning
from charjax.text.vocab import OnUnknown
from charjax.unroll.execution import Execution

_PIECE = 1 << 12  # characters of each lane whose distributions are in memory at once
_CHARACTERS = 1 << 15  # and at most this many of all lanes
_WARM_UP = 1000  # characters that a lane reads before its own
_SIDE_BY_SIDE = 64  # lanes of short documents, for which it changes nothing


class Score(NamedTuple):
    """How well a text is predicted.

    Attributes:
      nats: the mean of `-log p` a character.
      bits: the same to base 2.
      perplexity: `exp(nats)`, the number of equally likely characters to choose from.
      log_probs: the natural log-probability of each character given those before it.
    """

    nats: float
    bits: float
    perplexity: float
    log_probs: np.ndarray


def score(
    model: Params | Predictor,
    text: str | bytes,
    *,
    end: str | bytes = "",
    begins: np.ndarray | None = None,
    on_unknown: OnUnknown = "error",
    lanes: int = 1,
    execution: Execution | None = None,
) -> Score:
    """Returns how likely a model finds each character of a text.

        log p(text) = log 1/V + sum_{t > 1} log p(x_t | x_1 .. x_{t-1})

    The first character counts as drawn uniformly from the V of the vocabulary, which
    is how `sample` draws it. So `log_probs` has an entry for every character and adds
    up to the log-probability of the text.

    Args:
      model: a model, or any other predictor.
      text: the text, of any length; its characters are read one after the other.
      end: what ends a document, for a model of documents: each is read anew, and its
        first character is predicted too (see `charjax.text.documents`).
      begins: for each character whether it is read from the zero state, where the text
        is pieces joined; not with `end`.
      on_unknown: `'error'`, or `'skip'` to leave out characters that are not in the
        vocabulary; they then have no entry in `log_probs` either.
      lanes: into how many parts the text is cut, which are read side by side; each
        first reads the 1000 characters before it. That is faster for a long text, and
        nearly exact, but not for what learns from the text: a part learns from itself.
      execution: how a model runs.

    Raises:
      ConfigError: lanes is not an integer of 1 or more, or begins does not fit.
      TextError: the text is empty or holds an unknown character, or the model does not
        know what ends a document.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> score = charjax.score(params, "hello")
      >>> score.log_probs.shape
      (5,)
    """
    predictor = predictor_of(model, execution)
    ids = predictor.vocab.encode(text, on_unknown=on_unknown)
    if ids.size == 0:
        raise TextError(
            f"the text to score must have a known character; got none in {len(text)}. "
            "Try a longer text."
        )
    if not isinstance(lanes, numbers.Integral) or lanes < 1:
        raise ConfigError(f"lanes must be an integer of 1 or more; got {lanes!r:.60}.")
    if begins is not None and (end or np.shape(begins) != ids.shape):
        raise ConfigError(
            f"begins must have a value for each of the {len(ids):,} characters, and no "
            f"end beside it; got shape {np.shape(begins)}. Try one of them."
        )
    if not end:
        return score_of(log_probs_of(predictor, ids, int(lanes), begins))
    ids, begins = with_beginning(ids, known_end(predictor.vocab, end))
    gaps = np.diff(np.flatnonzero(begins), append=len(ids))
    if isinstance(model, Params) and gaps.max() <= _WARM_UP:
        lanes = max(lanes, _SIDE_BY_SIDE)  # each begins anew before what counts
    return score_of(log_probs_of(predictor, ids, int(lanes), begins)[1:])


def score_of(log_probs: np.ndarray) -> Score:
    """Returns a score from the log-probability of each character."""
    nats = -float(np.mean(log_probs, dtype=np.float64))
    with np.errstate(over="ignore"):  # a diverged model's perplexity is infinite
        perplexity = float(np.exp(nats))
    return Score(nats, nats / math.log(2), perplexity, log_probs)


def next_chars(
    model: Params | Predictor,
    prime: str | bytes = "",
    *,
    end: str | bytes = "",
    temperature: float = 1.0,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
) -> dict[str | bytes, float]:
    """Returns the probability of every character to come next, the likeliest first.

        p = softmax(logits / temperature)

    Args:
      model: a model, or any other predictor.
      prime: the text before; after an empty one all characters are equally likely.
      end: as for `score`: after an empty prime a document begins.
      temperature: below 1 sharpens, above 1 flattens; 0 leaves the likeliest only.
      on_unknown: `'error'`, or `'skip'` to leave unknown characters of the prime out.
      execution: how a model runs.

    Returns:
      Probabilities that add up to 1, by character: a str, or one byte where the
      vocabulary is of bytes. Equally likely ones keep the vocabulary's order.

    Raises:
      ConfigError: the temperature is negative or not finite.
      TextError: the prime holds an unknown character, or the model does not know what
        ends a document.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> likeliest, *others = charjax.next_chars(params, "hell")
    """
    temperature = checked_temperature(temperature)
    predictor = predictor_of(model, execution)
    ids = predictor.vocab.encode(prime, on_unknown=on_unknown)
    begins = None
    if end:
        ids, begins = with_beginning(ids, known_end(predictor.vocab, end))
    _, log_probs_1xV = read_text(predictor, ids, begins)
    log_probs_V = np.array(log_probs_1xV[0], np.float64)
    log_probs_V -= log_probs_V.max()
    weights_V = np.exp(log_probs_V / temperature) if temperature else log_probs_V == 0
    probs_V = weights_V / weights_V.sum()
    order = np.argsort(-probs_V, kind="stable")
    return {predictor.vocab.decode(i): float(probs_V[i]) for i in order}


def read_text(
    predictor: Predictor, ids: np.ndarray, begins: np.ndarray | None = None
) -> tuple[Any, np.ndarray]:
    """Returns the state after one text, and `log_probs_1xV` of the next character."""
    state = predictor.start(1)
    log_probs_1xV = np.zeros((1, len(predictor.vocab)))
    for first in range(0, len(ids), _PIECE):
        piece = slice(first, first + _PIECE), None
        begins_Px1 = None if begins is None else begins[piece]
        state, log_probs_Px1xV = read(predictor, state, ids[piece], begins_Px1)
        log_probs_1xV = np.asarray(log_probs_Px1xV)[-1]
    return state, log_probs_1xV


def checked_temperature(temperature: Any) -> float:
    """Returns a temperature as a float, or raises a ConfigError."""
    try:
        # A scalar array is accepted as a number; strings and lists are not.
        is_number = isinstance(temperature, numbers.Real) or np.ndim(temperature) == 0
        value = float(temperature) if is_number else math.nan
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if isinstance(temperature, str) or not 0 <= value < math.inf:
        raise ConfigError(
            "temperature must be a finite number of 0 or more; got "
            f"{temperature!r:.60}. Try 0.8."
        )
    return value


def log_probs_of(
    predictor: Predictor,
    ids: np.ndarray,
    lanes: int = 1,
    begins: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the log-probability of each character, the first uniform.

    Lane k reads the characters from k L on, W + L of them. All that the first lane
    predicts count, and of each other one those after its first W.

    Args:
      predictor: what reads.
      ids: the text.
      lanes: as for `score`.
      begins: where documents begin.
    """
    log_probs = np.full(len(ids), -math.log(len(predictor.vocab)), np.float32)
    num = len(ids) - 1  # what follows the last character is not part of the score
    lanes = max(1, min(lanes, num // _WARM_UP))
    warm_up = _WARM_UP if lanes > 1 else 0
    own = -(-(num - warm_up) // lanes)
    starts_B, state = own * np.arange(lanes), predictor.start(lanes)
    size = max(1, min(_PIECE, _CHARACTERS // lanes))
    for first in range(0, warm_up + own, size):
        steps_Px1 = np.arange(first, min(first + size, warm_up + own))[:, None]
        counts_PxB = (steps_Px1 >= warm_up) | (starts_B == 0)
        counts_PxB &= starts_B + steps_Px1 < num  # the last lane may be shorter
        places_PxB = np.minimum(starts_B + steps_Px1, num - 1)
        begins_PxB = None if begins is None else begins[places_PxB]
        state, log_probs_PxBxV = read(predictor, state, ids[places_PxB], begins_PxB)
        targets_PxBx1 = ids[places_PxB + 1].astype(np.int64)[..., None]
        chosen_PxBx1 = np.take_along_axis(
            np.asarray(log_probs_PxBxV), targets_PxBx1, axis=-1
        )
        log_probs[places_PxB[counts_PxB] + 1] = chosen_PxBx1[counts_PxB, 0]
    return log_probs
