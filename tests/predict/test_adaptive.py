"""The adaptive n-gram: at every character the one that is fitted to all read so far."""

import math

import numpy as np
import pytest

import charjax
from charjax import AdaptiveNGram, NGram, TextError
from tests.oracles import ngram as oracle
from tests.predict.test_ngram import OTHER, SMALL, TEXT, VOCAB, V, nats


def fitted_anew(train, text, order):
    """`-log p` of each character but the first, from counts made anew for each."""
    # What is read does not make longer grams than the training text has.
    order = min(order, len(train))
    losses = []
    for i in range(1, len(text)):
        model = oracle.fit([train, text[:i]], order)
        probability = oracle.probability(model, order, V, text[:i], text[i])
        losses.append(-math.log(probability))
    return losses


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("train", [TEXT[:300], SMALL], ids=["text", "small"])
def test_nats_are_those_of_counts_made_anew_for_every_character(train, order):
    read = OTHER[:60].tolist()
    got = nats(AdaptiveNGram(NGram.fit(train, VOCAB, order)), read)
    expected = fitted_anew(train.tolist(), read, order)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 4])
def test_distributions_are_those_of_a_model_fitted_to_both_texts(order):
    train, text = TEXT[:200], OTHER
    adaptive = AdaptiveNGram(NGram.fit(train, VOCAB, order))
    _, got = adaptive.read(adaptive.start(1), text[:, None])
    both = NGram.fit(np.stack([train, text]), VOCAB, order)
    _, expected = both.read(both.start(1), text[:, None])
    np.testing.assert_allclose(got[-1], expected[-1], rtol=1e-12)


def test_a_state_may_be_read_on_from_twice():
    adaptive = AdaptiveNGram(NGram.fit(TEXT, VOCAB, 4))
    state, _ = adaptive.read(adaptive.start(1), OTHER[:20, None])
    _, first = adaptive.read(state, OTHER[20:40, None])
    adaptive.read(state, OTHER[50:70, None])
    _, again = adaptive.read(state, OTHER[20:40, None])
    np.testing.assert_array_equal(again, first)


def test_texts_side_by_side_do_not_learn_from_one_another():
    adaptive = AdaptiveNGram(NGram.fit(TEXT, VOCAB, 4))
    texts_TxB = OTHER[:180].reshape(3, 60).T
    _, together = adaptive.read(adaptive.start(3), texts_TxB)
    for b in range(3):
        _, alone = adaptive.read(adaptive.start(1), texts_TxB[:, b : b + 1])
        np.testing.assert_array_equal(together[:, b : b + 1], alone)


def test_a_text_unlike_the_training_text_is_predicted_better_the_second_time():
    ngram = NGram.fit(TEXT, VOCAB, 5)
    text = VOCAB.decode(np.tile([4, 4, 3, 0, 2, 2, 1], 30))
    losses = -charjax.score(AdaptiveNGram(ngram), text).log_probs
    assert losses[100:].mean() < 0.1
    assert charjax.score(ngram, text).nats > 1


def test_ids_beyond_the_vocabulary_are_not_counted():
    adaptive = AdaptiveNGram(NGram.fit(TEXT, VOCAB, 2))
    with pytest.raises(TextError, match="ids must be 0 to 4; got 5 to 5"):
        adaptive.read(adaptive.start(1), np.array([[5]]))
