"""The state of a run, and the jitted function that takes it several steps on."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from charjax.cells.base import Carry
from charjax.devices import current_platform, training_options
from charjax.model import Noise, Params, chunk_loss, initial_carry
from charjax.unroll import Execution


class TrainState(struct.PyTreeNode):
    """All that a run is: with it and the text, the next steps are determined.

    Attributes:
      step: steps taken, int32; with the text it gives the position in the data.
      params: the model.
      opt_state: the optimiser's memory.
      carry: the recurrent state after the last chunk.
      key: the run's one base key; step n draws from `fold_in(key, n)`.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    carry: Carry
    key: jax.Array


class Metrics(NamedTuple):
    """What each step of a dispatch measured; entries beyond its count are zero.

    Attributes:
      loss_K: mean loss in nats a character.
      grad_norm_K: norm of the gradient of that mean, before clipping.
      param_norm: norm of the weights after the last step.
    """

    loss_K: jax.Array
    grad_norm_K: jax.Array
    param_norm: jax.Array


Advance = Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]


def create_state(
    params: Params, optimizer: optax.GradientTransformation, key: jax.Array, batch: int
) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=optimizer.init(params),  # pyright: ignore[reportArgumentType]
        carry=initial_carry(params, batch),
        key=key,
    )


def make_advance(
    optimizer: optax.GradientTransformation,
    *,
    seq_length: int,
    max_count: int,
    steps_per_epoch: int,
    reset_rate: float = 0.0,
    noise: Noise,
    execution: Execution,
) -> Advance:
    """Returns `advance(state, window, count)`, which takes `count` training steps.

    Several steps in one call keep the device busy; `count` is dynamic, so calls of any
    length up to `max_count` share one compilation. The state is donated.

    Args:
      optimizer: what turns gradients into updates.
      seq_length: T, the characters of a chunk.
      max_count: K, the most steps a call takes.
      steps_per_epoch: the carry is zero again at the first step of each epoch.
      reset_rate: chance that it is at any other step, drawn for each lane. A state
        that is never reset drifts to where a model that starts from zero, as in
        sampling, has never been.
      noise: dropout.
      execution: how the model runs.

    Returns:
      The jitted function; its window is `ids_Bx(K*T+1)`, chunks one after the other
      and the last target, of any unsigned integer type.
    """

    def take_step(
        state: TrainState, x_TxB: jax.Array, y_TxB: jax.Array
    ) -> tuple[TrainState, jax.Array, jax.Array]:
        key_reset, key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch_size = x_TxB.shape[1]
        is_first = state.step % steps_per_epoch == 0
        is_reset_B = is_first | jax.random.bernoulli(
            key_reset, reset_rate, (batch_size,)
        )
        zero = initial_carry(state.params, batch_size)
        carry = jax.tree.map(partial(_choose, is_reset_B), zero, state.carry)

        def objective(params: Params) -> tuple[jax.Array, Carry]:
            return chunk_loss(
                params, x_TxB, y_TxB, carry, noise=noise, key=key, execution=execution
            )

        # optax types pytrees as nests of its own containers.
        weights: Any = state.params
        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        (loss, carry), grads = value_and_grad(weights)
        updates, opt_state = optimizer.update(grads, state.opt_state, weights)
        params = optax.apply_updates(weights, updates)
        state = state.replace(
            step=state.step + 1, params=params, opt_state=opt_state, carry=carry
        )
        return state, loss, optax.tree.norm(grads)

    def advance(
        state: TrainState, window_BxL: jax.Array, count: jax.Array
    ) -> tuple[TrainState, Metrics]:
        ids_LxB = window_BxL.T.astype(jnp.int32)

        def body(i: jax.Array, loop: Any) -> Any:
            state, loss_K, norm_K = loop
            chunk = jax.lax.dynamic_slice_in_dim(
                ids_LxB, i * seq_length, seq_length + 1
            )
            state, loss, norm = take_step(state, chunk[:-1], chunk[1:])
            return state, loss_K.at[i].set(loss), norm_K.at[i].set(norm)

        nothing = jnp.zeros(max_count)
        state, loss_K, norm_K = jax.lax.fori_loop(
            0, count, body, (state, nothing, nothing)
        )
        return state, Metrics(loss_K, norm_K, optax.tree.norm(state.params))

    return jax.jit(
        advance, donate_argnums=0, compiler_options=training_options(current_platform())
    )


def _choose(is_first_B: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Returns the rows of two arrays with the batch in front, each from one of them."""
    shape = is_first_B.shape + (1,) * (first.ndim - 1)
    return jnp.where(is_first_B.reshape(shape), first, second)
