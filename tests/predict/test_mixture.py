"""Mixtures and ensembles: against plain numbers, and the bound on what they lose."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charjax
from charjax import (
    ConfigError,
    Dynamic,
    DynamicRule,
    Ensemble,
    Mixture,
    NGram,
    Vocab,
)
from charjax.predict import Learner, predictor_of
from charjax.predict.mixture import follow, mixed
from tests.models import VOCAB, make
from tests.oracles import mixture as oracle

V = len(VOCAB)
TEXT = "".join(np.random.default_rng(0).choice(list(VOCAB.symbols), 300))
IDS = VOCAB.encode(TEXT)
NGRAM = NGram.fit(np.repeat(IDS[:50], 2), VOCAB, order=3)
MODELS = [make(), NGRAM, make(1, cell="gru")]
START = [0.5, 0.2, 0.3]


def probs_of_text():
    """What each predictor gives to each character of the text."""
    scores = [charjax.score(model, TEXT).log_probs for model in MODELS]
    return np.exp(np.array(scores, np.float64)).T


def losses_of(predictor):
    return -charjax.score(predictor, TEXT).log_probs


def test_at_a_rate_of_1_the_weights_are_those_of_bayes_rule():
    expected = oracle.bayes(START, probs_of_text().tolist())
    got = losses_of(Mixture(MODELS, START, rate=1, gated=False))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("rate", [0, 0.02, 0.5, 1])
def test_weights_follow_the_text_as_in_the_paper(rate, gated):
    contexts = [None, *TEXT[:-1]] if gated else [0] * len(TEXT)
    probs = probs_of_text()
    expected = oracle.soft_bayes(START, probs.tolist(), contexts, rate)
    got = losses_of(Mixture(MODELS, START, rate, gated))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    of_scores = -mixed(np.log(probs).T, IDS, START, rate, gated)
    np.testing.assert_allclose(of_scores, expected, rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_mixture_loses_no_more_than_its_bound_to_any_of_its_parts(data):
    rate = data.draw(st.sampled_from([0.003, 0.02, 0.3, 1.0]))
    gated = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    # They are about as good, or each is right in turn and as wrong as can be else.
    scale = data.draw(st.sampled_from([0.1, 3.0, 400.0]))
    log_probs_NxT = -scale * rng.exponential(size=(3, 60)) ** 2
    log_probs_NxT[rng.integers(3), :30] = -0.01
    ids_T, start = rng.integers(3, size=60), rng.dirichlet(np.ones(3))
    losses = -mixed(log_probs_NxT, ids_T, start, rate, gated)
    contexts = len({None, *ids_T[:-1]}) if gated else 1
    for w, log_probs_T in zip(start, log_probs_NxT, strict=True):
        bound = -log_probs_T.sum() + contexts * math.log(1 / w) / rate
        assert losses.sum() <= bound * (1 + 1e-9)


def loss_of_mixed(log_probs_NxT, weights=None, rate=0.0):
    ids = np.zeros(log_probs_NxT.shape[1], int)
    return -mixed(log_probs_NxT, ids, weights, rate)


def test_a_slow_mixture_comes_near_the_best_fixed_one():
    # Both are needed: each is right where the other is not.
    right = np.random.default_rng(1).random(5000) < 0.7
    log_probs_NxT = np.log(np.where([right, ~right], 0.9, 0.01))
    best = min(
        loss_of_mixed(log_probs_NxT, [w, 1 - w]).mean()
        for w in np.linspace(0.05, 0.95, 19)
    )
    assert loss_of_mixed(log_probs_NxT, rate=0.02).mean() < best + 0.01
    assert loss_of_mixed(log_probs_NxT, rate=1.0).mean() > best + 0.2


def test_a_gated_mixture_learns_after_which_characters_each_is_right():
    ids = np.random.default_rng(1).integers(2, size=2000)
    right = np.append(0, ids[:-1]) == 1
    log_probs_NxT = np.log(np.where([right, ~right], 0.9, 0.01))
    assert -mixed(log_probs_NxT, ids, rate=0.1, gated=True).mean() < 0.2
    assert -mixed(log_probs_NxT, ids, rate=0.1, gated=False).mean() > 0.7


def test_a_predictor_that_was_useless_for_long_comes_back():
    log_probs_NxT = np.full((2, 4000), -9.0)
    log_probs_NxT[0, :1000], log_probs_NxT[1, 1000:] = -0.1, -0.1
    losses = loss_of_mixed(log_probs_NxT, rate=1.0)
    assert losses[:1000].sum() < 100 + 1
    assert losses.sum() < -log_probs_NxT[1].sum() + math.log(2) + 1e-6


def test_a_character_that_no_predictor_expects_leaves_weights_that_are_numbers():
    with np.errstate(divide="ignore"):
        log_probs_Tx1xN = np.log([[[0.0, 0.0]], [[0.5, 0.25]]])
    contexts = np.zeros((3, 1), int)
    start = np.array([[[0.4, 0.6]]])
    _, used = follow(start, contexts, log_probs_Tx1xN, rate=0.5)
    np.testing.assert_allclose(used[0], start[0])
    np.testing.assert_allclose(used.sum(axis=-1), 1)


def test_an_ensemble_is_the_mean_of_the_distributions():
    ids_TxB = IDS[:40].reshape(20, 2)
    experts = [predictor_of(model) for model in MODELS]
    log_probs = [expert.read(expert.start(2), ids_TxB)[1] for expert in experts]
    probs = np.exp(np.array(log_probs, np.float64))
    for mean, expected in (
        ("arithmetic", probs.mean(0)),
        ("geometric", np.prod(probs, axis=0) ** (1 / 3)),
    ):
        ensemble = Ensemble(MODELS, mean)
        _, got = ensemble.read(ensemble.start(2), ids_TxB)
        expected = expected / expected.sum(-1, keepdims=True)
        np.testing.assert_allclose(np.exp(got), expected, rtol=1e-4)


def test_an_ensemble_of_one_is_that_one():
    for model in (Ensemble([NGRAM]), Mixture([NGRAM])):
        np.testing.assert_allclose(losses_of(model), losses_of(NGRAM), rtol=1e-6)


@pytest.mark.parametrize("kind", [Ensemble, Mixture])
def test_predictors_that_cannot_be_averaged_are_refused(kind):
    with pytest.raises(ConfigError, match="must be at least one; got none"):
        kind([])
    other = NGram.fit(IDS, Vocab.of("abcdefgh"), order=2)
    with pytest.raises(ConfigError, match="one vocabulary; got another at place 1"):
        kind([make(), other])
    with pytest.raises(ConfigError, match=r"must be charjax.Params or .*got str"):
        kind(["cv/run"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [0.5, 0.4]}, r"must sum to 1; got .*0.9 in all. Try \[0.556"),
        ({"weights": [0.5, 0.3, 0.2]}, "one for each of 2 predictors; got 3"),
        ({"weights": [1.5, -0.5]}, "must be numbers above 0"),
        ({"weights": [math.nan, 1]}, "must be numbers above 0"),
        ({"weights": ["a", 1]}, "must be numbers above 0"),
        ({"rate": 1.5}, "rate must be from 0 to 1; got 1.5"),
        ({"rate": "fast"}, "rate must be from 0 to 1; got 'fast'"),
    ],
)
def test_wrong_weights_and_rates_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(MODELS[:2], **options)


@pytest.mark.parametrize("kind", [Ensemble, Mixture])
def test_a_frozen_one_neither_learns_nor_moves_its_weights(kind):
    dynamic = Dynamic(make(), rule=DynamicRule("sgd", chunk_length=2, rate=0.5))
    whole = kind([dynamic, NGRAM])
    state, _ = whole.read(whole.start(1), IDS[:40, None])
    frozen, state = whole.frozen(state)
    # Between two readings of the same characters only a learner would change.
    _, first = frozen.read(state, np.tile(IDS[40:44], 20)[:, None])
    np.testing.assert_allclose(first[-4:], first[-8:-4], atol=1e-4)
    _, learned = whole.read(
        whole.read(whole.start(1), IDS[:40, None])[0],
        np.tile(IDS[40:44], 20)[:, None],
    )
    assert np.abs(learned[-4:] - first[-4:]).max() > 0.1


def test_a_mixture_draws_with_the_weights_that_its_prime_left():
    mixture = Mixture(MODELS, rate=0.5)
    assert isinstance(mixture, Learner)
    text = charjax.sample(mixture, TEXT[:50], 0.8, length=20, seed=3)
    state, _ = mixture.read(mixture.start(1), IDS[:50, None])
    weights_CxN = state.weights_CxBxN[:, 0]
    assert weights_CxN.std(axis=0).max() > 0.1
    frozen, after = mixture.frozen(state)
    after, _ = frozen.read(after, VOCAB.encode(text[50:])[:, None])
    np.testing.assert_array_equal(after.weights_CxBxN[:, 0], weights_CxN)
