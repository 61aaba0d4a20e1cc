"""Drawing characters from a predictor, piece by piece.

Each character is the largest of the logits with Gumbel noise added to them,

    x_t = argmax(logits + temperature * g_t),    g = -log(-log u),  u uniform,

which draws from `softmax(logits / temperature)`, and is the argmax at temperature 0.
The noise of a character comes from the key and the character's position alone. So the
same arguments give the same text, and a shorter text is the beginning of a longer one.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax.devices import current_platform, jit_forward, num_shares, side_by_side
from charjax.errors import ConfigError
from charjax.model.forward import input_table, step
from charjax.model.params import Params, readout_weights
from charjax.model.spec import cell_of
from charjax.predict.cut import Cut
from charjax.predict.dynamic import Dynamic
from charjax.predict.predictor import Learner, ModelPredictor, ModelState, Predictor
from charjax.predict.rules import Past, Rules, next_ids, past_of
from charjax.predict.scoring import read_text
from charjax.unroll import choose
from charjax.unroll.execution import Execution
from charjax.unroll.kernels import DrawKernel, draw_kernel

_DRAWN_CHARACTERS = 1 << 9  # of each text, drawn in one call of the compiled function
_NOISE = 1 << 20  # and at most this many numbers of noise for them
# A model of more bytes than this, as the kernel packs it, is drawn from by XLA where
# there are few texts: in the kernel one core alone reads all weights for a character.
_LARGE = 1 << 21


class Request(NamedTuple):
    """What to draw.

    Attributes:
      prime_ids: the characters to go on from.
      length: how many to draw at most.
      key: the noise comes from it.
      rules: how to draw.
    """

    prime_ids: np.ndarray
    length: int
    key: jax.Array
    rules: Rules


class Loop(NamedTuple):
    """What goes from one character to the next: of the model, and of the rules."""

    state: ModelState
    past: Past


def draw(
    predictor: Predictor, request: Request, num_texts: int
) -> Iterator[np.ndarray]:
    """Yields the ids of the prime, then of what is drawn, as `ids_NxB`.

    After the end of a text its ids are -1.

    Raises:
      ConfigError: a prediction is NaN.
    """
    yield np.broadcast_to(
        request.prime_ids[:, None], (request.prime_ids.size, num_texts)
    )
    if isinstance(predictor, ModelPredictor | Dynamic):
        state, _ = read_text(predictor, request.prime_ids)  # once for all texts
        if isinstance(predictor, Dynamic):
            predictor, state = predictor.frozen(state)
        assert isinstance(predictor, ModelPredictor)
        yield from draw_from_model(predictor, state, request, num_texts)
    else:
        yield from _draw_from_any(predictor, request, num_texts)


def _refuse_nan(*predictions: Any) -> None:
    """Raises a ConfigError if a prediction is NaN."""
    if any(np.isnan(array).any() for array in predictions):
        raise ConfigError(
            "the model's predictions must be numbers; got NaN. Its weights are not "
            "finite or too large. Try another checkpoint."
        )


def _pieces(
    request: Request, num_texts: int, num_symbols: int
) -> Iterator[tuple[np.ndarray, int, Rules]]:
    """Yields each piece: its positions, how many of them count, the rules."""
    size = max(1, min(_DRAWN_CHARACTERS, _NOISE // (num_texts * num_symbols)))
    drawn = 0
    while drawn < request.length:
        count, rules = min(size, request.length - drawn), request.rules
        if drawn == 0 and request.prime_ids.size == 0:
            # Before the first character all logits are equal, and noise alone decides.
            count, rules = 1, rules._replace(temperature=1.0)
        yield np.arange(drawn, drawn + size, dtype=np.uint32), count, rules
        drawn += count


def _draw_from_any(
    predictor: Predictor, request: Request, num_texts: int
) -> Iterator[np.ndarray]:
    """Draws with a call of `read` for each character."""
    state = predictor.start(num_texts)
    logits_BxV = np.zeros((num_texts, len(predictor.vocab)), np.float32)
    if request.prime_ids.size:
        shape = request.prime_ids.size, num_texts
        ids_TxB = np.broadcast_to(request.prime_ids[:, None], shape)
        state, log_probs_TxBxV = predictor.read(state, ids_TxB)
        logits_BxV = np.asarray(log_probs_TxBxV)[-1]
        _refuse_nan(logits_BxV)
    if isinstance(predictor, Learner):  # it does not learn from what it writes itself
        predictor, state = predictor.frozen(state)
    past = _copies(_past_of(request, len(predictor.vocab)), num_texts=num_texts)
    pieces = _pieces(request, num_texts, logits_BxV.shape[1])
    for positions_P, count, rules in pieces:
        (noise_PxBxV,) = map(
            np.asarray,
            _noise(request.key, positions_P, (0, num_texts), logits_BxV),
        )
        ids_NxB = np.full((count, num_texts), -1, np.int32)
        for i in range(count):
            if rules.is_plain:
                noise_BxV = rules.temperature * noise_PxBxV[i]
                ids_NxB[i] = np.argmax(logits_BxV + noise_BxV, axis=-1)
            else:
                ids_B, past = _next_ids(logits_BxV, noise_PxBxV[i], past, rules)
                ids_NxB[i] = ids_B
            if _have_ended(ids_NxB[i]):
                break
            ids_1xB = np.maximum(ids_NxB[i : i + 1], 0)
            state, log_probs_1xBxV = predictor.read(state, ids_1xB)
            logits_BxV = np.asarray(log_probs_1xBxV)[0]
        _refuse_nan(logits_BxV)
        yield ids_NxB
        if _have_ended(ids_NxB[-1]):
            return


_next_ids = jit_forward(next_ids)


def _past_of(request: Request, num_symbols: int) -> Past:
    return past_of(request.rules, request.prime_ids, request.length, num_symbols)


def _have_ended(ids_B: np.ndarray) -> bool:
    return bool((ids_B < 0).all())


def draw_from_model(
    predictor: ModelPredictor, state: ModelState, request: Request, num_texts: int
) -> Iterator[np.ndarray]:
    """Draws without leaving the device, on all cores, from the state of one text.

    Yields what `draw` yields after the prime, which the state is that of.
    """
    params, execution = predictor.params, predictor.execution
    _refuse_nan(state.logits_BxV)
    kernel = _find_kernel(params, execution, num_texts)
    if kernel is None or not request.rules.are_compiled:
        draw_piece: Callable[..., Any] = partial(
            _draw_piece, params, execution=execution
        )
        num = num_shares(num_texts)
    else:
        weights = _pack(params, kernel=kernel, execution=execution)
        draw_piece = partial(_draw_compiled, weights, kernel=kernel)
        num = 1  # the kernel shares the texts among the cores itself
    bounds = tuple(num_texts * share // num for share in range(num + 1))
    whole = Loop(state, _past_of(request, state.logits_BxV.shape[-1]))
    loops = [
        _copies(whole, num_texts=end - begin)
        for begin, end in itertools.pairwise(bounds)
    ]
    pieces = _pieces(request, num_texts, state.logits_BxV.shape[-1])
    for positions_P, count, rules in pieces:
        noises = _noise(request.key, positions_P, bounds, state.logits_BxV)
        draw_next = partial(draw_piece, count=count, rules=rules)
        loops, ids = zip(*side_by_side(draw_next, loops, noises), strict=True)
        _refuse_nan(*(loop.state.logits_BxV for loop in loops))
        ids_NxB = np.concatenate(ids, axis=1)[:count]
        yield ids_NxB
        if _have_ended(ids_NxB[-1]):
            return


def _find_kernel(
    params: Params, execution: Execution, num_texts: int
) -> DrawKernel | None:
    """Returns the compiled kernel to draw with, or None for JAX's own loop."""
    spec, platform = params.spec, current_platform()
    cell = cell_of(spec)
    choose.check(cell, execution, platform)
    if spec.skip or spec.residual:  # the kernels know layers that read one another
        return None
    if execution.unroll not in ("auto", "native"):
        return None
    weights = jax.tree.leaves(params)
    bytes_each = 2 if execution.precision == "bfloat16" else 4
    is_large = bytes_each * sum(array.size for array in weights) > _LARGE
    if execution.unroll == "auto" and is_large and num_texts < 8:
        return None
    kernel = draw_kernel(cell, platform, execution.precision)
    is_single = all(array.dtype == np.float32 for array in weights)
    if kernel is None or not is_single or kernel.problem():
        return None
    return kernel


