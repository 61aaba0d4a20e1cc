"""Scores, next characters and evaluation: against the training graph on whole texts."""

import itertools
import math

import jax
import numpy as np
import pytest

import charjax
from charjax import ConfigError, TextError, Vocab
from charjax.predict import evaluation, predictor, scoring
from charjax.predict.predictor import ModelPredictor
from charjax.predict.scoring import read_text
from charjax.text.streams import split_corpus
from tests.compilations import compilations
from tests.models import EXECUTIONS, KINDS, VOCAB, make

V = len(VOCAB)
TEXT = "".join(np.random.default_rng(0).choice(list(VOCAB.symbols), 90))

# The training graph, and what it says of the next character.
apply = jax.jit(charjax.apply)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def log_probs_of_whole(params, text, execution=None):
    """Every character's log-probability from the training graph run once over all."""
    ids = params.vocab.encode(text)
    logits_1xTxV, _ = charjax.apply(params, ids[None], execution=execution)
    log_probs_TxV = log_softmax(logits_1xTxV[0])
    rest = [log_probs_TxV[t, ids[t + 1]] for t in range(len(ids) - 1)]
    return np.array([-math.log(len(params.vocab)), *rest])


@pytest.mark.parametrize(("execution", "tolerance"), EXECUTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_log_probs_equal_those_of_the_training_graph(kind, execution, tolerance):
    params = make(**kind)
    got = charjax.score(params, TEXT, execution=execution).log_probs
    expected = log_probs_of_whole(params, TEXT, execution)
    np.testing.assert_allclose(got, expected, atol=tolerance)
    assert got.std() > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_state_after_a_text_equals_the_training_graphs(kind):
    params, tolerance = make(**kind), 1e-5
    ids = VOCAB.encode(TEXT)
    logits_1xTxV, carry = apply(params, ids[None])
    state, _ = read_text(ModelPredictor(params, charjax.Execution()), ids)
    np.testing.assert_allclose(state.logits_BxV, logits_1xTxV[:, -1], atol=tolerance)
    for got, expected in zip(
        jax.tree.leaves(state.carry), jax.tree.leaves(carry), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=tolerance)


def test_probabilities_of_all_texts_of_one_length_add_up_to_one():
    params = make()
    texts = itertools.product(VOCAB.symbols, repeat=2)
    total = sum(
        math.exp(charjax.score(params, "".join(text)).log_probs.sum()) for text in texts
    )
    assert total == pytest.approx(1, abs=1e-5)


def test_figures_are_the_mean_in_their_units():
    result = charjax.score(make(), TEXT)
    expected = -sum(float(log_prob) for log_prob in result.log_probs) / len(TEXT)
    assert result.nats == pytest.approx(expected, rel=1e-12)
    assert 2**result.bits == pytest.approx(result.perplexity)
    assert math.log(result.perplexity) == pytest.approx(result.nats)


def test_a_text_of_one_character_is_as_likely_as_any_other():
    assert charjax.score(make(), "c").perplexity == pytest.approx(V)


def test_a_diverged_models_perplexity_is_infinite():
    params = jax.tree.map(lambda w: 1e6 * w, make())
    result = charjax.score(params, TEXT)
    assert 1000 < result.nats < math.inf
    assert result.perplexity == math.inf


@pytest.mark.parametrize("size", [1, 7])
def test_log_probs_do_not_depend_on_the_size_of_pieces(size, monkeypatch):
    params = make()
    expected = charjax.score(params, TEXT).log_probs
    monkeypatch.setattr(predictor, "_PIECE", size)
    np.testing.assert_array_equal(charjax.score(params, TEXT).log_probs, expected)


def test_a_text_of_many_pieces_scores_as_the_training_graph_does():
    params = make()
    text = TEXT * 40
    assert len(text) > 3 * predictor._PIECE
    got = charjax.score(params, text).log_probs
    np.testing.assert_allclose(got, log_probs_of_whole(params, text), atol=1e-4)


def test_neither_length_nor_weights_nor_temperature_compile_anew():
    params, others = make(hidden_size=13), make(1, hidden_size=13)
    with compilations() as compiled:
        charjax.score(params, TEXT)
        charjax.score(params, TEXT[:2])  # single characters are read by themselves
    assert sum("_read_piece" in name for name in compiled) == 2
    with compilations() as compiled:
        for length in (1, 2, 89):
            charjax.score(params, TEXT[:length])
        charjax.score(others, TEXT * 20)
        charjax.next_chars(others, TEXT[:5], temperature=0.3)
    assert compiled == []


def test_unknown_characters_are_an_error_or_are_left_out():
    params = make()
    with pytest.raises(TextError, match=r"'!'.* position 2 "):
        charjax.score(params, "ab!cd")
    got = charjax.score(params, "ab!cd", on_unknown="skip")
    np.testing.assert_array_equal(
        got.log_probs, charjax.score(params, "abcd").log_probs
    )


@pytest.mark.parametrize("text", ["", "!?"])
def test_a_text_without_known_characters_has_no_score(text):
    with pytest.raises(TextError, match="must have a known character"):
        charjax.score(make(), text, on_unknown="skip")


def test_next_chars_are_the_probabilities_of_each_continuation():
    params = make()
    table = charjax.next_chars(params, TEXT)
    assert sorted(table) == list(VOCAB.symbols)
    assert sum(table.values()) == pytest.approx(1)
    for symbol, probability in table.items():
        log_prob = charjax.score(params, TEXT + symbol).log_probs[-1]
        assert probability == pytest.approx(math.exp(log_prob), rel=1e-4)


def test_next_chars_come_in_falling_order():
    probabilities = list(charjax.next_chars(make(), TEXT).values())
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] > 2 * probabilities[-1]


