"""Averages of the weights: against plain sums, and in a run that is stopped."""

import jax
import numpy as np
import optax
import pytest

import charjax
from charjax.config import check_config, default_config
from charjax.training import create_state, make_train_step, setup
from charjax.training.averages import NEVER, Averaging, averaging, is_stale
from charjax.training.optimizer import make_optimizer, make_schedule
from tests.training.runs import StopAt, assert_same_end, make_config, quiet

IDS_BxL = np.array([[0, 1, 2, 0], [2, 1, 0, 2]], np.uint8)


def states_of(optimizer, average, num_steps=6):
    """Returns the state after each step of a small run."""
    spec = charjax.ModelSpec(hidden_size=4, num_layers=1)
    params = charjax.init(jax.random.key(0), spec, charjax.Vocab.of("abc"))
    state = create_state(params, optimizer, jax.random.key(1), 2, average)
    train_step = jax.jit(make_train_step(optimizer, averaging=average))
    states = [state]
    for _ in range(num_steps):
        states.append(train_step(states[-1], IDS_BxL)[0])
    return states


def readouts(states):
    return [np.asarray(state.params.readout_HxV, np.float64) for state in states]


def assert_averages(states, expected):
    for state, mean in zip(states, expected, strict=True):
        np.testing.assert_allclose(state.model.readout_HxV, mean, rtol=1e-5, atol=1e-7)


def test_a_moving_mean_is_the_weighted_sum_without_the_first_weights_bias():
    states = states_of(optax.sgd(0.5), Averaging("ema", decay=0.8))
    weights, expected = readouts(states), []
    for n in range(1, 7):
        shares = 0.8 ** np.arange(n - 1, -1, -1.0)
        total = sum(s * w for s, w in zip(shares, weights[1 : n + 1], strict=True))
        expected.append(total / shares.sum())
    assert_averages(states[1:], expected)


def test_a_mean_begins_at_its_first_step():
    states = states_of(optax.sgd(0.5), Averaging("mean", first=2))
    weights = readouts(states)
    expected = [
        weights[n] if n < 3 else np.mean(weights[3 : n + 1], 0) for n in range(7)
    ]
    assert_averages(states, expected)


def test_a_mean_that_never_begins_is_the_weights():
    states = states_of(optax.sgd(0.5), Averaging("mean", first=NEVER))
    assert_averages(states, readouts(states))


def test_averages_do_not_change_the_training():
    plain = states_of(optax.adam(1e-2), None)[-1]
    averaged = states_of(optax.adam(1e-2), Averaging("ema", decay=0.9))[-1]
    assert plain.model is plain.params
    jax.tree.map(np.testing.assert_array_equal, plain.params, averaged.params)


@pytest.mark.parametrize("every", [1, 2])
def test_a_free_schedule_predicts_with_the_mean_of_its_fast_weights(every):
    """With a constant rate x_n is the plain mean of z_1..z_n (Defazio et al. 2024)."""
    config = default_config().optimizer
    config.update({"name": "sgd", "schedule": "free", "warmup_steps": 0})
    config.update({"learning_rate": 0.5, "b1": 0.9, "grad_clip": 0.0})
    config.accumulate = every
    schedule = make_schedule(config, steps_per_epoch=1, total_steps=100)
    optimizer = make_optimizer(config, schedule, seq_length=3)
    states = states_of(optimizer, averaging(config, 1))
    fast = [optax.tree.get(s.opt_state, "z").readout_HxV for s in states]
    for n in range(every, 7):
        taken = np.stack(fast[every : n + 1 : every])
        mean = states[n].model.readout_HxV
        np.testing.assert_allclose(mean, taken.mean(0), rtol=1e-4, atol=1e-6)
        mixed = 0.9 * mean + 0.1 * taken[-1]
        np.testing.assert_allclose(
            states[n].params.readout_HxV, mixed, rtol=1e-4, atol=1e-6
        )


def test_a_validation_is_stale_when_it_loses_to_one_before_the_last_few():
    assert not is_stale([3.0, 2.0, 1.0, 1.5], patience=2)
    assert not is_stale([3.0, 1.0, 1.5, 1.4], patience=3)
    assert is_stale([1.0, 3.0, 2.5, 1.4], patience=2)
    assert not is_stale([1.0], patience=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"ema_decay": 0.9, "name": "muon", "accumulate": 2},
        {"average_patience": 1, "learning_rate": 0.5},
        {"schedule": "free"},
    ],
    ids=["ema", "trigger", "free"],
)
def test_a_run_with_averages_is_continued_bit_for_bit(folder, fields):
    fields = {f"optimizer__{name}": value for name, value in fields.items()}
    fields["train__eval_every"] = 8.0
    whole = quiet(make_config(folder, **fields, train__run_name="whole"))
    config = make_config(folder, **fields)
    for step in (24, 36):
        with pytest.raises(charjax.Stopped):
            charjax.train(config, sinks=[StopAt(step)])
    assert_same_end(quiet(config), whole)


def test_the_loss_and_the_saved_model_are_those_of_the_averaged_weights(folder):
    config = check_config(make_config(folder, optimizer__average_from=1.0))
    run = quiet(config)
    corpus = setup.open_text(config, print)
    vals = setup.make_streams(config, corpus, run.params.vocab).val
    assert charjax.evaluate(run.params, vals) == pytest.approx(run.best_loss)
    plain = quiet(make_config(folder, train__run_name="plain"))
    losses = [
        [r["loss"] for r in r_.history if r["kind"] == "val"] for r_ in (run, plain)
    ]
    assert losses[0][0] == losses[1][0]  # the mean begins with the second epoch
    assert losses[0][2] != losses[1][2]


def test_two_averages_are_refused(folder):
    config = make_config(folder, optimizer__ema_decay=0.9, optimizer__schedule="free")
    with pytest.raises(
        charjax.ConfigError, match=r"at most one average; got .*free and"
    ):
        quiet(config)


def test_a_free_schedule_needs_its_share(folder):
    config = make_config(folder, optimizer__b1=0.0, optimizer__schedule="free")
    with pytest.raises(charjax.ConfigError, match=r"b1 must be above 0 .* Try 0\.9"):
        quiet(config)
