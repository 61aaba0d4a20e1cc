"""Flax's nn.RNN with optax at the same work, jitted as its users would."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.workers import Turn

CELLS = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}


class CharModel(nn.Module):
    """One-hot characters, recurrent layers, a linear read-out."""

    cell: str
    vocab: int
    hidden: int
    layers: int

    @nn.compact
    def __call__(self, ids_BxT: jax.Array, carry: Any) -> tuple[Any, jax.Array]:
        """Returns the state after the last character, and the logits."""
        x = jax.nn.one_hot(ids_BxT, self.vocab)
        carries = []
        for i in range(self.layers):
            rnn = nn.RNN(CELLS[self.cell](self.hidden), return_carry=True)
            last, x = rnn(x, initial_carry=None if carry is None else carry[i])
            carries.append(last)
        return tuple(carries), nn.Dense(self.vocab)(x)


def train(
    *,
    cell: str,
    vocab: int,
    hidden: int,
    layers: int,
    batch: int,
    length: int,
    steps: int,
) -> Turn:
    """Returns the work of training steps, truncated back-propagation through time."""
    net = CharModel(cell, vocab, hidden, layers)
    random = np.random.default_rng(0)
    ids_BxL = random.integers(0, vocab, (batch, 8 * length + 1), dtype=np.int32)
    params = net.init(jax.random.key(0), ids_BxL[:, :length], None)
    carry, _ = net.apply(params, ids_BxL[:, :length], None)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(2e-3))

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params: Any, memory: Any, carry: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            output: Any = net.apply(params, x, carry)
            last, logits_BxTxV = output
            nats = optax.softmax_cross_entropy_with_integer_labels(logits_BxTxV, y)
            return jnp.mean(nats), last

        (value, last), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory, last, value

    state = params, optimizer.init(params), carry

    def turn() -> None:
        nonlocal state
        for i in range(steps):
            chunk = ids_BxL[:, i % 8 * length :][:, : length + 1]
            *state, value = step(*state, chunk[:, :-1], chunk[:, 1:])
            value.block_until_ready()

    return turn
