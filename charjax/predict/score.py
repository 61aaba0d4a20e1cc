"""What a model makes of given text: log-probabilities, the next character, a loss."""

import math
import numbers
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax import model
from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.errors import ConfigError, TextError
from charjax.model import Params
from charjax.text.streams import Lanes
from charjax.text.vocab import OnUnknown

_READ_CHARACTERS = 1 << 10  # read in one call of a compiled function
_EVALUATED_CHARACTERS = 1 << 16  # likewise, over all lanes


class Score(NamedTuple):
    """How well a model predicts a text.

    Attributes:
      nats: the mean of `-log p` a character.
      bits: the same to base 2.
      perplexity: `exp(nats)`, among how many equally likely characters it chooses.
      log_probs: the natural log-probability of each character given those before it.
    """

    nats: float
    bits: float
    perplexity: float
    log_probs: np.ndarray


class State(NamedTuple):
    """What a model has made of the texts it has read so far.

    Attributes:
      carry: the state of its layers.
      logits_BxV: what it expects next; all equal where it has read nothing.
    """

    carry: Carry
    logits_BxV: jax.Array


def score(
    params: Params, text: str | bytes, *, on_unknown: OnUnknown = "error"
) -> Score:
    """Returns how likely a model finds each character of a text.

        log p(text) = log 1/V + sum_{t > 1} log softmax(logits_t)[x_t]

    The first character counts as drawn uniformly from the V of the vocabulary, which
    is how `sample` draws it. So `log_probs` has an entry for every character and adds
    up to the log-probability of the text.

    Args:
      params: the model.
      text: the text, of any length; its characters are read one after the other.
      on_unknown: `'error'`, or `'skip'` to leave out characters that are not in the
        vocabulary; they then have no entry in `log_probs` either.

    Raises:
      TextError: the text is empty or holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> score = charjax.score(params, "hello")
      >>> score.log_probs.shape
      (5,)
    """
    ids = params.vocab.encode(text, on_unknown=on_unknown)
    if ids.size == 0:
        raise TextError(
            f"Text to score: expected at least one known character, got none in "
            f"{len(text)}; give a longer text"
        )
    _, log_probs = read(params, ids)
    nats = -float(np.mean(log_probs, dtype=np.float64))
    with np.errstate(over="ignore"):  # a diverged model's perplexity is infinite
        perplexity = float(np.exp(nats))
    return Score(nats, nats / math.log(2), perplexity, log_probs)


