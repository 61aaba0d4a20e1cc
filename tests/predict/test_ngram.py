"""The n-gram model: against a slow one of dictionaries, and as a distribution."""

import itertools
import math

import numpy as np
import pytest

from charjax import ConfigError, TextError, Vocab
from charjax.predict.ngram import NGram
from tests.oracles import ngram as oracle

RNG = np.random.default_rng(0)
V = 5
VOCAB = Vocab.of("abcde")


def markov(rng, length, size=V):
    """A text in which the next symbol depends on the last two."""
    table = rng.dirichlet(np.full(size, 0.3), size=(size, size))
    text = [0, 1]
    while len(text) < length:
        text.append(rng.choice(size, p=table[text[-2], text[-1]]))
    return np.array(text, np.uint8)


TEXT, OTHER = np.split(markov(RNG, 700), [500])
SMALL = np.array([0, 1, 0, 2, 0, 1], np.uint8)


def nats(model, ids):
    """`-log p` of each character but the first, given all before it."""
    ids = np.asarray(ids)
    _, log_probs_TxBxV = model.read(model.start(1), ids[:-1, None])
    return -np.take_along_axis(
        log_probs_TxBxV[:, 0], ids[1:, None].astype(np.int64), axis=-1
    )[:, 0]


def slow_nats(train, text, order, size=V):
    model = oracle.fit(train, order)
    return [
        -math.log(oracle.probability(model, order, size, text[:i].tolist(), text[i]))
        for i in range(1, len(text))
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("train", [TEXT, SMALL], ids=["text", "small"])
def test_nats_equal_those_of_a_loop_over_dictionaries(train, order):
    got = nats(NGram.fit(train, VOCAB, order), OTHER)
    expected = slow_nats([train.tolist()], OTHER, order)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_discounts_are_estimated_where_the_text_allows():
    _, discounts = oracle.fit([TEXT.tolist()], 3)
    assert discounts[3] != [0.5, 1.0, 1.5]
    assert discounts[1] == [0.5, 1.0, 1.5]


def test_rows_are_texts_that_do_not_go_on_in_one_another():
    rows = TEXT[:480].reshape(8, 60)
    model = NGram.fit(rows, VOCAB, 4)
    expected = slow_nats(rows.tolist(), OTHER, 4)
    np.testing.assert_allclose(nats(model, OTHER), expected, rtol=1e-12)


def test_texts_read_side_by_side_are_predicted_as_each_is_alone():
    model, rows_TxB = NGram.fit(TEXT, VOCAB, 4), TEXT[:480].reshape(8, 60).T
    _, together_TxBxV = model.read(model.start(8), rows_TxB)
    for row in range(8):
        _, alone_Tx1xV = model.read(model.start(1), rows_TxB[:, row : row + 1])
        np.testing.assert_array_equal(together_TxBxV[:, row], alone_Tx1xV[:, 0])


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_a_text_read_in_pieces_is_predicted_as_the_whole(cut):
    model, ids_Tx1 = NGram.fit(TEXT, VOCAB, 5), OTHER[:30, None]
    _, whole = model.read(model.start(1), ids_Tx1)
    state, pieces = model.start(1), []
    for first in range(0, 30, cut):
        state, piece = model.read(state, ids_Tx1[first : first + cut])
        pieces.append(piece)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
@pytest.mark.parametrize("train", [TEXT, SMALL, SMALL[:1]])
def test_probabilities_add_up_to_one_after_any_context(train, order):
    model = NGram.fit(train, VOCAB, order)
    contexts_BxT = np.array(list(itertools.product(range(V), repeat=3)))
    _, log_probs = model.read(model.start(len(contexts_BxT)), contexts_BxT.T)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-12)


def test_order_zero_is_uniform():
    np.testing.assert_allclose(nats(NGram.fit(TEXT, VOCAB, 0), OTHER), math.log(V))


def test_an_unseen_context_leaves_the_word_to_the_longest_seen_one():
    model = NGram.fit(np.array([0, 1, 2, 0, 1, 3]), VOCAB, 3)
    unseen, seen = nats(model, [4, 1, 2]), nats(model, [1, 2])
    assert unseen[-1] == seen[-1]
    assert unseen[-1] < math.log(V)


def test_context_helps_as_far_as_the_text_depends_on_it():
    models = [NGram.fit(TEXT, VOCAB, order) for order in (1, 2, 3)]
    losses = [nats(model, OTHER).mean() for model in models]
    assert losses[0] > losses[1] > losses[2] + 0.1


def test_a_large_vocabulary_does_not_overflow():
    vocab = Vocab.of("".join(map(chr, range(0x10000, 0x10000 + 100_000))))
    scattered = RNG.permutation(len(vocab))[:V].astype(np.uint32)
    model = NGram.fit(scattered[TEXT], vocab, 8)
    expected = slow_nats([TEXT.tolist()], OTHER[:20], 8, size=len(vocab))
    np.testing.assert_allclose(nats(model, scattered[OTHER[:20]]), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
def test_the_type_of_the_ids_does_not_matter(dtype):
    got = nats(NGram.fit(TEXT.astype(dtype), VOCAB, 3), OTHER.astype(dtype))
    np.testing.assert_array_equal(got, nats(NGram.fit(TEXT, VOCAB, 3), OTHER))


def test_a_memory_map_is_fitted_and_left_as_it_is(tmp_path):
    path = tmp_path / "text.ids"
    TEXT.tofile(path)
    ids = np.memmap(path, np.uint8, mode="r")
    got = nats(NGram.fit(ids, VOCAB, 3), ids)
    np.testing.assert_array_equal(got, nats(NGram.fit(TEXT, VOCAB, 3), TEXT))


@pytest.mark.parametrize(
    ("ids", "symbols", "order", "error", "message"),
    [
        (TEXT, "abcde", -1, ConfigError, "order must be 0 or more; got -1"),
        (TEXT, "abc", 2, TextError, "ids must be 0 to 2; got 0 to 4"),
        (TEXT * 1.0, "abcde", 2, TextError, "ids must be integers; got float64"),
        (TEXT[:0], "abcde", 2, TextError, "must have a character; got none"),
    ],
)
def test_what_cannot_be_fitted_is_refused(ids, symbols, order, error, message):
    with pytest.raises(error, match=message):
        NGram.fit(ids, Vocab.of(symbols), order)


def test_ids_beyond_the_vocabulary_are_not_scored():
    model = NGram.fit(TEXT, VOCAB, 2)
    with pytest.raises(TextError, match="ids must be 0 to 4; got 5 to 5"):
        model.read(model.start(1), np.array([[5]]))