@partial(jit_forward, static_argnames=("num_texts",))
def _copies(loop: Any, num_texts: int) -> Any:
    """Returns the state of one text as that of many."""
    return jax.tree.map(lambda x_1: jnp.repeat(x_1, num_texts, axis=0), loop)


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


@partial(jit_forward, static_argnames=("execution",))
def _draw_piece(
    params: Params,
    loop: Loop,
    noise_PxBxV: jax.Array,
    *,
    count: int,
    rules: Rules,
    execution: Execution,
) -> tuple[Loop, jax.Array]:
    """Draws the first `count` characters of a piece; the other ids are -1."""
    table_VxGH = input_table(params, execution)

    def is_left(carried: tuple[jax.Array, Loop, jax.Array]) -> jax.Array:
        i, loop, _ = carried
        place = loop.past.place
        return (i < count) if place is None else (i < count) & ~place.ended_B.all()

    def draw_one(carried: tuple[jax.Array, Loop, jax.Array]) -> Any:
        i, (state, past), ids_PxB = carried
        ids_B, past = next_ids(state.logits_BxV, noise_PxBxV[i], past, rules)
        ids_PxB = ids_PxB.at[i].set(ids_B)
        ids_B = jnp.maximum(ids_B, 0)  # one that has ended goes on unseen
        logits_BxV, carry = step(params, ids_B, state.carry, table_VxGH, execution)
        return i + 1, Loop(ModelState(carry, logits_BxV), past), ids_PxB

    ids_PxB = jnp.full(noise_PxBxV.shape[:2], -1, jnp.int32)
    start = jnp.int32(0), loop, ids_PxB
    _, loop, ids_PxB = jax.lax.while_loop(is_left, draw_one, start)
    return loop, ids_PxB


