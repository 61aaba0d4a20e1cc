"""Dynamic evaluation: a model that goes on learning from the text that it reads.

Every chunk of characters is scored with the weights so far, and then a step is taken
against the gradient g of its loss. The carry comes from the chunk before, as in
truncated backpropagation. With w0 the trained weights, the rules are

    sgd   w' = w - rate * g + decay * (w0 - w)
    rms   w' = w - rate * g / (r + epsilon * m) + min(decay * r / m, 1) * (w0 - w)

where r is the root mean square that the gradient of each weight had on the training
text, and m the mean of r over all weights. So weights that training moved much move
much, and are pulled back as much. Krause et al. (2018),
https://arxiv.org/abs/1709.07432, whose epsilon is not relative to m.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.model.forward import forward
from charjax.model.loss import mean_nats
from charjax.model.params import Params, initial_carry
from charjax.predict.dynamic_rule import Anchor, DynamicRule, anchor_of, moved
from charjax.predict.predictor import ModelPredictor, Predictor
from charjax.text.vocab import Vocab
from charjax.unroll.execution import Execution

_PIECE = 1 << 10  # characters read in one call of a compiled function
_LOG_PROBS = 1 << 22  # and at most this many log-probabilities of them


class DynamicState(NamedTuple):
    """What a learning model has made of the texts it has read.

    Attributes:
      params: the weights of each text, which are the first axis.
      carry: the state of each text's layers before `ids_NxB`.
      ids_NxB: the characters that were read but not learned from yet, at most a chunk:
        a step needs the character after the chunk too.
    """

    params: Params
    carry: Carry
    ids_NxB: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamic:
    """A model that learns while it reads, as a predictor.

    Each text of a batch has weights of its own, which takes the model's memory once
    for each. `charjax.sample` lets it learn from the prime only: what it draws is read
    with the weights that the last whole chunk of the prime left.

    Attributes:
      params: the trained model.
      stats: what `gather_statistics` returned; the rule `'sgd'` needs none.
      rule: how it learns.
      execution: how it runs.
      anchor: the rule as `dynamic_step` takes it.

    Raises:
      ConfigError: the rule needs statistics, or those given are of another model.

    Example:
      >>> import charjax, jax
      >>> text = "hello world " * 50
      >>> vocab = charjax.Vocab.of(text)
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> stats = charjax.gather_statistics(params, vocab.encode(text))
      >>> dynamic = charjax.Dynamic(params, stats)
      >>> charjax.score(dynamic, text).nats < charjax.score(params, text).nats
      True
    """

    params: Params
    stats: Params | None = None
    rule: DynamicRule = DynamicRule()  # noqa: RUF009  # frozen
    execution: Execution | None = None
    anchor: Anchor = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        Execution.of(self.execution)
        anchor = anchor_of(self.params, self.stats, self.rule)
        object.__setattr__(self, "anchor", anchor)

    @property
    def vocab(self) -> Vocab:
        """The characters that the ids mean."""
        return self.params.vocab

    def start(self, batch_size: int) -> DynamicState:
        """Returns the state before the first character: the trained weights."""
        params, carry = _start(self.params, batch_size=batch_size)
        return DynamicState(params, carry, np.zeros((0, batch_size), np.int32))

    def read(
        self, state: DynamicState, ids_TxB: np.ndarray
    ) -> tuple[DynamicState, np.ndarray]:
        """Returns the state after more characters, and `log_probs_TxBxV`.

        The text goes through in pieces of a number of chunks, of which the last is read
        in part. So texts of any length share one compilation.
        """
        params, carry, ids_NxB = state
        ids_LxB = np.concatenate([ids_NxB, np.asarray(ids_TxB, np.int32)])
        (L, B), V, k = ids_LxB.shape, len(self.vocab), self.rule.chunk_length
        most = max(1, min(_PIECE, _LOG_PROBS // (B * V)) // k)  # chunks of a piece
        parts = []
        for first in range(0, L, most * k):
            # The chunks that a known character follows are learned from.
            count = min(most, (L - first - 1) // k)
            piece = ids_LxB[first : first + (most + 1) * k]
            ids_SxB = np.zeros(((most + 1) * k, B), np.int32)
            ids_SxB[: len(piece)] = piece
            params, carry, log_probs_SxBxV = _read_chunks(
                *(self.anchor, params, carry, ids_SxB, count),
                chunk_length=k,
                learns=self.rule.step_size > 0,
                execution=Execution.of(self.execution),
            )
            parts.append(np.asarray(log_probs_SxBxV)[: min(L - first, most * k)])
        rest_NxB = ids_LxB[(L - 1) // k * k :]
        log_probs_TxBxV = np.concatenate(parts)[len(ids_NxB) :]
        return DynamicState(params, carry, rest_NxB), log_probs_TxBxV

    def frozen(self, state: DynamicState) -> tuple[Predictor, Any]:
        """Returns what goes on from a state without learning, and its own state.

        For one text it is the model that the text has left, as a `ModelPredictor`. The
        weights of several texts differ, so for these it is this with a rate of 0.
        """
        if state.ids_NxB.shape[1] != 1:
            rule = dataclasses.replace(self.rule, rate=0.0)
            return dataclasses.replace(self, rule=rule), state
        params = _first(state.params)
        model = ModelPredictor(params, Execution.of(self.execution))
        model_state = model.start(1)._replace(carry=_first(state.carry))
        if len(state.ids_NxB):
            model_state, _ = model.read(model_state, state.ids_NxB)
        return model, model_state


def dynamic_step(
    params: Params,
    carry: Carry,
    x_T: jax.Array,
    y_T: jax.Array,
    anchor: Anchor,
    execution: Execution | None = None,
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
    gradient, carry, log_probs_TxV = gradient_of(params, carry, x_T, y_T, execution)
    return moved(params, gradient, anchor), carry, log_probs_TxV


def gradient_of(
    params: Params,
    carry: Carry,
    x_T: jax.Array,
    y_T: jax.Array,
    execution: Execution | None,
) -> tuple[Params, Carry, jax.Array]:
    """Returns the gradient of a chunk's mean loss, the carry and `log_probs_TxV`."""

    def chunk_loss(params: Params) -> Any:
        out = forward(params, x_T[:, None], carry, execution=execution)
        return mean_nats(out.logits_TxBxV, y_T[:, None]), out

    gradient, out = jax.grad(chunk_loss, has_aux=True)(params)
    return gradient, out.carry, jax.nn.log_softmax(out.logits_TxBxV[:, 0])


