"""Penalties: against their equations in NumPy, by segments, and off by default."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import charjax
from charjax import Execution, Noise
from charjax.model import Penalties, chunk_loss
from charjax.model.forward import forward
from charjax.training import create_state, make_train_step
from tests.models import make

KEY = jax.random.key(4)
IDS_TxB = np.random.default_rng(0).integers(0, 7, (9, 3))
X_TxB, Y_TxB = IDS_TxB[:-1], IDS_TxB[1:]
NOISE = Noise(dropout=0.5, dropout_mode="locked")
ALL = Penalties(activation_penalty=2.0, temporal_penalty=3.0, label_smoothing=0.1)


def read(params, penalties, segment_length=0, x_TxB=X_TxB, y_TxB=Y_TxB):
    return chunk_loss(
        params, x_TxB, y_TxB, charjax.initial_carry(params, 3),
        noise=NOISE, key=KEY, penalties=penalties,
        execution=Execution(segment_length=segment_length),
    )  # fmt: skip


def equal(got, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected
    )


def by_equations(params, penalties, np=np):
    """The objective, from the logits and the last layer's outputs."""
    out = forward(params, X_TxB, noise=NOISE, key=KEY)
    p_TxBxV = jax.nn.softmax(out.logits_TxBxV)
    target_TxBxV = np.eye(7)[Y_TxB] * (1 - penalties.label_smoothing)
    target_TxBxV = target_TxBxV + penalties.label_smoothing / 7
    loss = -np.mean(np.sum(target_TxBxV * np.log(p_TxBxV), axis=-1))
    h_TxBxH = out.layers[-1]
    # A unit is dropped where the read-out's input is zero; the others are doubled.
    kept_TxBxH = 2 * h_TxBxH * (out.dropped_TxBxH != 0)
    activation = np.mean(kept_TxBxH**2)
    temporal = np.mean((h_TxBxH[1:] - h_TxBxH[:-1]) ** 2)
    return (
        loss
        + penalties.activation_penalty * activation
        + penalties.temporal_penalty * temporal
    )


@pytest.mark.parametrize("penalties", [
    Penalties(activation_penalty=2.0),
    Penalties(temporal_penalty=3.0),
    Penalties(label_smoothing=0.1),
    ALL,
])  # fmt: skip
def test_the_objective_and_its_gradient_are_those_of_the_equations(penalties):
    params = make(cell="gru")
    got, grads = jax.value_and_grad(lambda p: read(p, penalties).objective)(params)
    assert float(got) == pytest.approx(float(by_equations(params, penalties)), rel=1e-5)
    expected = jax.grad(lambda p: by_equations(p, penalties, jnp))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, expected
    )
    plain = read(params, None)
    assert float(got) != pytest.approx(float(plain.nats), rel=1e-3)
    np.testing.assert_allclose(read(params, penalties).nats, plain.nats, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 4])
def test_the_objective_by_segments_is_that_of_the_whole(length):
    params = make(cell="gru")
    whole, parts = (
        jax.value_and_grad(lambda p, n: read(p, ALL, n).objective)(
            params, segment_length
        )
        for segment_length in (0, length)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, parts)


def test_a_chunk_of_one_character_has_no_change_to_penalise():
    params = make(cell="gru")
    penalties = Penalties(temporal_penalty=3.0)
    single = read(params, penalties, 0, X_TxB[:1], Y_TxB[:1])
    np.testing.assert_array_equal(single.objective, single.nats)


def test_without_penalties_the_objective_is_the_loss_itself():
    params = make(cell="gru")

    def traced(penalties):
        grad = jax.grad(lambda p: read(p, penalties).objective)
        return str(jax.make_jaxpr(grad)(params))

    def plain(params):
        loss, _ = charjax.loss(params, X_TxB.T, Y_TxB.T, noise=NOISE, key=KEY)
        return loss

    assert traced(None) == traced(Penalties())
    got = jax.jit(jax.grad(lambda p: read(p, None).objective))(params)
    expected = jax.jit(jax.grad(plain))(params)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_a_step_follows_the_objective_and_records_the_loss():
    params, optimizer = make(cell="gru"), optax.sgd(1.0)
    state = create_state(params, optimizer, KEY, 3)
    stepped, metrics = make_train_step(optimizer, penalties=ALL)(state, IDS_TxB.T)

    def objective(params):
        carry = charjax.initial_carry(params, 3)
        return chunk_loss(params, X_TxB, Y_TxB, carry, penalties=ALL).objective

    grads = jax.grad(objective)(params)
    moved = jax.tree.map(lambda w, g: w - g, params, grads)
    equal(stepped.params, moved)
    loss, _ = charjax.loss(params, X_TxB.T, Y_TxB.T)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-6)


@pytest.mark.parametrize(("fields", "message"), [
    ({"activation_penalty": -1.0}, "activation_penalty must be at least 0; got -1.0"),
    ({"temporal_penalty": float("inf")}, "temporal_penalty must be .*; got inf. Try 1"),
    ({"label_smoothing": 1.0}, r"label_smoothing must be in .* got 1.0. Try 0.1"),
    ({"label_smoothing": "a"}, "label_smoothing must be .*; got 'a'"),
])  # fmt: skip
def test_penalties_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(charjax.ConfigError, match=message) as error:
        Penalties(**fields)
    assert "\n" not in str(error.value)
