"""Targets that do not count leave no trace in loss, objective and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import charjax
from charjax.model import Penalties
from charjax.predict.evaluation import chunk_losses, evaluate
from charjax.predict.predictor import predictor_of
from charjax.text.made_up import corpus_of, made_streams
from charjax.training import create_state, make_train_step
from charjax.unroll import Execution
from tests.oracles.answers import counted_nats

T, B = 12, 3
DRAW = np.random.default_rng(0)
IDS_BxL = DRAW.integers(0, 13, (B, T + 1))
COUNTS_BxT = DRAW.random((B, T)) < 0.3
COUNTS_BxT[0] = False  # a lane without an answer
VOCAB = corpus_of("addition").vocab


def make_params():
    spec = charjax.ModelSpec(hidden_size=5, num_layers=1)
    return charjax.init(jax.random.key(1), spec, VOCAB)


def oracle(params, smoothing):
    weights = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
    return counted_nats(
        weights, IDS_BxL[:, :-1].T, IDS_BxL[:, 1:].T, COUNTS_BxT.T, smoothing
    )


@pytest.mark.parametrize(("smoothing", "segment"), [(0.0, 0), (0.2, 0), (0.2, 4)])
def test_a_step_follows_the_gradient_of_a_slow_mean_over_what_counts(
    smoothing, segment
):
    params = make_params()
    step = make_train_step(
        optax.sgd(1.0),
        penalties=Penalties(label_smoothing=smoothing),
        execution=Execution(unroll="scan", segment_length=segment),
    )
    state = create_state(params, optax.sgd(1.0), jax.random.key(0), B)
    after, metrics = jax.jit(step)(state, IDS_BxL, None, COUNTS_BxT)
    np.testing.assert_allclose(metrics.loss, oracle(params, 0.0), rtol=1e-5)
    grads = jax.tree.map(jnp.subtract, params, after.params)
    for seed in range(3):
        leaves, tree = jax.tree.flatten(params)
        draw = np.random.default_rng(seed)
        along = jax.tree.unflatten(tree, [draw.normal(size=w.shape) for w in leaves])
        ahead, behind = (
            jax.tree.map(lambda w, d, s=s: np.float64(w) + s * d, params, along)
            for s in (1e-5, -1e-5)
        )
        slope = (oracle(ahead, smoothing) - oracle(behind, smoothing)) / 2e-5
        products = jax.tree.map(lambda g, d: np.sum(np.float64(g) * d), grads, along)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-3)


@pytest.mark.parametrize("as_predictor", [False, True])
def test_validation_is_a_slow_mean_over_all_answers(as_predictor):
    data = {
        "name": "addition", "digits": 1, "nesting": 1, "curriculum": "mixed",
        "batch_size": 4, "seq_length": 14,
    }  # fmt: skip
    val, params, K = made_streams(data, 3, 0).val, make_params(), 5
    ids_BxL, counts_BxL = val.window(0, K * 14 + 1), val.counts(0, K * 14)
    weights = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
    expected = counted_nats(weights, ids_BxL[:, :-1].T, ids_BxL[:, 1:].T, counts_BxL.T)
    model = predictor_of(params) if as_predictor else params
    nats_KxB = chunk_losses(model, val, most_chunks=K)
    assert nats_KxB.shape == (K, 4)
    np.testing.assert_allclose(nats_KxB.mean(), expected, rtol=1e-5)
    if not as_predictor:
        whole = chunk_losses(model, val).mean()
        assert evaluate(model, val) == pytest.approx(whole)
