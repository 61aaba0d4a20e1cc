"""Documents are read from the zero state in training, validation and scoring alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import charjax
from charjax import cells, predict
from charjax.cells.base import Cell, dense_init, dense_project, sigmoid, zero_carry
from charjax.errors import TextError
from charjax.model.loss import chunk_loss
from charjax.predict import by_document, scoring
from charjax.predict.predictor import ModelPredictor, predictor_of
from charjax.text.documents import ends_in, with_beginning
from charjax.text.streams import Lanes
from charjax.training import create_state, make_train_step
from charjax.unroll import Execution
from tests.oracles import ngram as ngram_oracle
from tests.oracles.documents import documents_of, total_nats

END = "\n\n"
TEXT = "roses are red\n\nblue\nis the sea\n\n\nno\n\na" * 3
VOCAB = charjax.Vocab.of(TEXT)


def _linear(params, z):
    gate, new = jnp.split(z, 2, axis=-1)
    return 1 - sigmoid(gate), sigmoid(gate) * jnp.tanh(new)


def _step(params, carry, z, matmul):
    a, b = _linear(params, z)
    return a * carry + b, a * carry + b


LINEAR = Cell(dense_init(gates=2), zero_carry, dense_project, _step, linear=_linear)
if "linear_for_documents" not in cells.names():
    cells.register("linear_for_documents", LINEAR)


def model_of(cell, **options):
    spec = charjax.ModelSpec(cell=cell, hidden_size=5, num_layers=2, **options)
    params = charjax.init(jax.random.key(1), spec, VOCAB)
    # Larger weights, so that what is carried over would show.
    return jax.tree.map(lambda w: 2 * w, params)


def batch():
    """The text as one lane that begins with a document, and where others begin."""
    ids = VOCAB.encode(END[-1] + TEXT).astype(np.int32)[:, None]
    begins = ends_in(ids[:, 0], VOCAB.encode(END).astype(np.int32), 0, len(ids))
    begins[0] = True
    return ids[:-1], ids[1:], begins[:-1, None]


def total_of_chunk(params, execution=None):
    x_TxB, y_TxB, begins_TxB = batch()
    carry = jax.tree.map(lambda c: c + 7.0, charjax.initial_carry(params, 1))
    read = chunk_loss(
        params, x_TxB, y_TxB, carry, begins_TxB=begins_TxB, execution=execution
    )
    return read.nats * len(x_TxB)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {}),
        ("gru", {"embedding_size": 3}),
        ("lstm", {"zoneout": 0.2}),
        ("linear_for_documents", {}),
    ],
)
def test_a_chunk_has_loss_and_gradient_of_each_document_by_itself(cell, options):
    params = model_of(cell, **options)
    oracle = jax.value_and_grad(lambda params: total_nats(params, TEXT, END))(params)
    found = jax.value_and_grad(total_of_chunk)(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        found,
        oracle,
    )


def test_segments_do_not_change_it():
    params = model_of("lstm")
    whole = total_of_chunk(params)
    length = len(TEXT) // 3
    parts = total_of_chunk(params, Execution(segment_length=length))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_validation_is_the_mean_over_documents_by_themselves():
    params = model_of("lstm")
    ids = VOCAB.encode(END + TEXT)
    lanes = Lanes(ids, (1,), len(TEXT) // 6, 1, 6, end=VOCAB.encode(END))
    assert len(TEXT) % 6 == 0
    expected = total_nats(params, TEXT, END) / len(TEXT)
    np.testing.assert_allclose(predict.evaluate(params, lanes), expected, rtol=1e-4)
    carried = predict.evaluate(params, dataclasses.replace(lanes, end=None))
    assert abs(carried - expected) > 1e-3


def test_a_training_step_takes_the_loss_of_documents():
    params, optimizer = model_of("lstm"), optax.sgd(0.1)
    x_TxB, y_TxB, begins_TxB = batch()
    ids_BxL = np.concatenate([x_TxB, y_TxB[-1:]]).T
    state = create_state(params, optimizer, jax.random.key(0), 1)
    _, metrics = make_train_step(optimizer)(state, ids_BxL, begins_TxB.T)
    expected = total_nats(params, TEXT, END) / len(TEXT)
    np.testing.assert_allclose(metrics.loss, expected, rtol=1e-4)


def test_a_score_is_that_of_each_document_by_itself():
    params = model_of("gru")
    score = predict.score(params, TEXT, end=END)
    start = 0
    for document in documents_of(TEXT, END):
        alone = charjax.score(params, END[-1] + document).log_probs[1:]
        found = score.log_probs[start : start + len(document)]
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
        start += len(document)
    assert start == len(score.log_probs)


def test_documents_are_samples_up_to_what_ends_them(monkeypatch):
    monkeypatch.setattr(by_document, "_FIRST", 3)
    params = model_of("lstm")
    found = predict.documents(params, END, 20, prime="ro", length=200, seed=4)
    texts = charjax.sample(params, END[-1] + "ro", num_samples=20, length=200, seed=4)
    assert found == [text[1:].partition(END)[0] for text in texts]
    assert any(len(document) < 200 for document in found)
    assert all(document.startswith("ro") for document in found)


def test_an_end_that_the_model_does_not_know_is_an_error():
    params = model_of("lstm")
    for end in ("\x1e", ""):
        for call in (
            lambda end=end: predict.documents(params, end, 2),
            lambda end=end: predict.score(params, TEXT, end=end or "\x1e"),
        ):
            with pytest.raises(TextError, match="must be known to the model"):
                call()


def test_any_predictor_writes_and_scores_documents():
    class Counter:
        """Says that the next symbol is the next of the vocabulary."""

        vocab = charjax.Vocab.of("abc|")

        def start(self, batch_size):
            return None

        def read(self, state, ids_TxB, begins_TxB=None):
            next_TxBxV = np.eye(4)[(ids_TxB + 1) % 4]
            return state, np.log(next_TxBxV * 0.96 + 0.01)

    predictor = predictor_of(Counter())
    assert predict.documents(predictor, "|", 2, 0) == ["abc", "abc"]
    score = predict.score(predictor, "abc|abc|ab", end="|")
    np.testing.assert_allclose(score.log_probs, np.log(0.97), rtol=1e-5)


def test_the_next_character_of_a_prime_is_that_of_its_last_document():
    params = model_of("gru")
    for prime, last in (("", ""), ("blue\n\nro", "ro"), ("blue\n\n", "")):
        found = charjax.next_chars(params, prime, end=END)
        alone = charjax.next_chars(params, END[-1] + last)
        assert found == pytest.approx(alone, abs=1e-5)


IDS = VOCAB.encode(TEXT)
DYNAMIC = charjax.Dynamic(
    model_of("gru"), rule=charjax.DynamicRule("sgd", chunk_length=7, rate=0.05)
)


def test_a_learner_starts_a_document_from_the_zero_state_with_the_weights_so_far():
    """By hand: a chunk after the other, its characters one by one."""
    first, rule, length = DYNAMIC.params, DYNAMIC.rule, 7 * 4
    x_T, y_T, begins_T = (array[:length, 0] for array in batch())
    assert begins_T.sum() == 2

    def read(params, carry, places):
        nats = []
        for t in places:
            carry = charjax.initial_carry(params, 1) if begins_T[t] else carry
            logits, carry = charjax.apply(params, x_T[t][None, None], carry)
            nats.append(-jax.nn.log_softmax(logits[0, 0])[y_T[t]])
        return jnp.mean(jnp.stack(nats)), (nats, carry)

    def moved(w, g, w0):
        return w - rule.step_size * g + rule.decay * (w0 - w)

    params, carry, expected = first, charjax.initial_carry(first, 1), []
    for start in range(0, length, 7):
        places = range(start, start + 7)
        gradient, (nats, carry) = jax.grad(read, has_aux=True)(params, carry, places)
        params = jax.tree.map(moved, params, gradient, first)
        expected += nats
    state, found = DYNAMIC.start(1), []
    for start in range(0, length, 5):
        piece = slice(start, start + 5)
        text = x_T[piece, None], begins_T[piece, None]
        state, log_probs_Tx1xV = DYNAMIC.read(state, *text)
        found += [-p[i] for p, i in zip(log_probs_Tx1xV[:, 0], y_T[piece], strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_an_ngram_model_counts_documents_by_themselves(order):
    ids, begins = with_beginning(IDS, VOCAB.encode(END))
    ngram = charjax.NGram.fit(ids, VOCAB, order, begins)
    texts = [[*VOCAB.encode(END[-1] + text)] for text in documents_of(TEXT, END)]
    model = ngram_oracle.fit(texts, order, documents=True)
    expected = [
        np.log(ngram_oracle.probability(model, order, len(VOCAB), text[:t], text[t]))
        for text in texts
        for t in range(1, len(text))
    ]
    score = charjax.score(ngram, TEXT, end=END)
    np.testing.assert_allclose(score.log_probs, expected, rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_an_ngram_model_that_goes_on_counting_starts_each_document_anew(order):
    ids, begins = with_beginning(IDS, VOCAB.encode(END))
    half = np.flatnonzero(begins)[len(np.flatnonzero(begins)) // 2]
    ngram = charjax.NGram.fit(ids[:half], VOCAB, order, begins[:half])
    both = charjax.NGram.fit(ids, VOCAB, order, begins)
    adaptive = charjax.AdaptiveNGram(ngram)
    text = ids[half:, None], begins[half:, None]
    state, first = adaptive.read(adaptive.start(1), text[0][:9], text[1][:9])
    _, rest = adaptive.read(state, text[0][9:], text[1][9:])
    _, expected = both.read(both.start(1), *text)
    np.testing.assert_allclose(rest[-1], expected[-1], rtol=1e-6)
    _, again = adaptive.read(adaptive.start(1), *text)
    np.testing.assert_allclose(np.concatenate([first, rest]), again, rtol=1e-12)


def test_predictors_that_are_made_of_others_tell_them_of_documents():
    ids, begins = with_beginning(IDS, VOCAB.encode(END))
    ngram = charjax.NGram.fit(ids, VOCAB, 3, begins)
    score = charjax.score(ngram, TEXT, end=END).log_probs
    for whole in (charjax.Ensemble([ngram] * 2), charjax.Mixture([ngram] * 2)):
        found = charjax.score(whole, TEXT, end=END).log_probs
        np.testing.assert_allclose(found, score, rtol=1e-5)


def test_an_excerpt_is_of_whole_documents_where_there_are_some(monkeypatch):
    monkeypatch.setattr(by_document, "_SHOWN", 2)
    how = {"prime": "ro", "length": 20, "seed": 4}
    params = model_of("lstm")
    texts = predict.documents(params, END, 2, 0.8, **how)
    shown = by_document.excerpt(params, 0.8, end=END, **how)
    assert shown == "\n".join(texts)[:20]
    running_on = by_document.excerpt(params, 0.8, end="", **how)
    assert running_on == charjax.sample(params, "ro", 0.8, length=20, seed=4)


def test_short_documents_are_scored_side_by_side_as_one_after_the_other(monkeypatch):
    text = "".join(f"{word}\n\n" for word in TEXT.split() * 120)
    params = model_of("lstm")
    several = charjax.score(params, text, end=END).log_probs
    lanes = []
    start = ModelPredictor.start
    monkeypatch.setattr(
        ModelPredictor, "start", lambda self, n: lanes.append(n) or start(self, n)
    )
    charjax.score(params, text, end=END)
    monkeypatch.setattr(scoring, "_SIDE_BY_SIDE", 1)
    one = charjax.score(params, text, end=END).log_probs
    np.testing.assert_allclose(several, one, atol=1e-5)
    assert len(several) == len(text)
    assert lanes == [len(text) // 1000, 1]