@partial(jit_forward, static_argnames=("batch_size",))
def _start(params: Params, *, batch_size: int) -> tuple[Params, Carry]:
    def of_each_text(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (batch_size, *x.shape))

    return jax.tree.map(of_each_text, (params, initial_carry(params, 1)))


@jit_forward
def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x_B: x_B[0], tree)


@partial(jit_forward, static_argnames=("chunk_length", "learns", "execution"))
def _read_chunks(
    anchor: Anchor,
    params: Params,
    carry: Carry,
    ids_SxB: jax.Array,
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
      count: how many chunks to learn from.
      chunk_length: characters a chunk.
      learns: whether steps are taken.
      execution: how the model runs.

    Returns:
      The weights and the carry after `count` chunks, and `log_probs_SxBxV` of one chunk
      more.
    """
    ids_BxS = ids_SxB.T
    (B, S), V = ids_BxS.shape, params.readout_bias_V.shape[-1]

    def read_one(params: Params, carry: Carry, ids_T: jax.Array) -> Any:
        out = forward(params, ids_T[:, None], carry, execution=execution)
        return params, out.carry, jax.nn.log_softmax(out.logits_TxBxV[:, 0])

    def at(i: jax.Array, length: int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(ids_BxS, i * chunk_length, length, 1)

    def write(log_probs_BxSxV: jax.Array, i: jax.Array, chunk_BxTxV: jax.Array) -> Any:
        return jax.lax.dynamic_update_slice_in_dim(
            log_probs_BxSxV, chunk_BxTxV, i * chunk_length, 1
        )

    def learn(i: jax.Array, loop: Any) -> Any:
        params, carry, log_probs_BxSxV = loop

        def learn_one(params: Params, carry: Carry, ids_T: jax.Array) -> Any:
            if not learns:
                return read_one(params, carry, ids_T[:-1])
            # Without a barrier XLA computes what the rule makes of the anchor before
            # the loop, and reads more and larger arrays in each step.
            now, _ = jax.lax.optimization_barrier((anchor, i))
            return dynamic_step(params, carry, ids_T[:-1], ids_T[1:], now, execution)

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
