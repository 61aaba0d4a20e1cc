"""Writing text: `sample` and `stream`, and the checks of their arguments."""

from collections.abc import Iterator
from typing import Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np

from charjax.errors import ConfigError
from charjax.model.params import Params
from charjax.predict.draw import Request, draw
from charjax.predict.options import DrawOptions, checked_integer, checked_rules
from charjax.predict.predictor import Predictor, predictor_of
from charjax.text.vocab import OnUnknown
from charjax.unroll.execution import Execution


@overload
def sample(
    model: Params | Predictor,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    num_samples: None = None,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
    **how: Unpack[DrawOptions],
) -> str | bytes: ...
@overload
def sample(
    model: Params | Predictor,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    num_samples: int,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
    **how: Unpack[DrawOptions],
) -> list[str | bytes]: ...
def sample(
    model: Params | Predictor,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    num_samples: int | None = None,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
    **how: Unpack[DrawOptions],
) -> str | bytes | list[str | bytes]:
    r"""Returns the prime and the text that a model writes after it.

    Args:
      model: a model, or any other predictor.
      prime: the text to go on from. After an empty one the first character is drawn
        uniformly, whatever the other arguments.
      temperature: below 1 prefers likely characters, above 1 unlikely ones; 0 is
        `greedy`.
      length: how many characters to draw beyond the prime; at most, with `stop` or
        `match`.
      seed: an integer from which the key is made; 0 by default.
      key: a `jax.random.key`, instead of a seed.
      num_samples: draws this number of texts as one batch and returns a list. The
        noise of a text does not depend on the number of texts.
      on_unknown: `'error'`, or `'skip'` to leave out the prime's characters that are
        not in the vocabulary; the returned text is without them too.
      execution: how a model runs.
      **how: how characters are drawn, by rules that apply in this order:

        - `repetition_penalty` divides the probability of a character, before the
          temperature, once for each character of the stretch that it would go on
          repeating, in the last `repetition_window` characters (256), prime included;
          1 is off.
        - `match` is a regular expression. What is drawn, without the prime, matches
          the whole of it: only characters are drawn with which it still can, in the
          length that is left. Where it may end, a character with which it cannot go on
          ends it, so that `'[a-z]+'` is a word as long as the model would write it. It
          has Python's syntax without look-around, back references, `^`, `$` and `\b`;
          classes such as `\w` are of ASCII.
        - `top_k` draws from the k likeliest characters only; 0 is off.
        - `top_p` draws from the likeliest that hold this much probability, at this
          temperature and among those left; 1 is off.
        - `min_p` draws from those whose probability is at least this share of the
          likeliest one's; 0 is off.
        - `typical_p` draws from those whose surprise is nearest to the entropy and
          that hold this much probability; 1 is off.
        - `greedy` takes the likeliest that is left every time.
        - `stop` is a string or several. A text ends after the first that is drawn, and
          includes it.

        Of characters that a rule finds alike it keeps all or none.

    Returns:
      A str, or bytes where the vocabulary is of bytes; with `num_samples` a list.

    Raises:
      ConfigError: an argument is out of range, there are both a seed and a key, or the
        model's logits are NaN.
      TextError: the prime holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> text = charjax.sample(params, "hello", 0.8, length=3)
      >>> text[:5], len(text)
      ('hello', 8)
      >>> word = charjax.sample(params, "he", match="[a-z]{3}", min_p=0.05)
      >>> len(word)
      5

    Papers: `charjax.predict.cut` and `charjax.predict.repetition`.
    """
    num_texts = 1
    if num_samples is not None:
        num_texts = checked_integer("num_samples", num_samples, 1, 2**31)
    predictor = predictor_of(model, execution)
    request = _request(
        predictor, prime, temperature, length, seed, key, on_unknown, how
    )
    pieces = list(draw(predictor, request, num_texts))
    ids_NxB = np.concatenate(pieces)
    texts = [predictor.vocab.decode(ids_N[ids_N >= 0]) for ids_N in ids_NxB.T]
    return texts[0] if num_samples is None else texts


def stream(
    model: Params | Predictor,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    on_unknown: OnUnknown = "error",
    execution: Execution | None = None,
    **how: Unpack[DrawOptions],
) -> Iterator[str | bytes]:
    """Returns an iterator over pieces of the text, each available once it is drawn.

    The first piece is the prime. Joined, they are what `sample` returns for the same
    arguments, which are explained there and checked before the first piece.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> pieces = charjax.stream(params, "hello", length=300)
      >>> next(pieces)
      'hello'
    """
    predictor = predictor_of(model, execution)
    request = _request(
        predictor, prime, temperature, length, seed, key, on_unknown, how
    )
    pieces = draw(predictor, request, num_texts=1)
    return (predictor.vocab.decode(ids_Nx1[ids_Nx1 >= 0]) for ids_Nx1 in pieces)


def _request(
    predictor: Predictor,
    prime: str | bytes,
    temperature: float,
    length: int,
    seed: int | None,
    key: jax.Array | None,
    on_unknown: OnUnknown,
    how: DrawOptions,
) -> Request:
    """Returns the checked arguments of `sample` and `stream`."""
    prime_ids = predictor.vocab.encode(prime, on_unknown=on_unknown)
    length = checked_integer("length", length, 0, 2**32)
    rules = checked_rules(predictor.vocab, temperature, length, **how)
    return Request(prime_ids, length, _key(seed, key), rules)


def _key(seed: int | None, key: jax.Array | None) -> jax.Array:
    """Returns the key, or the one made from the seed."""
    if key is None:
        seed = 0 if seed is None else seed
        return jax.random.key(checked_integer("seed", seed, 0, 2**32))
    if seed is not None:
        raise ConfigError(
            f"key and seed must not both be given; got seed={seed}. Try one."
        )
    if not _is_key(key):
        raise ConfigError(
            f"key must be one jax.random.key(...); got a {type(key).__name__} of shape "
            f"{np.shape(key)}."
        )
    return key


def _is_key(key: object) -> bool:
    return (
        isinstance(key, jax.Array)
        and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.shape == ()
    )
