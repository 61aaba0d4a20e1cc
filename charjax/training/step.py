"""One training step, and the jitted form that takes several."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from charjax import parallel
from charjax.cells.base import Carry
from charjax.cells.wrap import bernoulli, select_lanes
from charjax.devices import current_platform, training_options
from charjax.model import Noise, Params, Penalties, chunk_loss, initial_carry
from charjax.training.averages import Averaging
from charjax.training.state import TrainState
from charjax.unroll import Execution


class Metrics(NamedTuple):
    """What a step measured.

    Attributes:
      loss: mean loss of the chunk in nats a character, before the update.
      grad_norm: norm of the gradient, before clipping.
    """

    loss: jax.Array
    grad_norm: jax.Array


class DispatchMetrics(NamedTuple):
    """What the steps of a dispatch measured; entries beyond its count are zero.

    Attributes:
      loss_K: `Metrics.loss` of each step.
      grad_norm_K: `Metrics.grad_norm` of each step.
      param_norm: norm of the weights after the last step.
    """

    loss_K: jax.Array
    grad_norm_K: jax.Array
    param_norm: jax.Array


TrainStep = Callable[..., tuple[TrainState, Metrics]]
Advance = Callable[[TrainState, Any, Any], tuple[TrainState, DispatchMetrics]]


def make_train_step(
    optimizer: optax.GradientTransformation,
    *,
    steps_per_epoch: int = 0,
    reset_rate: float = 0.0,
    averaging: Averaging | None = None,
    noise: Noise | None = None,
    penalties: Penalties | None = None,
    execution: Execution | None = None,
    mesh: Mesh | None = None,
) -> TrainStep:
    """Returns `train_step(state, ids_BxL, begins_BxT=None, counts_BxT=None)`.

    It returns `(state, metrics)`.

    One step is truncated back-propagation through time on a chunk of T = L - 1
    characters: the input is `ids[:, :-1]`, the target `ids[:, 1:]`, the first carry is
    that of the step before, and zero before an input where `begins` is true. The loss
    is the mean over the targets for which `counts` is true. The function is pure.

    Args:
      optimizer: what turns gradients into updates.
      steps_per_epoch: the carry is zero at the first step of each epoch; 0: only at
        the first step of all.
      reset_rate: probability that it is zero at any other step, drawn for each lane.
        Without resets the model never sees a zero state again, so that sampling,
        which starts from one, is out of distribution.
      averaging: what the state's averages are; the same as for `create_state`.
      noise: the random changes of a step; none by default.
      penalties: what the gradient is of beside the loss; nothing by default.
      execution: how the model runs.
      mesh: devices that share the lanes (see `charjax.parallel`); None for one. The
        gradient is the same up to rounding.

    Returns:
      The function. It is not jitted, so that it can be part of a larger one; its batch
      holds ids of any integer type.

    Example:
      >>> import charjax, jax, optax
      >>> from charjax.training import create_state, make_train_step
      >>> vocab = charjax.Vocab.of("hello world")
      >>> spec = charjax.ModelSpec(hidden_size=8)
      >>> params = charjax.init(jax.random.key(0), spec, vocab)
      >>> optimizer = optax.adam(1e-2)
      >>> state = create_state(params, optimizer, jax.random.key(1), batch_size=1)
      >>> train_step = jax.jit(make_train_step(optimizer))
      >>> state, metrics = train_step(state, vocab.encode("hello world")[None])
      >>> int(state.step)
      1
    """

    def read_share(
        params: Any, x_TxB: jax.Array, y_TxB: jax.Array, begins_TxB: Any,
        weights_TxB: Any, carry: Carry, key: jax.Array,
    ) -> tuple[jax.Array, Any, Carry]:  # fmt: skip
        share = parallel.share(x_TxB.shape[1], mesh)

        def objective(params: Params) -> tuple[jax.Array, tuple[jax.Array, Carry]]:
            read = chunk_loss(
                params, x_TxB, y_TxB, carry, begins_TxB=begins_TxB,
                weights_TxB=weights_TxB, noise=noise, key=key, penalties=penalties,
                execution=execution, share=share,
            )  # fmt: skip
            return read.objective, (read.nats, read.carry)

        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        (_, (loss, carry)), grads = value_and_grad(params)
        return *parallel.mean((loss, grads), mesh), carry

    whole, lanes, time_by_lanes = parallel.WHOLE, parallel.LANES, parallel.TIME_BY_LANES
    read = parallel.on_shares(
        read_share,
        mesh,
        in_specs=(whole, *4 * (time_by_lanes,), lanes, whole),
        out_specs=(whole, whole, lanes),
    )

    def train_step(
        state: TrainState,
        ids_BxL: jax.Array,
        begins_BxT: jax.Array | None = None,
        counts_BxT: jax.Array | None = None,
    ) -> tuple[TrainState, Metrics]:
        ids_LxB = jnp.asarray(ids_BxL).T.astype(jnp.int32)
        x_TxB, y_TxB = ids_LxB[:-1], ids_LxB[1:]
        key_reset, key = jax.random.split(jax.random.fold_in(state.key, state.step))
        is_reset_B = bernoulli(key_reset, reset_rate, (x_TxB.shape[1],))
        if steps_per_epoch:
            is_reset_B |= state.step % steps_per_epoch == 0
        zero = initial_carry(state.params, x_TxB.shape[1])
        carry = jax.tree.map(partial(select_lanes, is_reset_B), zero, state.carry)
        begins_TxB = None if begins_BxT is None else jnp.asarray(begins_BxT).T
        weights_TxB = None
        if counts_BxT is not None:  # over all devices, before they share the lanes
            weights_TxB = jnp.asarray(counts_BxT, jnp.float32).T
            weights_TxB /= jnp.mean(weights_TxB)
        # optax types pytrees as nests of its own containers.
        weights: Any = state.params
        loss, grads, carry = read(
            weights, x_TxB, y_TxB, begins_TxB, weights_TxB, carry, key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, weights)
        params: Any = optax.apply_updates(weights, updates)
        averages = state.averages
        if averages is not None and averaging is not None:
            averages = averaging.update(averages, state.step, params, opt_state)
        state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            carry=carry,
            averages=averages,
        )
        return state, Metrics(loss, optax.tree.norm(grads))

    return train_step


def make_advance(train_step: TrainStep, *, seq_length: int, max_count: int) -> Advance:
    """Returns `several(...)` of the same arguments, jitted; the state is donated."""
    return jax.jit(
        several(train_step, seq_length=seq_length, max_count=max_count),
        donate_argnums=0,
        compiler_options=training_options(current_platform()),
    )


def several(train_step: TrainStep, *, seq_length: int, max_count: int) -> Advance:
    """Returns `advance(state, window, count)`, which takes `count` training steps.

    Several steps in one call keep the device busy while the host reads losses. `count`
    is a traced value, so calls of any length up to `max_count` share one compilation.

    Args:
      train_step: a step, as `make_train_step` returns it.
      seq_length: T, the characters of a chunk.
      max_count: K, the most steps a call takes.

    Returns:
      The function; its window is `ids_Bx(K*T+1)`, chunks one after the other
      and the last target, of any unsigned integer type. Where the text has documents,
      or characters that do not count, it is that, `begins_Bx(K*T+1)` and
      `counts_Bx(K*T+1)`, each of these None where it is not needed.
    """

    def advance(
        state: TrainState, window: Any, count: jax.Array
    ) -> tuple[TrainState, DispatchMetrics]:
        ids_BxL, *marks = window if isinstance(window, tuple) else (window,)

        def body(i: jax.Array, loop: Any) -> Any:
            state, loss_K, norm_K = loop
            chunk = jax.lax.dynamic_slice_in_dim(
                ids_BxL, i * seq_length, seq_length + 1, axis=1
            )
            marks_of_chunk = jax.tree.map(
                lambda marks_BxL: jax.lax.dynamic_slice_in_dim(
                    marks_BxL, i * seq_length, seq_length, axis=1
                ),
                marks,
            )
            state, metrics = train_step(state, chunk, *marks_of_chunk)
            return (
                state,
                loss_K.at[i].set(metrics.loss),
                norm_K.at[i].set(metrics.grad_norm),
            )

        zeros_K = jnp.zeros(max_count)
        state, loss_K, norm_K = jax.lax.fori_loop(
            0, count, body, (state, zeros_K, zeros_K)
        )
        return state, DispatchMetrics(loss_K, norm_K, optax.tree.norm(state.params))

    return advance