def test_temperature_raises_next_chars_to_its_inverse_power():
    params = make()
    plain = charjax.next_chars(params, "ab")
    sharp = charjax.next_chars(params, "ab", temperature=0.25)
    powers = {symbol: probability**4 for symbol, probability in plain.items()}
    for symbol in VOCAB.symbols:
        expected = powers[symbol] / sum(powers.values())
        assert sharp[symbol] == pytest.approx(expected, rel=1e-5)


def test_temperature_zero_leaves_the_likeliest_character():
    params = make()
    probabilities = charjax.next_chars(params, "ab", temperature=0)
    assert list(probabilities.values()) == [1.0] + [0.0] * (V - 1)
    assert next(iter(probabilities)) == next(iter(charjax.next_chars(params, "ab")))


@pytest.mark.parametrize("temperature", [0, 1e-9, 1, 1e9])
def test_after_an_empty_prime_every_character_is_equally_likely(temperature):
    probabilities = charjax.next_chars(make(), temperature=temperature)
    assert list(probabilities) == list(VOCAB.symbols)
    assert list(probabilities.values()) == pytest.approx([1 / V] * V)


def test_next_chars_of_a_vocabulary_of_bytes_are_single_bytes():
    params = make(vocab=Vocab.of(bytes([0, 10, 200, 255])))
    assert sorted(charjax.next_chars(params, b"\x00\xff")) == [
        b"\x00",
        b"\n",
        b"\xc8",
        b"\xff",
    ]


@pytest.mark.parametrize("temperature", [-1, math.nan, math.inf, "warm", None])
def test_next_chars_refuse_an_impossible_temperature(temperature):
    with pytest.raises(ConfigError, match="temperature must be a finite number"):
        charjax.next_chars(make(), "a", temperature=temperature)


def lanes(batch_size=3, seq_length=4, repeat=3):
    ids = VOCAB.encode(TEXT * repeat)
    return split_corpus(
        ids, batch_size=batch_size, seq_length=seq_length, train_frac=0.3, val_frac=0.6
    ).val


