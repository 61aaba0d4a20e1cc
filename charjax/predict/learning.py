"""The compiled part of dynamic evaluation: read a chunk, and learn from it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.model.forward import Output, forward
from charjax.model.loss import mean_nats
from charjax.model.params import Params
from charjax.predict.dynamic_rule import Anchor, moved
from charjax.unroll.execution import Execution


def dynamic_step(
    params: Params,
    carry: Carry,
    x_T: jax.Array,
    y_T: jax.Array,
    anchor: Anchor,
    execution: Execution | None = None,
    begins_T: jax.Array | None = None,
) -> tuple[Params, Carry, jax.Array]:
    """Scores one chunk of a text, then takes a step against the gradient of its loss.

    Pure: it can be jitted, and mapped over texts that have weights of their own.

    Args:
      params: the weights so far.
      carry: the state before the chunk, of a batch of one.
      x_T: the chunk, as ids.
      y_T: the character after each.
      anchor: the rule with what it needs to know of the trained model (see
        `charjax.predict.dynamic_rule.anchor_of`).
      execution: how the model runs.
      begins_T: true where a document begins.

    Returns:
      The weights after the step, the carry after the chunk, and `log_probs_TxV`, which
      the weights before the step gave. The gradient is that of `charjax.loss`.

    Example:
      >>> import charjax, jax
      >>> from charjax.predict.dynamic_rule import anchor_of
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> anchor = anchor_of(params, None, charjax.DynamicRule("sgd"))
      >>> ids, carry = vocab.encode("hello"), charjax.initial_carry(params, 1)
      >>> params, carry, log_probs_TxV = dynamic_step(
      ...     params, carry, ids[:-1], ids[1:], anchor)
      >>> log_probs_TxV.shape
      (4, 8)
    """
    gradient, carry, log_probs_TxV = gradient_of(
        params, carry, x_T, y_T, execution, begins_T
    )
    # Without a barrier XLA computes what the rule makes of the anchor before a loop
    # over chunks, and in the loop reads more arrays as large as the model.
    now = jax.lax.optimization_barrier((params, gradient, anchor))
    return moved(*now), carry, log_probs_TxV


def gradient_of(
    params: Params,
    carry: Carry,
    x_T: jax.Array,
    y_T: jax.Array,
    execution: Execution | None,
    begins_T: jax.Array | None,
) -> tuple[Params, Carry, jax.Array]:
    """Returns the gradient of a chunk's mean loss, the carry and `log_probs_TxV`."""

    def chunk_loss(params: Params) -> Any:
        out = _forward_one(params, x_T, carry, begins_T, execution)
        return mean_nats(out.logits_TxBxV, y_T[:, None]), out

    gradient, out = jax.grad(chunk_loss, has_aux=True)(params)
    return gradient, out.carry, jax.nn.log_softmax(out.logits_TxBxV[:, 0])


def _forward_one(
    params: Params,
    ids_T: jax.Array,
    carry: Carry,
    begins_T: jax.Array | None,
    execution: Execution | None,
) -> Output:
    """Returns what a model makes of one text."""
    begins_Tx1 = None if begins_T is None else begins_T[:, None]
    ids_Tx1 = ids_T[:, None]
    return forward(params, ids_Tx1, carry, begins_TxB=begins_Tx1, execution=execution)


@partial(jit_forward, static_argnames=("chunk_length", "learns", "execution"))
def read_chunks(
    anchor: Anchor,
    params: Params,
    carry: Carry,
    ids_SxB: jax.Array,
    begins_SxB: jax.Array | None,
    count: jax.Array,
    *,
    chunk_length: int,
    learns: bool,
    execution: Execution,
) -> tuple[Params, Carry, jax.Array]:
    """Learns from the first `count` chunks, and reads the one after them.

    Args:
      anchor: the rule.
      params: the weights of each text.
      carry: the state of each text.
      ids_SxB: chunks of characters. What follows those that are known may be anything:
        it changes no probability before it.
      begins_SxB: true where a document begins; None where there are none.
      count: how many chunks to learn from.
      chunk_length: characters a chunk.
      learns: whether steps are taken.
      execution: how the model runs.

    Returns:
      The weights and the carry after `count` chunks, and `log_probs_SxBxV` of one chunk
      more.
    """
    text = ids_SxB.T, None if begins_SxB is None else begins_SxB.T
    (B, S), V = text[0].shape, params.readout_bias_V.shape[-1]

    def read_one(params: Params, carry: Carry, text: Any) -> Any:
        out = _forward_one(params, text[0], carry, text[1], execution)
        return params, out.carry, jax.nn.log_softmax(out.logits_TxBxV[:, 0])

    def at(i: jax.Array, length: int) -> Any:
        return jax.tree.map(
            lambda x_BxS: jax.lax.dynamic_slice_in_dim(
                x_BxS, i * chunk_length, length, 1
            ),
            text,
        )

    def write(log_probs_BxSxV: jax.Array, i: jax.Array, chunk_BxTxV: jax.Array) -> Any:
        return jax.lax.dynamic_update_slice_in_dim(
            log_probs_BxSxV, chunk_BxTxV, i * chunk_length, 1
        )

    def learn(i: jax.Array, loop: Any) -> Any:
        params, carry, log_probs_BxSxV = loop

        def learn_one(params: Params, carry: Carry, text: Any) -> Any:
            x_T, begins_T = jax.tree.map(lambda x: x[:-1], text)
            if not learns:
                return read_one(params, carry, (x_T, begins_T))
            y_T = text[0][1:]
            return dynamic_step(params, carry, x_T, y_T, anchor, execution, begins_T)

        params, carry, chunk_BxTxV = _each_text(
            learn_one, params, carry, at(i, chunk_length + 1)
        )
        return params, carry, write(log_probs_BxSxV, i, chunk_BxTxV)

    log_probs_BxSxV = jnp.zeros((B, S, V), params.readout_bias_V.dtype)
    loop = params, carry, log_probs_BxSxV
    params, carry, log_probs_BxSxV = jax.lax.fori_loop(0, count, learn, loop)
    _, _, chunk_BxTxV = _each_text(read_one, params, carry, at(count, chunk_length))
    log_probs_BxSxV = write(log_probs_BxSxV, count, chunk_BxTxV)
    return params, carry, jnp.swapaxes(log_probs_BxSxV, 0, 1)


def _each_text(function: Any, *trees: Any) -> Any:
    """Returns `jax.vmap(function)(*trees)`, without the vmap for a single text."""
    if len(jax.tree.leaves(trees)[0]) > 1:
        return jax.vmap(function)(*trees)
    first = jax.tree.map(lambda x_B: x_B[0], trees)
    return jax.tree.map(lambda x: x[None], function(*first))
