"""The learning-rate range test: against single steps, and its one-line errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax.cli import main
from charjax.config import check_config
from charjax.training import setup
from charjax.training.rates import find_rate
from tests.training.runs import make_config


def test_the_losses_are_those_of_steps_with_rising_rates(folder):
    config = make_config(folder, optimizer__name="sgd", optimizer__b1=0.0)
    config.optimizer.learning_rate = 1.0  # does not matter here
    config.model.dropout = config.train.reset_rate = 0.0
    found = find_rate(config, lowest=0.1, highest=10.0, num_steps=20, say=print)
    assert found.rates[0] == pytest.approx(0.1)
    assert found.rates[-1] == pytest.approx(10.0)
    assert found.suggestion == pytest.approx(found.rates[found.losses.argmin()] / 6)

    # The same steps taken one by one: clipped gradient descent, written out.
    config = check_config(config)
    plan, state, _ = setup.begin(config, setup.open_text(config, print))
    params, carry, losses = state.params, state.carry, []

    @jax.jit
    def descend(params, carry, ids_BxL, rate):
        def objective(params):
            return charjax.loss(params, ids_BxL[:, :-1], ids_BxL[:, 1:], carry)

        (loss, carry), grads = jax.value_and_grad(objective, has_aux=True)(params)
        norm = sum((g**2).sum() for g in jax.tree.leaves(grads)) ** 0.5
        rate = rate / jnp.maximum(norm, 1)
        return jax.tree.map(lambda w, g: w - rate * g, params, grads), carry, loss

    for step in range(20):
        if step % plan.steps_per_epoch == 0:
            carry = state.carry
        ids_BxL, rate = plan.window(step, 1)[:, :21], 0.1 * 100 ** (step / 19)
        params, carry, loss = descend(params, carry, ids_BxL, rate)
        losses.append(float(loss))
    for step, smoothed in enumerate(found.losses):
        weights = 0.9 ** np.arange(step, -1, -1.0)
        mean = np.average(losses[: step + 1], weights=weights)
        assert smoothed == pytest.approx(mean, rel=2e-3)


def test_the_test_ends_where_the_loss_explodes(folder):
    config = make_config(folder, optimizer__name="sgd", optimizer__grad_clip=0.0)
    found = find_rate(config, lowest=0.1, highest=1e8, num_steps=40, say=print)
    assert len(found.rates) == len(found.losses) < 40
    assert np.all(np.isfinite(found.losses))
    assert found.suggestion < found.rates[-1]


def test_a_text_is_tried_from_the_command_line(folder, capsys):
    argv = [f"--config.data.dir={folder / 'text'}", "--config", "default"]
    argv += ["--config.model.hidden_size=8", "--config.data.batch_size=5"]
    argv += ["--config.data.seq_length=20", "--steps=12"]
    assert main(["lr", *argv]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith("suggestion: --config.optimizer.learning_rate=")
    assert len([line for line in shown if "#" in line]) > 5
    assert not (folder / "cv").exists()


@pytest.mark.parametrize("argv", [["--low=0"], ["--low=2"], ["--steps=1"]])
def test_rates_that_do_not_rise_are_refused(folder, capsys, argv):
    text = f"--config.data.dir={folder / 'text'}"
    assert main(["lr", "--config", "default", text, *argv]) == 2
    error = capsys.readouterr().err
    assert "the rates must rise from above 0 over at least 2 steps; got" in error
    assert error.count("\n") == 1


def test_a_loss_that_only_rises_is_refused(folder):
    config = make_config(folder, optimizer__name="sgd", optimizer__grad_clip=0.0)
    with pytest.raises(charjax.TrainingError, match="the loss must fall at some rate"):
        find_rate(config, lowest=1e6, highest=1e7, num_steps=10, say=print)