def next_chars(
    params: Params,
    prime: str | bytes = "",
    *,
    temperature: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> dict[str | bytes, float]:
    """Returns the probability of every character to come next, the likeliest first.

        p = softmax(logits / temperature)

    Args:
      params: the model.
      prime: the text before; after an empty one all characters are equally likely.
      temperature: below 1 sharpens, above 1 flattens; 0 leaves the likeliest only.
      on_unknown: `'error'`, or `'skip'` to leave unknown characters of the prime out.

    Returns:
      Probabilities that add up to 1, by character: a str, or one byte where the
      vocabulary is of bytes. Equally likely ones keep the vocabulary's order.

    Raises:
      ConfigError: the temperature is negative or not finite.
      TextError: the prime holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> likeliest, *others = charjax.next_chars(params, "hell")
    """
    check_temperature(temperature)
    state, _ = read(params, params.vocab.encode(prime, on_unknown=on_unknown))
    logits_V = np.asarray(state.logits_BxV, np.float64)[0]
    logits_V -= logits_V.max()
    weights_V = np.exp(logits_V / temperature) if temperature else logits_V == 0
    probs_V = weights_V / weights_V.sum()
    order = np.argsort(-probs_V, kind="stable")
    return {params.vocab.decode(i): float(probs_V[i]) for i in order}


def evaluate(params: Params, lanes: Lanes) -> float:
    """Returns the mean loss over a whole split, in nats a character.

    The state starts from zero, goes on from chunk to chunk in every lane, and nothing
    is dropped. Each chunk's mean is float32, their mean float64; neither depends on
    how many chunks go through one call of the compiled function.

    Args:
      params: the model.
      lanes: the split (see `charjax.text.streams`).

    Raises:
      TextError: the split has no chunk.

    Example:
      >>> import charjax, jax
      >>> from charjax.text.streams import split_corpus
      >>> text = "hello world " * 50
      >>> vocab = charjax.Vocab.of(text)
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> split = split_corpus(vocab.encode(text), batch_size=4, seq_length=10,
      ...                      train_frac=0.8, val_frac=0.2).val
      >>> loss = charjax.evaluate(params, split)
    """
    B, T, num_chunks = lanes.batch_size, lanes.seq_length, lanes.num_chunks
    if num_chunks == 0:
        raise TextError("Split to evaluate: expected at least one chunk, got none")
    size = max(1, _EVALUATED_CHARACTERS // (B * T))
    carry = model.initial_carry(params, B)
    nats = []
    for first in range(0, num_chunks, size):
        count = min(size, num_chunks - first)
        window_BxL = lanes.window(first * T, count * T + 1)
        ids_BxL = np.zeros((B, size * T + 1), window_BxL.dtype)
        ids_BxL[:, : count * T + 1] = window_BxL
        carry, nats_K = _evaluate_chunks(params, carry, ids_BxL, count, T)
        nats.append(nats_K)  # not waited for: the next call is prepared meanwhile
    return float(np.mean(np.concatenate(nats)[:num_chunks], dtype=np.float64))


def read(params: Params, ids: np.ndarray) -> tuple[State, np.ndarray]:
    """Returns what a model has made of a text, and each character's log-probability.

    The text goes through in pieces of one size, of which the last counts in part: so
    any length takes one compilation and no more memory than its log-probabilities.

    Args:
      params: the model.
      ids: the text as ids of `params.vocab`.
    """
    state = _unread(params)
    log_probs = np.empty(len(ids), state.logits_BxV.dtype)
    for first in range(0, len(ids), _READ_CHARACTERS):
        piece = ids[first : first + _READ_CHARACTERS]
        ids_P = np.zeros(_READ_CHARACTERS, np.int32)
        ids_P[: len(piece)] = piece
        state, log_probs_P = _read_piece(params, state, ids_P, len(piece))
        log_probs[first : first + len(piece)] = np.asarray(log_probs_P)[: len(piece)]
    return state, log_probs


def check_temperature(temperature: float) -> None:
    """Raises a ConfigError where a temperature is no finite number of 0 or more."""
    if not isinstance(temperature, numbers.Real) or not 0 <= temperature < math.inf:
        raise ConfigError(
            f"temperature: expected a finite number of 0 or more, got {temperature!r}"
        )


@jit_forward
def _unread(params: Params) -> State:
    """Returns the state before the first character of one text."""
    carry = model.initial_carry(params, 1)
    return State(carry, jnp.zeros((1, len(params.vocab)), params.readout_bias_V.dtype))


@jit_forward
def _read_piece(
    params: Params, state: State, ids_P: jax.Array, count: int
) -> tuple[State, jax.Array]:
    """Reads the first `count` of the ids; the other log-probabilities mean nothing."""

    def read_one(
        i: jax.Array, loop: tuple[State, jax.Array]
    ) -> tuple[State, jax.Array]:
        state, log_probs_P = loop
        log_probs_V = jax.nn.log_softmax(state.logits_BxV[0])
        logits_BxV, carry = model.step(params, ids_P[i, None], state.carry)
        return State(carry, logits_BxV), log_probs_P.at[i].set(log_probs_V[ids_P[i]])

    log_probs_P = jnp.zeros(ids_P.shape, state.logits_BxV.dtype)
    return jax.lax.fori_loop(0, count, read_one, (state, log_probs_P))


@partial(jit_forward, static_argnames=("seq_length",))
def _evaluate_chunks(
    params: Params, carry: Carry, ids_BxL: jax.Array, count: int, seq_length: int
) -> tuple[Carry, jax.Array]:
    """Returns the state after the first `count` chunks, and the mean loss of each."""
    max_chunks = (ids_BxL.shape[1] - 1) // seq_length

    def evaluate_one(i: jax.Array, loop: tuple[Carry, jax.Array]) -> tuple:
        carry, nats_K = loop
        ids_BxS = jax.lax.dynamic_slice_in_dim(
            ids_BxL, i * seq_length, seq_length + 1, axis=1
        ).astype(jnp.int32)
        nats, carry = model.loss(params, ids_BxS[:, :-1], ids_BxS[:, 1:], carry)
        return carry, nats_K.at[i].set(nats)

    nats_K = jnp.zeros(max_chunks, params.readout_bias_V.dtype)
    return jax.lax.fori_loop(0, count, evaluate_one, (carry, nats_K))
