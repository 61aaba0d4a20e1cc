"""The training step: pure, the same in a dispatch, saved with all its fields."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import charjax
from charjax import checkpoint
from charjax.model import Noise
from charjax.training.state import (
    TrainState,
    create_state,
    restore_state,
    saved_parts,
)
from charjax.training.step import make_advance, make_train_step

OPTIMIZER = optax.adam(1e-2)


def make_state(batch_size=2):
    spec = charjax.ModelSpec(hidden_size=4, num_layers=1)
    params = charjax.init(jax.random.key(0), spec, charjax.Vocab.of("abc"))
    return create_state(params, OPTIMIZER, jax.random.key(1), batch_size)


def arrays_of(state):
    keys_as_data = jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ),
        state,
    )
    return jax.tree.map(np.asarray, keys_as_data)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, arrays_of(first), arrays_of(second))


def test_a_step_is_pure_and_leaves_its_state_as_it_is():
    state, ids_BxL = make_state(), np.array([[0, 1, 2, 0], [2, 1, 0, 2]], np.uint8)
    before = arrays_of(state)
    train_step = jax.jit(make_train_step(OPTIMIZER, reset_rate=0.5))
    once, again = train_step(state, ids_BxL), train_step(state, ids_BxL)
    assert_equal(once, again)
    assert_equal(state, before)
    assert int(once[0].step) == 1


def test_a_step_follows_the_gradient_of_the_chunks_loss():
    state, ids_BxL = make_state(), np.array([[0, 1, 2, 0], [2, 1, 0, 2]], np.uint8)

    def objective(params):
        return charjax.loss(params, ids_BxL[:, :-1], ids_BxL[:, 1:], state.carry)[0]

    loss, grads = jax.value_and_grad(objective)(state.params)
    updates, _ = OPTIMIZER.update(grads, state.opt_state, state.params)
    stepped, metrics = make_train_step(OPTIMIZER)(state, ids_BxL)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-6)
    np.testing.assert_allclose(metrics.grad_norm, optax.tree.norm(grads), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        stepped.params,
        optax.apply_updates(state.params, updates),
    )


def test_the_steps_of_a_dispatch_are_single_steps_in_a_row():
    ids_BxL = np.arange(26).reshape(2, 13) % 3
    train_step = make_train_step(
        OPTIMIZER, steps_per_epoch=3, reset_rate=0.3, noise=Noise(dropout=0.2)
    )
    single, losses = make_state(), []
    for k in range(4):
        single, metrics = jax.jit(train_step)(single, ids_BxL[:, 3 * k :][:, :4])
        losses.append(metrics.loss)
    advance = make_advance(train_step, seq_length=3, max_count=6)
    padded_BxL = np.pad(ids_BxL, ((0, 0), (0, 6)))
    several, metrics = advance(make_state(), padded_BxL, 4)
    np.testing.assert_allclose(metrics.loss_K[:4], losses, rtol=1e-5)
    np.testing.assert_array_equal(metrics.loss_K[4:], 0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        arrays_of(several),
        arrays_of(single),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class AveragedState(TrainState):
    """A state with a field more."""

    average: jax.Array


def save(state, folder):
    return checkpoint.save(
        folder,
        *saved_parts(state),
        step=int(state.step),
        epoch=0.0,
        loss=None,
        loss_of="val",
        config={},
        progress={},
    )


def test_every_field_of_the_state_is_saved_and_restored(tmp_path):
    plain = make_state()
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    state = AveragedState(**fields, average=jnp.arange(3.0))
    template = jax.eval_shape(lambda: state)
    restored = restore_state(save(state, tmp_path), template)
    assert type(restored) is AveragedState
    assert_equal(restored, state)


def test_a_field_that_a_checkpoint_lacks_is_named(tmp_path):
    plain = make_state()
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    state = AveragedState(**fields, average=jnp.arange(3.0))
    path = save(plain, tmp_path)
    with pytest.raises(charjax.CheckpointError, match="average"):
        restore_state(path, jax.eval_shape(lambda: state))


def test_the_names_of_saved_arrays_are_those_of_older_checkpoints(tmp_path):
    names = checkpoint.read(save(make_state(), tmp_path)).leaves
    assert {"training['step']", "training['key']"} <= set(names)
    assert any(
        name.startswith("training['opt_state'][0].mu.layers[0]") for name in names
    )
    assert any(name.startswith("training['carry'][0]") for name in names)
    assert any(name.startswith("params.layers[0]") for name in names)
