"""The loss: the mean of `-log p` over characters, in nats; and what training adds."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry
from charjax.cells.wrap import Share
from charjax.errors import ConfigError
from charjax.model.forward import check_static, forward
from charjax.model.noise import Noise, noisy_weights
from charjax.model.params import Params, initial_carry
from charjax.model.penalties import Penalties, measure, objective
from charjax.unroll.execution import Execution


def loss(
    params: Params,
    x_BxT: jax.Array,
    y_BxT: jax.Array,
    carry: Carry | None = None,
    *,
    noise: Noise | None = None,
    key: jax.Array | None = None,
    execution: Execution | None = None,
) -> tuple[jax.Array, Carry]:
    """Returns the mean loss in nats a character, and the state after the last one.

    Args:
      params: the model.
      x_BxT: characters as ids.
      y_BxT: the character after each.
      carry: the state before the first; zero by default.
      noise: what only training does; none by default.
      key: a `jax.random.key` from which the noise is drawn.
      execution: how the model runs. With a `segment_length` the gradient is the same
        but takes less memory and more time.

    Raises:
      ConfigError: there is noise without a key or that the model has no place for, or
        the segment length does not divide the number of characters.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> ids_BxT = vocab.encode("hello")[None]
      >>> nats, carry = charjax.loss(params, ids_BxT[:, :-1], ids_BxT[:, 1:])
    """
    x_BxT, y_BxT = jnp.asarray(x_BxT), jnp.asarray(y_BxT)
    noise, execution = check_static(noise, execution)
    return _loss(params, x_BxT, y_BxT, carry, key, noise, execution)


# Jitted so that a call outside a jit does not trace and compile its loops each time.
@partial(jax.jit, static_argnames=("noise", "execution"))
def _loss(
    params: Params,
    x_BxT: jax.Array,
    y_BxT: jax.Array,
    carry: Carry | None,
    key: jax.Array | None,
    noise: Noise | None,
    execution: Execution | None,
) -> tuple[jax.Array, Carry]:
    if carry is None:
        carry = initial_carry(params, len(x_BxT))
    read = chunk_loss(
        params, x_BxT.T, y_BxT.T, carry, noise=noise, key=key, execution=execution
    )
    return read.nats, read.carry


class ChunkLoss(NamedTuple):
    """What reading a chunk gives.

    Attributes:
      objective: what training takes the gradient of: nats and penalties.
      nats: mean loss in nats a character.
      carry: the state after the last character.
    """

    objective: jax.Array
    nats: jax.Array
    carry: Carry


def chunk_loss(
    params: Params,
    x_TxB: jax.Array,
    y_TxB: jax.Array,
    carry: Carry,
    *,
    begins_TxB: jax.Array | None = None,
    weights_TxB: jax.Array | None = None,
    noise: Noise | None = None,
    key: jax.Array | None = None,
    penalties: Penalties | None = None,
    execution: Execution | None = None,
    share: Share | None = None,
) -> ChunkLoss:
    """Returns what `loss` returns, for ids with time first, and the objective.

    Args:
      params: the model.
      x_TxB: characters as ids.
      y_TxB: the character after each.
      carry: the state before the first.
      begins_TxB: true for a character that is read from the zero state; none by
        default.
      weights_TxB: how much each target counts, 1 in the mean; equally by default.
      noise: what only training does; none by default.
      key: a `jax.random.key` from which the noise is drawn.
      penalties: what the objective has beside the loss; nothing by default.
      execution: how the model runs.
      share: which texts of a batch these are; None for all.

    Raises:
      ConfigError: as `loss`.
    """
    penalties, num_steps = penalties or Penalties(), len(x_TxB)
    length = Execution.of(execution).segment_length or len(x_TxB)
    if length == len(x_TxB):
        out = forward(
            params, x_TxB, carry,
            begins_TxB=begins_TxB, noise=noise, key=key, execution=execution,
            share=share,
        )  # fmt: skip
        nats = mean_nats(out.logits_TxBxV, y_TxB, weights_TxB)
        piece = measure(penalties, out, weights_TxB)
        piece = jax.tree.map(lambda x: x[None], piece)
        return ChunkLoss(objective(penalties, nats, piece, num_steps), nats, out.carry)
    if len(x_TxB) % length:
        raise ConfigError(
            f"segment_length must divide the number of time steps, {len(x_TxB)}; got "
            f"{length}. Try 0, which keeps all steps in memory."
        )

    params, noise = noisy_weights(params, noise, key)

    def read_segment(carry: Carry, segment: Any) -> tuple[Carry, Any]:
        x_SxB, y_SxB, begins_SxB, weights_SxB, i = segment
        out = forward(
            params, x_SxB, carry, begins_TxB=begins_SxB,
            noise=noise, key=key, execution=execution,
            segment=i, share=share,
        )  # fmt: skip
        nats = mean_nats(out.logits_TxBxV, y_SxB, weights_SxB)
        return out.carry, (nats, measure(penalties, out, weights_SxB))

    segments = jax.tree.map(
        lambda x_TxB: x_TxB.reshape(-1, length, x_TxB.shape[1]),
        (x_TxB, y_TxB, begins_TxB, weights_TxB),
    )
    segments = *segments, jnp.arange(num_steps // length)
    # Only the carry at the start of each segment is kept for the backward pass.
    read = jax.lax.scan(jax.checkpoint(read_segment), carry, segments)
    carry, (nats_N, pieces_N) = read
    nats = jnp.mean(nats_N)
    return ChunkLoss(objective(penalties, nats, pieces_N, num_steps), nats, carry)


def mean_nats(
    logits_TxBxV: jax.Array, y_TxB: jax.Array, weights_TxB: jax.Array | None = None
) -> jax.Array:
    """Returns the mean of `-log softmax(logits)[y]`, each times its weight."""
    nats_TxB = nats(logits_TxBxV, y_TxB)
    return jnp.mean(nats_TxB if weights_TxB is None else weights_TxB * nats_TxB)


def nats(logits_TxBxV: jax.Array, y_TxB: jax.Array) -> jax.Array:
    """Returns `-log softmax(logits)[y]` of each character, `nats_TxB`."""
    log_norm_TxB = jax.nn.logsumexp(logits_TxBxV, axis=-1)
    y_TxBx1 = y_TxB[..., None].astype(jnp.int32)
    chosen_TxBx1 = jnp.take_along_axis(logits_TxBxV, y_TxBx1, axis=-1)
    return log_norm_TxB - chosen_TxBx1[..., 0]
