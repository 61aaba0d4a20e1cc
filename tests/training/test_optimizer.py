"""Optimiser and schedule against char-rnn's update written out in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import charjax
from charjax.config import default_config
from charjax.training.configured import frozen
from charjax.training.optimizer import make_optimizer, make_schedule, with_rate
from configs import char_rnn


def schedule_of(steps_per_epoch=10, total_steps=100, **fields):
    config = default_config().optimizer
    config.update(fields)
    return make_schedule(
        config, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )


def test_char_rnns_rate_falls_by_three_percent_an_epoch_after_the_tenth():
    config = char_rnn.get_config().optimizer
    schedule = make_schedule(config, steps_per_epoch=7, total_steps=10_000)
    rate, expected = 2e-3, []
    for epoch in range(1, 16):
        expected += [rate] * 7
        if epoch >= 10:
            rate *= 0.97
    rates = [float(schedule(step)) for step in range(15 * 7)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_char_rnns_update_is_rmsprop_on_the_summed_and_clipped_gradient():
    config = char_rnn.get_config().optimizer
    schedule = make_schedule(config, steps_per_epoch=100, total_steps=10_000)
    optimizer = make_optimizer(config, schedule, seq_length=50)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 3))
    ours, mean_square = jnp.asarray(weights), np.zeros((4, 3))
    state = optimizer.init(ours)
    for _ in range(20):
        grad = rng.normal(size=(4, 3)) * 0.2
        updates, state = optimizer.update(jnp.asarray(grad), state, ours)
        ours = optax.apply_updates(ours, updates)
        clipped = np.clip(50 * grad, -5, 5)
        mean_square = 0.95 * mean_square + 0.05 * clipped**2
        weights = weights - 2e-3 * clipped / (np.sqrt(mean_square) + 1e-8)
    np.testing.assert_allclose(ours, weights, rtol=1e-4)


def test_the_cosine_warms_up_and_ends_at_its_final_fraction():
    schedule = schedule_of(learning_rate=1.0, warmup_steps=20, final_fraction=0.1)
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates[0] == pytest.approx(1 / 20)
    assert np.all(np.diff(rates[:20]) > 0)
    assert np.all(np.diff(rates[21:]) < 0)
    assert rates[100] == pytest.approx(0.1)


def test_the_constant_schedule_is_constant_once_warm():
    schedule = schedule_of(schedule="constant", learning_rate=0.5, warmup_steps=2)
    assert [float(schedule(step)) for step in (0, 1, 2, 99)] == [0.25, 0.5, 0.5, 0.5]


def one_update(grad, params, **fields):
    config = default_config().optimizer
    config.update({"schedule": "constant", "warmup_steps": 0, "learning_rate": 1.0})
    config.update(fields)
    schedule = make_schedule(config, steps_per_epoch=1, total_steps=1)
    optimizer = make_optimizer(config, schedule, seq_length=10)
    return optimizer.update(grad, optimizer.init(params), params)[0]


def test_the_clip_modes_bound_the_norm_of_all_or_each_apart():
    grad = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([0.0, -4.0])}
    plain = {"name": "sgd", "b1": 0.0, "grad_clip": 1.0}
    by_norm = one_update(grad, grad, clip_mode="norm", **plain)
    np.testing.assert_allclose(by_norm["a"], [-0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(by_norm["b"], [0, 0.8], rtol=1e-6)
    by_value = one_update(grad, grad, clip_mode="value", **plain)
    np.testing.assert_allclose(by_value["b"], [0, 1])
    free = one_update(grad, grad, **(plain | {"grad_clip": 0.0}))
    np.testing.assert_allclose(free["b"], [0, 4])


def test_weight_decay_pulls_matrices_and_leaves_biases_alone():
    params = {"matrix": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zero = {"matrix": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates = one_update(zero, params, name="adamw", weight_decay=0.1)
    np.testing.assert_allclose(updates["matrix"], -0.1, rtol=1e-5)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize("name", ["adamw", "adam", "rmsprop", "sgd"])
def test_every_optimiser_goes_downhill(name):
    grad = jnp.array([[1.0, -2.0]])
    updates = one_update(grad, jnp.ones((1, 2)), name=name, weight_decay=0.0)
    assert np.all(np.sign(updates) == -np.sign(grad))


def test_gradients_of_several_steps_make_one_update_of_their_mean():
    params = jnp.ones((1, 2))
    config = default_config().optimizer
    config.update({"name": "sgd", "b1": 0.5, "grad_clip": 0.0, "accumulate": 3})
    config.update({"schedule": "cosine", "warmup_steps": 0, "learning_rate": 0.5})
    schedule = make_schedule(config, steps_per_epoch=1, total_steps=6)
    optimizer = make_optimizer(config, schedule, seq_length=10)
    state, w, moved = optimizer.init(params), params, []
    grads = np.random.default_rng(0).normal(size=(6, 1, 2))
    for grad in grads:
        updates, state = optimizer.update(jnp.asarray(grad), state, w)
        w = optax.apply_updates(w, updates)
        moved.append(np.asarray(w))
    first = 1 - 0.5 * grads[:3].mean(0)
    momentum = 0.5 * grads[:3].mean(0) + grads[3:].mean(0)
    np.testing.assert_array_equal(moved[:2], [params, params])
    np.testing.assert_allclose(moved[2], first, rtol=1e-5)
    # The rate is that of the fourth step, not of the second.
    np.testing.assert_allclose(
        moved[5], first - float(schedule(3)) * momentum, rtol=1e-5
    )


def model(**spec):
    spec = charjax.ModelSpec(hidden_size=4, **spec)
    return charjax.init(jax.random.key(0), spec, charjax.Vocab.of("abc"))


def test_frozen_parts_stay_as_they_are_and_count_for_no_clipping():
    params = model(embedding_size=3)
    grads = jax.tree.map(jnp.ones_like, params)
    is_frozen = frozen(params, "embedding, layer2")
    config = default_config().optimizer
    config.update({"name": "adamw", "weight_decay": 0.1, "warmup_steps": 0})
    config.learning_rate = 0.01
    updates = []
    for clipped in (
        grads,
        dataclasses.replace(grads, embedding_VxE=1e6 * grads.embedding_VxE),
    ):
        schedule = make_schedule(config, steps_per_epoch=1, total_steps=6)
        optimizer = make_optimizer(config, schedule, seq_length=10, is_frozen=is_frozen)
        updates.append(optimizer.update(clipped, optimizer.init(params), params)[0])
    jax.tree.map(np.testing.assert_array_equal, *updates)
    for part in (updates[0].embedding_VxE, *updates[0].layers[1]):
        np.testing.assert_array_equal(part, 0)
    for part in (*updates[0].layers[0], updates[0].readout_HxV):
        assert np.all(part != 0)


@pytest.mark.parametrize("names", ["embedding", "layer3", "layer1,layer2,readout", ","])
def test_parts_that_are_not_there_or_all_parts_cannot_be_frozen(names):
    with pytest.raises(charjax.ConfigError, match=r"some of layer1,layer2,readout,"):
        frozen(model(), names)


@pytest.mark.parametrize(
    ("size", "characters", "accumulate", "rate"),
    [
        (128, 2500, 1, 0.05),
        (2048, 2500, 1, 0.025),
        (128, 5000, 2, 0.05),
        (128, 100, 1, 0.01),
        (128, 100, 4, 0.02),
        (2, 10**6, 1, 0.1),
    ],
)
def test_a_rate_of_zero_follows_from_the_sizes(size, characters, accumulate, rate):
    config = default_config()
    config.model.hidden_size = size
    config.data.update(batch_size=characters // 50, seq_length=50)
    config.optimizer.accumulate = accumulate
    assert with_rate(config).optimizer.learning_rate == pytest.approx(rate)
    config.optimizer.learning_rate = 0.5
    assert with_rate(config).optimizer.learning_rate == 0.5
