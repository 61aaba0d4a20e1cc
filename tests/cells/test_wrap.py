"""Zoneout: against a loop, its expectation, over segments, beside what runs cells."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import Execution, ModelSpec, Noise, cells
from charjax.cells.wrap import ZoneoutInput, with_masks, zoneout
from charjax.linen import RecurrentStack
from charjax.model.noise import split_key
from charjax.unroll import choose
from tests.models import make
from tests.unroll.test_scan import BUILT_IN, T, value_and_grads
from tests.unroll.test_scan import make as make_cell
from tests.unroll.test_strategies import LINEAR

KEY, RATE = jax.random.key(4), 0.3
IDS_BxT = np.random.default_rng(0).integers(0, 7, (3, 12))


def equal(got, expected, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, expected
    )


@pytest.mark.parametrize("is_drawn", [True, False])
@pytest.mark.parametrize("name", BUILT_IN)
def test_states_and_gradients_are_those_of_a_loop_that_mixes_old_and_new(
    name, is_drawn
):
    with jax.enable_x64(True):
        cell, params, x_TxBxD, carry = make_cell(name)

        def fast(zoned, params, carry, z_TxBxGH):
            if is_drawn:
                z_TxBxGH = with_masks(z_TxBxGH, carry, KEY, RATE)
            return choose.unroll(zoned, params, carry, z_TxBxGH, Execution())

        keeps = [RATE] * T
        if is_drawn:
            masks = with_masks(ZoneoutInput(x_TxBxD, None), carry, KEY, RATE).keeps
            keeps = [[m[t] * 1.0 for m in jax.tree.leaves(masks)] for t in range(T)]

        def slow(cell, params, carry, z_TxBxGH):
            old, treedef = jax.tree.flatten(carry)
            outputs = []
            for t in range(T):
                carry = jax.tree.unflatten(treedef, old)
                new, _ = cell.step(params, carry, z_TxBxGH[t], jnp.matmul)
                by = keeps[t] if is_drawn else [RATE] * len(old)
                new = jax.tree.leaves(new)
                old = [
                    k * o + (1 - k) * n for k, o, n in zip(by, old, new, strict=True)
                ]
                outputs.append(old[-1])  # h, which is the last part of every carry
            return jax.tree.unflatten(treedef, old), jnp.stack(outputs)

        got = value_and_grads(fast, zoneout(cell, RATE), params, x_TxBxD, carry)
        expected = value_and_grads(slow, cell, params, x_TxBxD, carry)
    equal(got, expected, rtol=1e-9, atol=1e-11)


def test_without_masks_a_linear_cell_gives_the_mean_over_all_masks():
    params = LINEAR.init(jax.random.key(0), 4, 1, cells.initializers("orthogonal"))
    cell, carry = zoneout(LINEAR, RATE), jnp.ones((1, 1))
    x_TxBxD = jax.random.normal(jax.random.key(1), (3, 1, 4))
    z_TxBxGH = cell.project(params, x_TxBxD, jnp.matmul)
    for strategy in ("scan", "linear"):
        how = Execution(unroll=strategy)
        mean = 0.0
        for keep in itertools.product([True, False], repeat=3):
            chance = np.prod(np.where(keep, RATE, 1 - RATE))
            masked = z_TxBxGH._replace(keeps=jnp.array(keep).reshape(3, 1, 1))
            _, h_TxBxH = choose.unroll(cell, params, carry, masked, how)
            mean += chance * h_TxBxH
        _, got = choose.unroll(cell, params, carry, z_TxBxGH, how)
        np.testing.assert_allclose(got, mean, rtol=1e-5)


def test_masks_are_drawn_for_each_unit_step_text_and_part_of_the_state():
    carry = cells.get("lstm").initial_carry(20, 30, jnp.float32)
    z = with_masks(ZoneoutInput(jnp.zeros((40, 20, 120)), None), carry, KEY, RATE)
    c, h = (np.asarray(keeps) for keeps in z.keeps)
    assert c.shape == h.shape == (40, 20, 30)
    for keeps in (c, h):
        assert keeps.mean() == pytest.approx(RATE, abs=0.02)
        for axis in range(3):
            assert np.mean(keeps.any(axis) & ~keeps.all(axis)) > 0.99
    assert (c == h).mean() == pytest.approx(RATE**2 + (1 - RATE) ** 2, abs=0.02)


@pytest.mark.parametrize("mode", ["each_step", "locked"])
def test_each_segment_of_a_chunk_has_masks_of_its_own(mode):
    noise = Noise(dropout=0.5, dropout_mode=mode)
    first, second = (split_key(noise, KEY, segment=i) for i in range(2))
    assert first.zoneout != second.zoneout
    assert (first.layers == second.layers) == (mode == "locked")


@pytest.mark.parametrize("cell", cells.names())
def test_training_draws_masks_and_prediction_takes_their_mean(cell):
    params = make(cell=cell, zoneout=RATE)
    plain, _ = charjax.apply(make(cell=cell), IDS_BxT)
    mean, carry = charjax.apply(params, IDS_BxT)
    drawn, _ = charjax.apply(params, IDS_BxT, noise=Noise(), key=KEY)
    others, _ = charjax.apply(params, IDS_BxT, noise=Noise(), key=jax.random.key(5))
    for one, other in itertools.combinations((plain, mean, drawn, others), 2):
        assert not np.allclose(one, other, atol=1e-3)
    _, between = charjax.apply(params, IDS_BxT[:, :11])
    last, after = charjax.apply(params, IDS_BxT[:, 11:], between)
    equal((last[:, 0], after), (mean[:, -1], carry), atol=1e-5)


def test_a_model_with_zoneout_is_sampled_scored_and_read():
    params = make(zoneout=RATE)
    text = charjax.sample(params, "abc", length=5)
    logits, _ = charjax.apply(params, params.vocab.encode(text)[None])
    log_probs = np.asarray(jax.nn.log_softmax(logits[0]))
    expected = [log_probs[t, i] for t, i in enumerate(params.vocab.encode(text)[1:])]
    np.testing.assert_allclose(
        charjax.score(params, text).log_probs[1:], expected, atol=1e-4
    )
    _, high = charjax.activations(params, text)
    _, carry = charjax.apply(params, params.vocab.encode(text)[None])
    np.testing.assert_allclose(high.carry["c"][-1], carry[1].c_BxH[0], atol=1e-5)
    assert sorted(high.gates) == ["forget", "input", "output"]


def test_the_linen_stack_draws_masks_in_training():
    stack = RecurrentStack(ModelSpec(cell="gru", hidden_size=6, zoneout=RATE))
    x_BxTxD = jnp.ones((2, 5, 3))
    (mean, _), variables = stack.init_with_output(jax.random.key(0), x_BxTxD)
    rngs = {"dropout": KEY}
    drawn, _ = stack.apply(variables, x_BxTxD, train=True, rngs=rngs)
    assert not np.allclose(drawn, mean, atol=1e-3)


def test_no_zoneout_is_the_cell_itself_and_the_same_zoneout_the_same_cell():
    lstm = cells.get("lstm")
    assert zoneout(lstm, 0.0) is lstm
    assert zoneout(lstm, RATE) is zoneout(lstm, RATE)
    assert zoneout(lstm, RATE) != zoneout(lstm, 0.1)


def test_the_compiled_kernel_is_not_used_and_the_reason_is_given():
    cell = zoneout(cells.get("lstm"), RATE)
    reason = "no compiled kernel has zoneout"
    assert choose.describe(cell, Execution(), "cpu") == f"scan ({reason})"
    with pytest.raises(charjax.ConfigError, match=f"{reason}. Try model.kernel=auto"):
        choose.check(cell, Execution(unroll="native"))


def test_a_counter_in_a_state_is_no_unit():
    def step(params, carry, z, matmul):
        h, count = carry
        h = jnp.tanh(z + h)
        return (h, count + 1), h

    rnn = cells.get("rnn")
    cell = zoneout(rnn._replace(step=step), RATE)
    carry, z = (jnp.ones((2, 4)), jnp.zeros(2, jnp.int32)), jnp.ones((2, 4))
    (h, count), out = cell.step((), carry, ZoneoutInput(z, None), jnp.matmul)
    np.testing.assert_array_equal(count, 1)
    np.testing.assert_allclose(h, RATE + (1 - RATE) * np.tanh(2), rtol=1e-6)
    assert out is h
