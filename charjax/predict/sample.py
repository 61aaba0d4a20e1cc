"""Text drawn from a model, character by character, without leaving the device.

Each character is the largest of the logits with Gumbel noise added to them,

    x_t = argmax(logits + temperature * g_t),    g = -log(-log u),  u uniform,

which draws from `softmax(logits / temperature)`, and is the argmax at temperature 0.
The noise of a character comes from the key and the character's position alone. So the
same arguments give the same text, and a shorter text is the beginning of a longer one.
"""

import itertools
import math
import numbers
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from charjax import cells, model
from charjax.devices import (
    find_drawing_kernel,
    jit_forward,
    num_shares,
    side_by_side,
)
from charjax.errors import ConfigError
from charjax.model import Params
from charjax.predict.score import State, check_temperature, read
from charjax.text.vocab import OnUnknown
from charjax.unroll import native

_DRAWN_CHARACTERS = 1 << 9  # of each text, drawn in one call of the compiled function
_NOISE = 1 << 20  # and at most so many numbers of noise for them
_FLAT = 1e30  # any temperature above draws the same, and noise beyond it is infinite


@overload
def sample(
    params: Params,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    num_samples: None = None,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> str | bytes: ...
@overload
def sample(
    params: Params,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    num_samples: int,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> list[str | bytes]: ...
def sample(
    params: Params,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    num_samples: int | None = None,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> str | bytes | list[str | bytes]:
    """Returns the prime and the text that a model goes on with.

    Args:
      params: the model.
      prime: the text to go on from. After an empty one the first character is drawn
        uniformly, whatever the other arguments.
      temperature: below 1 keeps to likely characters, above 1 ventures; 0 is `greedy`.
      length: how many characters to draw, beyond the prime.
      seed: an integer that stands for a key; 0 by default.
      key: a `jax.random.key`, in place of a seed.
      num_samples: draws so many texts as one batch and returns a list. The noise of
        one does not depend on how many others there are.
      greedy: takes the likeliest character every time.
      top_k: draws from the k likeliest characters only; 0 draws from all.
      top_p: draws from the likeliest characters that hold this much probability, at
        this temperature and among the `top_k`; 1 draws from all. Of equally likely
        characters, `top_k` and `top_p` keep all or none.
      on_unknown: `'error'`, or `'skip'` to leave out the prime's characters that are
        not in the vocabulary; the returned text is without them too.

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

    Top-p sampling: Holtzman et al. (2020), https://arxiv.org/abs/1904.09751.
    """
    num_texts = 1 if num_samples is None else num_samples
    _check_integer("num_samples", num_texts, 1, 2**31)
    request = _request(
        params, prime, temperature, length, seed, key, greedy, top_k, top_p, on_unknown
    )
    pieces = list(_draw(params, request, num_texts))
    texts = [
        params.vocab.decode(np.concatenate([ids_NxB[:, text] for ids_NxB in pieces]))
        for text in range(num_texts)
    ]
    return texts[0] if num_samples is None else texts


def stream(
    params: Params,
    prime: str | bytes = "",
    temperature: float = 1.0,
    *,
    length: int = 2000,
    seed: int | None = None,
    key: jax.Array | None = None,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    on_unknown: OnUnknown = "error",
) -> Iterator[str | bytes]:
    """Returns an iterator over pieces of the text, each there as soon as it is drawn.

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
    request = _request(
        params, prime, temperature, length, seed, key, greedy, top_k, top_p, on_unknown
    )
    pieces = _draw(params, request, num_texts=1)
    return (params.vocab.decode(ids_Nx1[:, 0]) for ids_Nx1 in pieces)


class _Cut(NamedTuple):
    """Which characters are too unlikely to be drawn."""

    top_k: int
    top_p: float


class _Request(NamedTuple):
    """What is to be drawn; `cut` is None where every character may be."""

    prime_ids: np.ndarray
    length: int
    key: jax.Array
    temperature: float
    cut: _Cut | None


def _request(
    params: Params,
    prime: str | bytes,
    temperature: float,
    length: int,
    seed: int | None,
    key: jax.Array | None,
    greedy: bool,
    top_k: int,
    top_p: float,
    on_unknown: OnUnknown,
) -> _Request:
    """Returns the checked arguments of `sample` and `stream`."""
    check_temperature(temperature)
    _check_integer("length", length, 0, 2**32)
    _check_integer("top_k", top_k, 0, math.inf)
    if not isinstance(top_p, numbers.Real) or not 0 < top_p <= 1:
        raise ConfigError(f"top_p: expected more than 0 and at most 1, got {top_p!r}")
    cut = None
    if top_k or top_p < 1:
        num_symbols = len(params.vocab)
        # A sum of all probabilities may fall short of 1, but not of infinity.
        cut = _Cut(
            min(top_k or num_symbols, num_symbols), top_p if top_p < 1 else math.inf
        )
    return _Request(
        prime_ids=params.vocab.encode(prime, on_unknown=on_unknown),
        length=length,
        key=_key(seed, key),
        temperature=0.0 if greedy else min(float(temperature), _FLAT),
        cut=cut,
    )


def _key(seed: int | None, key: jax.Array | None) -> jax.Array:
    """Returns the key, or the one that the seed stands for."""
    if key is None:
        seed = 0 if seed is None else seed
        _check_integer("seed", seed, 0, 2**32)
        return jax.random.key(int(seed))
    if seed is not None:
        raise ConfigError(f"key, seed: expected one of them, got both (seed={seed})")
    if not _is_key(key):
        raise ConfigError(
            "key: expected one jax.random.key(...), got a "
            f"{type(key).__name__} of shape {np.shape(key)}"
        )
    return key


def _is_key(key: object) -> bool:
    return (
        isinstance(key, jax.Array)
        and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.shape == ()
    )


def _check_integer(name: str, value: int, least: int, end: float) -> None:
    if not isinstance(value, numbers.Integral) or not least <= value < end:
        limit = "" if end == math.inf else f" and less than {end:,}"
        raise ConfigError(
            f"{name}: expected an integer of {least} or more{limit}, got {value!r}"
        )


def _draw(params: Params, request: _Request, num_texts: int) -> Iterator[np.ndarray]:
    """Yields the ids of the prime, then of what is drawn, as ids_NxB."""
    yield np.broadcast_to(
        request.prime_ids[:, None], (request.prime_ids.size, num_texts)
    )
    state, _ = read(params, request.prime_ids)
    _check_logits(state)
    spec = params.spec
    cell, weights = cells.get(spec.cell), jax.tree.leaves(params)
    kernel = find_drawing_kernel(spec.kernel, cell, spec.dtype, weights, num_texts)
    if kernel is None or request.cut is not None:
        draw = partial(_draw_piece, params, cut=request.cut)
        num = num_shares(num_texts)
    else:
        draw = partial(_draw_compiled, _pack(params, kernel=kernel), kernel=kernel)
        num = 1  # it shares the texts among the cores itself
    bounds = tuple(num_texts * share // num for share in range(num + 1))
    states = [_copies(state, end - begin) for begin, end in itertools.pairwise(bounds)]
    num_symbols = state.logits_BxV.shape[-1]
    piece = max(1, min(_DRAWN_CHARACTERS, _NOISE // (num_texts * num_symbols)))
    drawn = 0
    while drawn < request.length:
        count, temperature = min(piece, request.length - drawn), request.temperature
        if drawn == 0 and request.prime_ids.size == 0:
            # Where nothing was read all logits are equal, and noise alone decides.
            count, temperature = 1, 1.0
        positions_P = np.arange(drawn, drawn + piece, dtype=np.uint32)
        noises = _noise(request.key, positions_P, bounds, state.logits_BxV)
        draw_next = partial(draw, count=count, temperature=temperature)
        states, ids = zip(*side_by_side(draw_next, states, noises), strict=True)
        _check_logits(*states)
        yield np.concatenate(ids, axis=1)[:count]
        drawn += count


def _check_logits(*states: State) -> None:
    """Raises a ConfigError where a model does not say what comes next."""
    if any(np.isnan(state.logits_BxV).any() for state in states):
        raise ConfigError(
            "params: expected a model whose logits are numbers, got NaN; its weights "
            "are not finite or too large"
        )


@partial(jit_forward, static_argnames=("num_texts",))
def _copies(state: State, num_texts: int) -> State:
    """Returns the state of one text as that of many."""
    return jax.tree.map(lambda x_1: jnp.repeat(x_1, num_texts, axis=0), state)


@partial(jit_forward, static_argnames=("bounds",))
def _noise(
    key: jax.Array, positions_P: jax.Array, bounds: tuple[int, ...], like_1xV: jax.Array
) -> list[jax.Array]:
    """Returns noise_PxBxV, the Gumbel noise of each character at each position.

    Drawn for many positions at once, since in the loop it takes as long as the model.

    Args:
      key: the request's.
      positions_P: of the characters in their text.
      bounds: where the shares of the texts begin, and the last one ends.
      like_1xV: logits, of which the noise takes the size and the type.

    Returns:
      An array a share.
    """

    def noise_at(position: jax.Array) -> jax.Array:
        shape = bounds[-1], like_1xV.shape[-1]
        return jax.random.gumbel(
            jax.random.fold_in(key, position), shape, like_1xV.dtype
        )

    noise_PxBxV = jax.vmap(noise_at)(positions_P)
    return [noise_PxBxV[:, slice(*share)] for share in itertools.pairwise(bounds)]


@jit_forward
def _draw_piece(
    params: Params,
    state: State,
    noise_PxBxV: jax.Array,
    count: int,
    temperature: float,
    cut: _Cut | None,
) -> tuple[State, jax.Array]:
    """Draws the first `count` characters of a piece; the other ids are 0."""

    def draw_one(
        i: jax.Array, loop: tuple[State, jax.Array]
    ) -> tuple[State, jax.Array]:
        state, ids_PxB = loop
        logits_BxV = state.logits_BxV
        if cut is not None:
            logits_BxV = _without_unlikely(logits_BxV, temperature, cut)
        logits_BxV += temperature * noise_PxBxV[i]
        ids_B = jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
        logits_BxV, carry = model.step(params, ids_B, state.carry)
        return State(carry, logits_BxV), ids_PxB.at[i].set(ids_B)

    ids_PxB = jnp.zeros(noise_PxBxV.shape[:2], jnp.int32)
    return jax.lax.fori_loop(0, count, draw_one, (state, ids_PxB))


@partial(jit_forward, static_argnames=("kernel",))
def _pack(params: Params, *, kernel: native.Kernel) -> Any:
    """Returns the weights as the compiled kernel reads them."""
    z_VxGH, readout_HxV = model.first_inputs(params), model.readout_weights(params)
    return kernel.pack(params.layers, z_VxGH, readout_HxV, params.readout_bias_V)


@partial(jit_forward, static_argnames=("kernel",))
def _draw_compiled(
    weights: Any,
    state: State,
    noise_PxBxV: jax.Array,
    *,
    count: int,
    temperature: float,
    kernel: native.Kernel,
) -> tuple[State, jax.Array]:
    """Does what `_draw_piece` does, where every character may be drawn."""
    carry, logits_BxV, ids_PxB = kernel.draw(
        weights, state.carry, state.logits_BxV, noise_PxBxV, count, temperature
    )
    return State(carry, logits_BxV), ids_PxB


def _without_unlikely(
    logits_BxV: jax.Array, temperature: jax.Array | float, cut: _Cut
) -> jax.Array:
    """Returns the logits with -inf in place of those that are cut."""
    falling_BxV = jnp.sort(logits_BxV, axis=-1, descending=True)
    among_k_V = jnp.arange(logits_BxV.shape[-1]) < cut.top_k
    # At 0 only the likeliest matters, which is kept at any temperature.
    scale = jnp.where(temperature > 0, temperature, 1)
    weights_BxV = jnp.exp((falling_BxV - falling_BxV[:, :1]) / scale) * among_k_V
    likelier_BxV = jnp.cumsum(weights_BxV, axis=-1) - weights_BxV
    enough_Bx1 = cut.top_p * jnp.sum(weights_BxV, axis=-1, keepdims=True)
    kept_BxV = among_k_V & (likelier_BxV < enough_Bx1)
    # The likeliest stands in for those that are cut, so it is kept in any case.
    least_Bx1 = jnp.min(
        jnp.where(kept_BxV, falling_BxV, falling_BxV[:, :1]), axis=-1, keepdims=True
    )
    return jnp.where(logits_BxV >= least_Bx1, logits_BxV, -jnp.inf)
