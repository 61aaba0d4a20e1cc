"""The predictor contract: what every predictor keeps, and what is done with one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charjax
from charjax import (
    AdaptiveNGram,
    ConfigError,
    Dynamic,
    DynamicRule,
    Ensemble,
    Execution,
    Mixture,
    NGram,
)
from charjax.predict.evaluation import chunk_losses
from charjax.predict.predictor import ModelPredictor
from charjax.text.streams import split_corpus
from tests.models import VOCAB, make

V = len(VOCAB)
TEXT = "".join(np.random.default_rng(0).choice(list(VOCAB.symbols), 300))
IDS = VOCAB.encode(TEXT)


class Plain:
    """A predictor of which nothing but the contract is known."""

    def __init__(self, predictor):
        self._predictor = predictor

    @property
    def vocab(self):
        return self._predictor.vocab

    def start(self, batch_size):
        return self._predictor.start(batch_size)

    def read(self, state, ids_TxB):
        return self._predictor.read(state, ids_TxB)


def model_predictor(**fields):
    return ModelPredictor(make(**fields), Execution())


NGRAM = NGram.fit(IDS, VOCAB, order=4)
DYNAMIC = Dynamic(
    make(cell="gru", num_layers=1), rule=DynamicRule("sgd", chunk_length=3, rate=0.05)
)
MODELS = [make(), make(1), NGRAM]
# Whatever predicts is held to the contract by a line here.
PREDICTORS = {
    "lstm": model_predictor(),
    "gru": model_predictor(cell="gru", embedding_size=3),
    "ngram": NGRAM,
    "adaptive": AdaptiveNGram(NGRAM),
    "ensemble": Ensemble(MODELS),
    "arithmetic": Ensemble(MODELS, "arithmetic"),
    "mixture": Mixture(MODELS, rate=0.3),
    "bayes": Mixture(MODELS, [0.2, 0.2, 0.6], rate=1, gated=False),
    "fixed": Mixture(MODELS, [0.2, 0.2, 0.6], rate=0),
    "dynamic": DYNAMIC,
    "nested": Mixture([Ensemble(MODELS[:2]), AdaptiveNGram(NGRAM), DYNAMIC]),
}
each_predictor = pytest.mark.parametrize("name", PREDICTORS)


@each_predictor
def test_probabilities_add_up_to_one_everywhere(name):
    predictor = PREDICTORS[name]
    _, log_probs = predictor.read(predictor.start(3), IDS[:60].reshape(20, 3))
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-5)


@each_predictor
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_probability_depends_on_a_later_character(name, data):
    predictor = PREDICTORS[name]
    ids = data.draw(st.lists(st.integers(0, V - 1), min_size=2, max_size=12))
    changed = data.draw(st.integers(1, len(ids) - 1))
    others = [*ids[:changed], *((i + 1) % V for i in ids[changed:])]
    before, after = (
        predictor.read(predictor.start(1), np.array(x)[:, None])[1]
        for x in (ids, others)
    )
    np.testing.assert_array_equal(before[:changed], after[:changed])


@each_predictor
@pytest.mark.parametrize("cut", [1, 3, 7])
def test_texts_read_in_pieces_are_predicted_as_the_whole(name, cut):
    predictor, ids_TxB = PREDICTORS[name], IDS[:60].reshape(20, 3)
    _, whole = predictor.read(predictor.start(3), ids_TxB)
    state, pieces = predictor.start(3), []
    for first in range(0, 20, cut):
        state, piece = predictor.read(state, ids_TxB[first : first + cut])
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-5, atol=1e-6)


@each_predictor
def test_a_text_is_predicted_alike_whatever_is_read_beside_it(name):
    predictor, ids_TxB = PREDICTORS[name], IDS[:60].reshape(20, 3)
    _, together = predictor.read(predictor.start(3), ids_TxB)
    _, alone = predictor.read(predictor.start(1), ids_TxB[:, 1:2])
    np.testing.assert_allclose(together[:, 1:2], alone, rtol=1e-4, atol=1e-5)


@each_predictor
def test_the_score_of_a_text_is_the_sum_over_its_characters(name):
    predictor = PREDICTORS[name]
    got = charjax.score(predictor, TEXT[:20])
    state, expected = predictor.start(1), [-math.log(V)]
    for last, this in itertools.pairwise(IDS[:20]):
        state, log_probs = predictor.read(state, np.array([[last]]))
        expected.append(log_probs[0, 0, this])
    np.testing.assert_allclose(got.log_probs, expected, rtol=1e-4, atol=1e-5)


@each_predictor
def test_next_chars_are_what_follows_the_prime(name):
    predictor = PREDICTORS[name]
    got = charjax.next_chars(predictor, TEXT[:9])
    _, log_probs = predictor.read(predictor.start(1), IDS[:9, None])
    for symbol, probability in got.items():
        expected = np.exp(log_probs[-1, 0, VOCAB.encode(symbol)[0]])
        assert probability == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.6}])
@pytest.mark.parametrize("prime", ["", "badge"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_models_fast_path_draws_what_the_contract_alone_draws(name, prime, options):
    predictor = PREDICTORS[name]
    options = {"length": 25, "num_samples": 2, "seed": 3} | options
    fast = charjax.sample(predictor.params, prime, 0.8, **options)
    assert charjax.sample(Plain(predictor), prime, 0.8, **options) == fast


@each_predictor
def test_characters_come_as_often_as_they_are_probable(name):
    predictor = Plain(PREDICTORS[name])
    texts = charjax.sample(predictor, "cab", length=1, num_samples=3000)
    expected = charjax.next_chars(predictor, "cab")
    for symbol, probability in expected.items():
        share = np.mean([text[-1] == symbol for text in texts])
        assert abs(share - probability) < 5 * math.sqrt(probability / 3000) + 1e-3


def test_a_models_loss_is_that_of_the_contract_alone():
    lanes = split_corpus(
        IDS, batch_size=3, seq_length=4, train_frac=1.0, val_frac=0.0
    ).train
    predictor = PREDICTORS["lstm"]
    got = chunk_losses(predictor.params, lanes)
    assert got.shape == (lanes.num_chunks, 3)
    np.testing.assert_allclose(chunk_losses(Plain(predictor), lanes), got, atol=1e-5)
    first = chunk_losses(predictor.params, lanes, most_chunks=2)
    np.testing.assert_array_equal(first, got[:2])
    mean = charjax.evaluate(predictor.params, lanes)
    assert mean == pytest.approx(got.mean())


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("cv/run", {}, r"must be charjax.Params or .*got str"),
        (PREDICTORS["ngram"], {"execution": Execution()}, "must come with a model"),
        (PREDICTORS["lstm"].params, {"execution": "scan"}, "must be of type Execution"),
    ],
)
def test_what_is_not_a_predictor_is_refused(model, options, message):
    with pytest.raises(ConfigError, match=message):
        charjax.score(model, "abc", **options)