@partial(jit_forward, static_argnames=("kernel", "execution"))
def _pack(params: Params, *, kernel: DrawKernel, execution: Execution) -> Any:
    """Returns the weights as the compiled kernel reads them."""
    z_VxGH, readout_HxV = input_table(params, execution), readout_weights(params)
    return kernel.pack(params.layers, z_VxGH, readout_HxV, params.readout_bias_V)


def _draw_compiled(
    weights: Any,
    loop: Loop,
    noise_PxBxV: jax.Array,
    *,
    count: int,
    rules: Rules,
    kernel: DrawKernel,
) -> tuple[Loop, jax.Array]:
    """Does what `_draw_piece` does, in the compiled kernel; other ids are 0."""
    # As numbers even where they are off, so that all cuts share a compilation.
    cut = (rules.cut or Cut()).limits(noise_PxBxV.shape[-1])
    state, ids_PxB = _draw_by_kernel(
        weights, loop.state, noise_PxBxV, count, rules.temperature, cut, kernel=kernel
    )
    return loop._replace(state=state), ids_PxB


@partial(jit_forward, static_argnames=("kernel",))
def _draw_by_kernel(
    weights: Any,
    state: ModelState,
    noise_PxBxV: jax.Array,
    count: int,
    temperature: float,
    cut: tuple[float, ...],
    *,
    kernel: DrawKernel,
) -> tuple[ModelState, jax.Array]:
    carry, logits_BxV, ids_PxB = kernel.draw(
        weights, state.carry, state.logits_BxV, noise_PxBxV, count, temperature, cut
    )
    return ModelState(carry, logits_BxV), ids_PxB
