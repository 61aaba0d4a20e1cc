"""The n-gram model: against a slow one of dictionaries, and as a distribution."""

import itertools
import math

import numpy as np
import pytest

from charjax import ConfigError, TextError
from charjax.predict.ngram import NGram
from tests.oracles import ngram as oracle

RNG = np.random.default_rng(0)
V = 5


def markov(rng, length, size=V):
    """A text in which the next symbol depends on the last two."""
    table = rng.dirichlet(np.full(size, 0.3), size=(size, size))
    text = [0, 1]
    while len(text) < length:
        text.append(rng.choice(size, p=table[text[-2], text[-1]]))
    return np.array(text, np.uint8)


TEXT, OTHER = np.split(markov(RNG, 700), [500])
SMALL = np.array([0, 1, 0, 2, 0, 1], np.uint8)


def slow_nats(train, text, order, size=V):
    model = oracle.fit(train, order)
    return [
        -math.log(oracle.probability(model, order, size, text[:i].tolist(), symbol))
        for i, symbol in enumerate(text)
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("train", [TEXT, SMALL], ids=["text", "small"])
def test_nats_equal_those_of_a_loop_over_dictionaries(train, order):
    got = NGram.fit(train, V, order).nats(OTHER)
    expected = slow_nats([train.tolist()], OTHER, order)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_discounts_are_estimated_where_the_text_allows():
    _, discounts = oracle.fit([TEXT.tolist()], 3)
    assert discounts[3] != [0.5, 1.0, 1.5]
    assert discounts[1] == [0.5, 1.0, 1.5]


def test_rows_are_texts_that_do_not_go_on_in_one_another():
    rows = TEXT[:480].reshape(8, 60)
    model = NGram.fit(rows, V, 4)
    expected = slow_nats(rows.tolist(), OTHER, 4)
    np.testing.assert_allclose(model.nats(OTHER), expected, rtol=1e-12)
    by_row = np.stack([model.nats(row) for row in rows])
    np.testing.assert_array_equal(model.nats(rows), by_row)
    assert not np.array_equal(by_row.ravel(), model.nats(rows.ravel()))


@pytest.mark.parametrize("order", [0, 1, 2, 4])
@pytest.mark.parametrize("train", [TEXT, SMALL, SMALL[:1]])
def test_probabilities_add_up_to_one_after_any_context(train, order):
    model = NGram.fit(train, V, order)
    for context in itertools.product(range(V), repeat=3):
        ends = np.array([(*context, symbol) for symbol in range(V)])
        assert np.exp(-model.nats(ends)[:, -1]).sum() == pytest.approx(1, abs=1e-12)


def test_order_zero_is_uniform():
    nats = NGram.fit(TEXT, V, 0).nats(OTHER)
    np.testing.assert_allclose(nats, math.log(V))


def test_an_unseen_context_leaves_the_word_to_the_longest_seen_one():
    model = NGram.fit(np.array([0, 1, 2, 0, 1, 3]), V, 3)
    unseen, seen = model.nats(np.array([4, 1, 2])), model.nats(np.array([1, 2]))
    assert unseen[-1] == seen[-1]
    assert unseen[-1] < math.log(V)


def test_context_helps_as_far_as_the_text_depends_on_it():
    losses = [NGram.fit(TEXT, V, order).nats(OTHER).mean() for order in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2] + 0.1


def test_a_large_vocabulary_does_not_overflow():
    scattered = RNG.permutation(1_000_000)[:V].astype(np.uint32)
    model = NGram.fit(scattered[TEXT], 1_000_000, 8)
    expected = slow_nats([TEXT.tolist()], OTHER[:50], 8, size=1_000_000)
    np.testing.assert_allclose(model.nats(scattered[OTHER[:50]]), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
def test_the_type_of_the_ids_does_not_matter(dtype):
    got = NGram.fit(TEXT.astype(dtype), V, 3).nats(OTHER.astype(dtype))
    np.testing.assert_array_equal(got, NGram.fit(TEXT, V, 3).nats(OTHER))


def test_a_memory_map_is_fitted_and_left_as_it_is(tmp_path):
    path = tmp_path / "text.ids"
    TEXT.tofile(path)
    ids = np.memmap(path, np.uint8, mode="r")
    got = NGram.fit(ids, V, 3).nats(ids)
    np.testing.assert_array_equal(got, NGram.fit(TEXT, V, 3).nats(TEXT))


def test_no_text_costs_nothing():
    assert NGram.fit(TEXT, V).nats(np.array([], np.uint8)).shape == (0,)


@pytest.mark.parametrize(
    ("ids", "vocab_size", "order", "error", "message"),
    [
        (TEXT, V, -1, ConfigError, "order: expected 0 or more, got -1"),
        (TEXT, 0, 2, ConfigError, "vocab_size: expected 1 or more, got 0"),
        (TEXT, 3, 2, TextError, "Ids: expected 0 to 2, got 0 to 4"),
        (TEXT * 1.0, V, 2, TextError, "expected a row of integers, got float64"),
        (TEXT[:0], V, 2, TextError, "expected at least one character"),
    ],
)
def test_what_cannot_be_fitted_is_refused(ids, vocab_size, order, error, message):
    with pytest.raises(error, match=message):
        NGram.fit(ids, vocab_size, order)


def test_ids_beyond_the_vocabulary_are_not_scored():
    with pytest.raises(TextError, match="expected 0 to 4, got 5 to 5"):
        NGram.fit(TEXT, V, 2).nats(np.array([5]))
