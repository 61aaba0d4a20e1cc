"""Any text at all through everything: encoded, saved, loaded, sampled and scored."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import charjax
from charjax import checkpoint
from charjax.cli import main
from charjax.text import open_corpus
from tests.models import make

ODD = "\ufeffe\u0301\0\r\n\r\u2028\u0085\U0001f98a\U0010ffff\u200d\u202e"

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def save(folder, vocab):
    return checkpoint.save(
        Path(folder) / "run", make(vocab=vocab, num_layers=1), {}, step=1, epoch=0.1,
        loss=None, loss_of="val", config={}, progress={},
    )  # fmt: skip


def assert_round_trip(text):
    """Every stage gives the text back, and no symbol but those of the text."""
    encoding = "utf-8" if isinstance(text, str) else "bytes"
    raw = text.encode() if isinstance(text, str) else text
    with tempfile.TemporaryDirectory() as folder:
        vocab = charjax.Vocab.of(text)
        if len(vocab) > 1:
            (Path(folder) / "input.txt").write_bytes(raw)
            corpus = open_corpus(folder, encoding)
            assert corpus.vocab == vocab
            assert corpus.vocab.decode(corpus.ids) == text
        params = charjax.load(save(folder, vocab))
        assert params.vocab == vocab
        drawn = charjax.sample(params, text, length=40)
        assert drawn[: len(text)] == text
        assert len(drawn) == len(text) + 40
        assert set(drawn) == set(drawn) & set(text)
        log_probs = charjax.score(params, drawn).log_probs
        assert len(log_probs) == len(drawn)
        assert log_probs[0] == pytest.approx(-math.log(len(vocab)), abs=1e-6)
        assert np.isfinite(log_probs).all()
        for at in (1, len(drawn) - 1):
            odds = charjax.next_chars(params, drawn[:at])
            assert odds[drawn[at : at + 1]] == pytest.approx(
                math.exp(log_probs[at]), rel=1e-4
            )


@settings(max_examples=2, deadline=None)
@given(texts)
@example("a")
@example("\0")
@example(ODD)
def test_any_unicode_text_comes_back_from_every_stage(text):
    assert_round_trip(text)


@settings(max_examples=2, deadline=None)
@given(st.binary(min_size=1, max_size=30))
@example(b"\xff")
@example(bytes(range(256)))
def test_any_bytes_come_back_from_every_stage(content):
    assert_round_trip(content)


@pytest.mark.parametrize(
    ("size", "dtype"), [(256, np.uint8), (257, np.uint16), (65_537, np.uint32)]
)
def test_ids_of_the_widest_of_each_type_come_back_from_every_stage(size, dtype):
    # From beyond the surrogates up, so that most are astral.
    text = "".join(map(chr, range(0xE000, 0xE000 + size)))
    assert charjax.Vocab.of(text).dtype == dtype
    with tempfile.TemporaryDirectory() as folder:
        params = charjax.load(save(folder, charjax.Vocab.of(text)))
    last = text[-1]
    drawn = charjax.sample(params, last, length=20)
    assert drawn[0] == last
    assert set(drawn) <= set(text)
    log_probs = charjax.score(params, last * 2 + text[255:257]).log_probs
    assert log_probs[0] == pytest.approx(-math.log(size), abs=1e-6)
    assert np.isfinite(log_probs).all()


def test_odd_characters_go_through_files_of_the_command_line(tmp_path, capfdbinary):
    path = save(tmp_path, charjax.Vocab.of(ODD))
    (tmp_path / "odd.txt").write_bytes(ODD.encode())
    prime = ["--prime-file", str(tmp_path / "odd.txt")]
    assert main(["sample", str(path), *prime, "--length", "5"]) == 0
    out, err = capfdbinary.readouterr()
    expected = charjax.sample(charjax.load(path), ODD, length=5)
    assert out == expected.encode() + b"\n"
    (tmp_path / "drawn.txt").write_bytes(out[:-1])
    assert main(["score", str(path), str(tmp_path / "drawn.txt")]) == 0
    out, err = capfdbinary.readouterr()
    score = charjax.score(charjax.load(path), expected)
    assert f"{len(expected)}\n" in out.decode()
    assert f"{score.nats:.4f}" in out.decode()
    assert not err
