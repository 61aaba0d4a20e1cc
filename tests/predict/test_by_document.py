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
from charjax.predict import by_document
from charjax.predict.predictor import predictor_of
from charjax.text.documents import ends_in
from charjax.text.streams import Lanes
from charjax.training import create_state, make_train_step
from charjax.unroll import Execution
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


@pytest.mark.parametrize("lanes", [1, 3, 64])
def test_a_score_is_that_of_each_document_by_itself(monkeypatch, lanes):
    monkeypatch.setattr(by_document, "_LANES", lanes)
    monkeypatch.setattr(by_document, "_PIECE", 5)
    params = model_of("gru")
    score = predict.score_documents(params, TEXT, END)
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
            lambda end=end: predict.score_documents(params, TEXT, end),
        ):
            with pytest.raises(TextError, match="must be known to the model"):
                call()


def test_any_predictor_writes_and_scores_documents():
    class Counter:
        """Says that the next symbol is the next of the vocabulary."""

        vocab = charjax.Vocab.of("abc|")

        def start(self, batch_size):
            return None

        def read(self, state, ids_TxB):
            next_TxBxV = np.eye(4)[(ids_TxB + 1) % 4]
            return state, np.log(next_TxBxV * 0.96 + 0.01)

    predictor = predictor_of(Counter())
    assert predict.documents(predictor, "|", 2, 0) == ["abc", "abc"]
    score = predict.score_documents(predictor, "abc|abc|ab", "|")
    np.testing.assert_allclose(score.log_probs, np.log(0.97), rtol=1e-5)
