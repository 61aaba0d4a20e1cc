"""A model that learns while it reads: its steps, its pieces, its lanes, its limits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charjax
from charjax import (
    Dynamic,
    DynamicRule,
    Execution,
    cells,
    gather_statistics,
    tune_dynamic,
)
from charjax.predict import dynamic as module
from charjax.predict import dynamic_step
from charjax.predict.dynamic_rule import anchor_of
from charjax.predict.predictor import ModelPredictor
from tests.compilations import compilations
from tests.models import KINDS, VOCAB, make
from tests.oracles import dynamic as oracle

V = len(VOCAB)
IDS = np.random.default_rng(0).integers(0, V, 400).astype(np.int32)
TEXT = VOCAB.decode(IDS[:50])
RULES = [
    DynamicRule("rms", chunk_length=3, rate=0.02, decay=0.05, epsilon=0.2),
    DynamicRule("rms", chunk_length=4, rate=0.02, decay=0.9),  # the share is cut at 1
    DynamicRule("sgd", chunk_length=3, rate=0.1, decay=0.1),
]
each_rule = pytest.mark.parametrize("rule", RULES)


def make_dynamic(rule=RULES[0], **fields):
    params = make(**fields)
    return Dynamic(params, gather_statistics(params, IDS, chunk_length=3), rule)


DYNAMIC = make_dynamic(cell="gru", num_layers=1, hidden_size=4)


def read(predictor, ids_TxB, cuts=()):
    state, parts = predictor.start(ids_TxB.shape[1]), []
    for piece in np.split(ids_TxB, sorted(cuts)):
        if len(piece):
            state, log_probs = predictor.read(state, piece)
            parts.append(log_probs)
    return state, np.concatenate(parts)


def as_dict(params):
    (layer,) = params.layers
    return {
        "W_VxH": np.asarray(layer.input_DxGH),
        "U_HxH": np.asarray(layer.recurrent_HxGH),
        "b_H": np.asarray(layer.bias_GH),
        "R_HxV": np.asarray(params.readout_HxV),
        "c_V": np.asarray(params.readout_bias_V),
    }


@each_rule
def test_probabilities_and_weights_are_those_of_a_slow_loop(rule):
    dynamic = make_dynamic(rule, cell="rnn", num_layers=1, hidden_size=5)
    state, got = read(dynamic, IDS[:41, None])
    expected, weights = oracle.evaluate(
        as_dict(dynamic.params),
        as_dict(dynamic.stats),
        IDS[:41],
        **dataclasses.asdict(rule),
    )
    np.testing.assert_allclose(got[:, 0], expected, atol=2e-4)
    last = as_dict(jax.tree.map(lambda x_B: x_B[0], state.params))
    for name, weight in weights.items():
        np.testing.assert_allclose(last[name], weight, atol=2e-4, err_msg=name)
        assert not np.allclose(weight, as_dict(dynamic.params)[name])


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_step_is_that_of_the_loss(kind):
    params = make(**kind)
    _, carry = charjax.loss(params, IDS[None, :5], IDS[None, 1:6])
    x, y = IDS[5:9], IDS[6:10]
    expected = jax.grad(
        lambda params: charjax.loss(params, x[None], y[None], carry)[0]
    )(params)
    rule = DynamicRule("sgd", rate=1.0, decay=0.0)
    after, next_carry, _ = jax.jit(dynamic_step)(
        params, carry, x, y, anchor_of(params, None, rule)
    )
    got = jax.tree.map(jnp.subtract, params, after)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    _, expected_carry = charjax.loss(params, x[None], y[None], carry)
    for a, b in zip(*map(jax.tree.leaves, (next_carry, expected_carry)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_statistics_are_root_mean_squares_of_the_losses_gradients():
    params = make(cell="lstm", embedding_size=3)
    ids_2xT = IDS[:22].reshape(2, 11)  # in chunks of 4: two, and what is left out
    squares = []
    for ids in ids_2xT:
        carry = charjax.initial_carry(params, 1)
        for first in (0, 4):
            x, y = (ids[None, i : i + 4] for i in (first, first + 1))
            grad, carry = jax.grad(charjax.loss, has_aux=True)(params, x, y, carry)
            squares.append([np.square(g) for g in jax.tree.leaves(grad)])
    got = gather_statistics(params, ids_2xT, chunk_length=4)
    means = [np.mean(of_weight, axis=0) for of_weight in zip(*squares, strict=True)]
    for a, b in zip(jax.tree.leaves(got), means, strict=True):
        np.testing.assert_allclose(a, np.sqrt(b), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["rms", "sgd"])
def test_at_rate_0_scores_are_those_of_the_model(name):
    dynamic = make_dynamic(DynamicRule(name, chunk_length=7, rate=0, decay=0.5))
    expected = charjax.score(dynamic.params, TEXT).log_probs
    got = charjax.score(dynamic, TEXT).log_probs
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("cell", cells.names())
def test_every_cell_learns_what_it_has_read_and_nothing_before(cell):
    params, k = make(cell=cell, num_layers=1), RULES[0].chunk_length
    stats = gather_statistics(params, IDS, chunk_length=k)
    text = "abcdefg" * 20
    rule = DynamicRule(chunk_length=k, rate=0.05, decay=0)
    static = charjax.score(params, text).log_probs
    got = charjax.score(Dynamic(params, stats, rule), text).log_probs
    np.testing.assert_allclose(got[: k + 1], static[: k + 1], atol=1e-5)
    assert got[70:].mean() > static[70:].mean() + 0.5


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_reading_in_pieces_gives_what_reading_at_once_gives(data):
    length = data.draw(st.integers(1, 14))
    cuts = data.draw(st.lists(st.integers(0, length), max_size=5))
    state, at_once = read(DYNAMIC, IDS[:length, None])
    in_pieces_state, in_pieces = read(DYNAMIC, IDS[:length, None], cuts)
    np.testing.assert_allclose(in_pieces, at_once, atol=1e-5)
    leaves = map(jax.tree.leaves, (in_pieces_state, state))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_pieces_of_the_compiled_loop_do_not_show(monkeypatch):
    ids_TxB = IDS[:60].reshape(30, 2)
    expected = [read(DYNAMIC, ids_TxB[:length])[1] for length in (6, 7, 12, 13, 30)]
    two_chunks = 2 * DYNAMIC.rule.chunk_length
    monkeypatch.setattr(module, "piece_size", lambda *sizes: two_chunks)
    for log_probs in expected:
        got = read(DYNAMIC, ids_TxB[: len(log_probs)])[1]
        np.testing.assert_allclose(got, log_probs, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_probability_depends_on_a_later_character(data):
    ids = np.array(data.draw(st.lists(st.integers(0, V - 1), min_size=2, max_size=12)))
    changed = data.draw(st.integers(1, len(ids) - 1))
    others = np.where(np.arange(len(ids)) < changed, ids, (ids + 1) % V)
    before, after = (read(DYNAMIC, x[:, None])[1] for x in (ids, others))
    np.testing.assert_array_equal(before[:changed], after[:changed])


@pytest.mark.parametrize("kind", [{"cell": "lstm"}, {"cell": "gru"}])
def test_each_text_of_a_batch_has_weights_of_its_own(kind):
    dynamic = make_dynamic(**kind)
    ids_TxB = IDS[:60].reshape(20, 3)
    state, together = read(dynamic, ids_TxB)
    np.testing.assert_allclose(np.exp(together).sum(-1), 1, atol=1e-5)
    for lane in range(3):
        alone_state, alone = read(dynamic, ids_TxB[:, lane : lane + 1])
        np.testing.assert_allclose(together[:, lane], alone[:, 0], atol=1e-5)
        leaves = map(jax.tree.leaves, (state.params, alone_state.params))
        for of_all, of_one in zip(*leaves, strict=True):
            np.testing.assert_allclose(of_all[lane], of_one[0], atol=1e-5)


def test_texts_of_all_lengths_share_one_compilation():
    dynamic = dataclasses.replace(DYNAMIC, execution=Execution(unroll="scan"))
    charjax.score(dynamic, TEXT[:2])
    faster = dataclasses.replace(dynamic.rule, rate=0.3, decay=0.0, epsilon=0.5)
    with compilations() as seen:
        for length in (2, 3, 9, 50):
            charjax.score(dynamic, TEXT[:length])
        charjax.score(dataclasses.replace(dynamic, rule=faster), TEXT)
    assert not [name for name in seen if "read_chunks" in name]


def test_bfloat16_products_give_nearly_the_same():
    exact, rounded = make_dynamic(), make_dynamic()
    rounded = dataclasses.replace(rounded, execution=Execution(precision="bfloat16"))
    a, b = (charjax.score(predictor, TEXT).nats for predictor in (exact, rounded))
    assert a != b
    assert abs(a - b) < 0.05


def test_a_sample_learns_from_its_prime_and_not_from_itself():
    rule = DynamicRule(chunk_length=3, rate=0.3, decay=0)
    dynamic, prime = dataclasses.replace(DYNAMIC, rule=rule), TEXT[:20]
    drawn = charjax.sample(dynamic, prime, length=40, greedy=True)
    state, log_probs = read(dynamic, IDS[:20, None])
    model, model_state = dynamic.frozen(state)
    assert isinstance(model, ModelPredictor)
    ids = [*IDS[:20]]
    for _ in range(40):
        ids.append(np.argmax(log_probs[-1, 0]))
        model_state, log_probs = model.read(model_state, np.array([[ids[-1]]]))
    assert drawn == VOCAB.decode(np.array(ids))
    for learned, now in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(model.params), strict=True
    ):
        np.testing.assert_array_equal(learned[0], now)
    assert drawn != charjax.sample(dynamic.params, prime, length=40, greedy=True)


@pytest.mark.parametrize("prime", ["", TEXT[:2], TEXT[:11]])
def test_several_samples_are_those_that_the_contract_alone_draws(prime):
    class Wrapped:  # a predictor of which no more than the contract is known
        vocab = VOCAB
        start, read, frozen = DYNAMIC.start, DYNAMIC.read, DYNAMIC.frozen

    options = {"length": 12, "num_samples": 3, "seed": 1}
    expected = charjax.sample(Wrapped(), prime, 0.8, **options)
    assert charjax.sample(DYNAMIC, prime, 0.8, **options) == expected


def test_a_frozen_state_of_several_texts_goes_on_without_learning():
    ids_TxB = IDS[:60].reshape(20, 3)
    state, _ = read(DYNAMIC, ids_TxB[:10])
    predictor, frozen_state = DYNAMIC.frozen(state)
    after, log_probs = predictor.read(frozen_state, ids_TxB[10:])
    for lane in range(3):
        alone, _ = read(DYNAMIC, ids_TxB[:10, lane : lane + 1])
        model, model_state = DYNAMIC.frozen(alone)
        _, expected = model.read(model_state, ids_TxB[10:, lane : lane + 1])
        np.testing.assert_allclose(log_probs[:, lane], expected[:, 0], atol=1e-5)
    leaves = map(jax.tree.leaves, (after.params, state.params))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tuning_returns_the_best_rule_it_has_tried():
    lines = []
    first = DynamicRule(chunk_length=3, rate=1e-3, decay=1e-2)
    found = tune_dynamic(
        DYNAMIC.params, DYNAMIC.stats, IDS[:60], rule=first, say=lines.append
    )
    losses = sorted(float(line.split()[0]) for line in lines)

    def loss(rule):
        dynamic = Dynamic(DYNAMIC.params, DYNAMIC.stats, rule)
        return -charjax.score(dynamic, VOCAB.decode(IDS[:60])).log_probs[1:].mean()

    assert loss(found) == pytest.approx(losses[0], abs=1e-4)
    assert loss(found) < loss(first)
    assert f"rate {found.rate:.3g}" in "".join(lines)