def mean_nats_of_whole_lanes(params, split):
    """The mean over the training graph run once from end to end of every lane."""
    length = split.num_chunks * split.seq_length
    ids_BxL = split.window(0, length + 1).astype(int)
    logits_BxTxV, _ = apply(params, ids_BxL[:, :-1])
    log_probs_BxTxV = log_softmax(logits_BxTxV)
    return -np.take_along_axis(log_probs_BxTxV, ids_BxL[:, 1:, None], axis=-1).mean()


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]])
def test_evaluation_is_the_mean_over_whole_lanes(kind):
    params = make(**kind)
    expected = mean_nats_of_whole_lanes(params, lanes())
    assert charjax.evaluate(params, lanes()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("characters", [1, 60])
def test_evaluation_does_not_depend_on_the_chunks_a_call(characters, monkeypatch):
    params, split = make(), lanes()
    assert split.num_chunks == 13
    expected = charjax.evaluate(params, split)
    monkeypatch.setattr(evaluation, "_CHARACTERS", characters)
    assert charjax.evaluate(params, split) == expected
    assert charjax.evaluate(params, split) == expected


def test_evaluation_compiles_once_for_splits_of_any_number_of_chunks():
    params, others = make(hidden_size=3), make(1, hidden_size=3)
    with compilations() as compiled:
        charjax.evaluate(params, lanes())
    assert sum("_read_chunks" in name for name in compiled) == 1
    assert lanes(repeat=20).num_chunks != lanes().num_chunks
    with compilations() as compiled:
        charjax.evaluate(params, lanes(repeat=20))
        charjax.evaluate(others, lanes())
    assert compiled == []


def test_a_split_without_chunks_is_not_evaluated():
    empty = split_corpus(
        VOCAB.encode(TEXT), batch_size=3, seq_length=4, train_frac=1.0, val_frac=0.0
    ).val
    with pytest.raises(TextError, match="must have a chunk"):
        charjax.evaluate(make(), empty)


def test_a_model_in_double_precision_predicts_as_in_single():
    single = make()
    expected = charjax.next_chars(single, "badge")
    with jax.enable_x64(True):
        double = jax.tree.map(lambda w: np.asarray(w, np.float64), single)
        got = charjax.next_chars(double, "badge", temperature=0.5)
        assert charjax.score(double, "badge").nats > 0
    assert list(got) == list(expected)
    squared = {symbol: p**2 for symbol, p in expected.items()}
    for symbol, p in got.items():
        assert p == pytest.approx(squared[symbol] / sum(squared.values()), rel=1e-4)


@pytest.mark.parametrize("lanes", [2, 3, 7, 1000])
def test_lanes_give_what_a_sequential_reading_gives(lanes, monkeypatch):
    monkeypatch.setattr(scoring, "_WARM_UP", 30)
    # Small weights, so that the state forgets what was before the warm-up.
    params, text = jax.tree.map(lambda w: 0.3 * w, make(cell="gru")), TEXT * 5
    expected = charjax.score(params, text)
    got = charjax.score(params, text, lanes=lanes)
    np.testing.assert_allclose(got.log_probs, expected.log_probs, atol=1e-3)
    # Before its lane's own start a character is seen by no state that is zero.
    np.testing.assert_allclose(got.log_probs[:30], expected.log_probs[:30], atol=1e-5)
    assert got.nats == pytest.approx(expected.nats, abs=1e-4)


def test_a_lane_sees_what_is_before_it(monkeypatch):
    monkeypatch.setattr(scoring, "_WARM_UP", 30)
    ngram = charjax.NGram.fit(VOCAB.encode(TEXT), VOCAB, order=4)
    text = TEXT[7:] + TEXT * 3
    expected, got = (charjax.score(ngram, text, lanes=n) for n in (1, 5))
    np.testing.assert_array_equal(got.log_probs, expected.log_probs)


@pytest.mark.parametrize("lanes", [0, -1, 1.5, "2"])
def test_a_number_of_lanes_that_is_none_is_refused(lanes):
    with pytest.raises(ConfigError, match="lanes must be an integer of 1 or more"):
        charjax.score(make(), TEXT, lanes=lanes)
