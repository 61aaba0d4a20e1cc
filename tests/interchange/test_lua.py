"""Checkpoints of torch-rnn and char-rnn, compared with what these compute of them."""

from pathlib import Path

import jax
import numpy as np
import pytest

import charjax
from charjax.interchange import read_model
from tests.interchange import lua_models
from tests.interchange.t7_writer import dumps

# A checkpoint that torch-rnn wrote, where a folder above this one has it.
_NAME = "shared/data/torch-rnn/wired-titles.t7"
_FOUND = (folder / _NAME for folder in Path(__file__).parents)
REAL = next(filter(Path.exists, _FOUND), None)


def read(folder, checkpoint):
    (folder / "model.t7").write_bytes(dumps(checkpoint))
    return read_model(folder / "model.t7")


def log_probs(params, ids):
    logits_TxV = charjax.apply(params, np.array([ids]))[0][0]
    return np.asarray(jax.nn.log_softmax(logits_TxV))


@pytest.mark.parametrize(("kind", "dropout"), [("lstm", 0.0), ("rnn", 0.3)])
def test_a_torch_rnn_model_predicts_what_its_modules_compute(tmp_path, kind, dropout):
    checkpoint = lua_models.torch_rnn(kind, dropout)
    found = read(tmp_path, checkpoint)
    ids = [0, 3, 5, 5, 1, 2, 0]
    scores_TxV = lua_models.torch_rnn_scores(checkpoint, ids)
    expected = scores_TxV - np.log(np.exp(scores_TxV).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_probs(found.params, ids), expected, atol=1e-5)
    assert found.params.vocab.symbols == lua_models.SYMBOLS
    assert (found.params.spec.cell, found.step, found.loss) == (kind, 2000, 1.75)


@pytest.mark.parametrize(
    ("kind", "dropout"), [("lstm", 0.2), ("gru", 0.0), ("gru", 0.2), ("rnn", 0.0)]
)
def test_a_char_rnn_model_predicts_what_its_graph_computes(tmp_path, kind, dropout):
    checkpoint = lua_models.char_rnn(kind, dropout)
    found = read(tmp_path, checkpoint)
    ids = [0, 3, 1, 1, 2, 0]
    expected = lua_models.char_rnn_log_probs(checkpoint, ids)
    np.testing.assert_allclose(log_probs(found.params, ids), expected, atol=1e-5)
    assert found.params.vocab.symbols == "ab\nc"
    assert (found.step, found.epoch, found.loss) == (2000, 4.5, 1.75)


def test_weights_in_double_precision_become_float32(tmp_path):
    checkpoint = lua_models.torch_rnn("rnn")
    narrow = read(tmp_path, checkpoint).params
    for module in checkpoint["model"]["net"]["modules"].values():
        for name in {"weight", "bias"} & set(module):
            module[name] = module[name].astype("f8")
    wide = read(tmp_path, checkpoint).params
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)


@pytest.mark.parametrize(("tokens", "symbols"), [
    (["a", "[195]", "[169]", "\n", "[", "]"], b"a\xc3\xa9\n[]"),
    (["a", "é", "b", "c", "d", "e"], "aébcde"),
])  # fmt: skip
def test_a_torch_rnn_text_of_bytes_has_a_vocabulary_of_bytes(tmp_path, tokens, symbols):
    found = read(tmp_path, lua_models.torch_rnn("rnn", tokens=tokens))
    assert found.params.vocab.symbols == symbols


@pytest.mark.parametrize(("symbols", "expected"), [
    (b"a\xc3\xa9\n", b"a\xc3\xa9\n"),
    (["a", "é", "😀", "\n"], "aé😀\n"),
])  # fmt: skip
def test_a_char_rnn_vocabulary_is_of_bytes_or_of_characters(
    tmp_path, symbols, expected
):
    found = read(tmp_path, lua_models.char_rnn("rnn", symbols=symbols))
    assert found.params.vocab.symbols == expected


@pytest.mark.skipif(not REAL, reason="the real checkpoint is not here")
def test_a_real_checkpoint_of_torch_rnn_writes_headlines():
    """Trained in 2016 on headlines; 1.6979 is the validation loss that it recorded."""
    found = read_model(REAL)
    assert found.params.spec == charjax.ModelSpec("lstm", 128, 2, 64)
    assert (found.step, round(found.loss, 4)) == (23750, 1.6979)
    headline = "\nGoogle and Apple Say the New iPhone Is the Future of Your Phone\n"
    assert charjax.score(found.params, headline).nats < 1.6979
