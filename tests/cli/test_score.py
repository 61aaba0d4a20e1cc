"""`charjax score` and `charjax novel`."""

import bz2
import dataclasses
import gzip
import lzma
import math
import re

import numpy as np
import pytest

import charjax
from tests.cli.conftest import save


def test_score_prints_what_the_library_says(cv, run, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abc abc")
    _, out, _ = run("score", cv / "first", file)
    score = charjax.score(charjax.load(cv / "first"), "abc abc")
    assert f"{score.nats:.4f}" in out
    assert f"{score.bits:.4f}" in out
    assert f"{score.perplexity:.4f}" in out
    assert f"bits/byte        {score.bits:.4f}" in out
    assert len(out.splitlines()) == 5


def test_a_model_of_documents_reads_each_anew(run, tmp_path):
    for name, step in (("a", 10), ("b", 20)):
        save(tmp_path, name, step=step, separator="\n")
    file, text = tmp_path / "text", "abc\ndef\n"
    file.write_text(text)
    models = [charjax.load(tmp_path / name) for name in "ab"]
    first, second = (charjax.score(params, text, end="\n") for params in models)
    _, out, _ = run("score", tmp_path / "a", file)
    assert out.startswith("documents        2\ncharacters       8\n")
    assert f"nats/char        {first.nats:.4f}" in out
    _, out, _ = run("compare", tmp_path / "a", tmp_path / "b", "--text", file)
    assert f"B - A  {second.nats - first.nats:+.4f} nats/char" in out
    likeliest, chance = next(iter(charjax.next_chars(models[0], end="\n").items()))
    _, out, _ = run("next", tmp_path / "a", "--prime", "abc\n", "--top", "1")
    assert out == f"{chance:8.4%}  {likeliest!r}\n"


def rows_of(out):
    """The rows of a table by their names, each a list of numbers or `-`."""
    _, _, *lines = out.splitlines()
    cells = [re.split(r"  +", line.replace(",", "")) for line in lines]
    return {name: [x if x == "-" else float(x) for x in rest] for name, *rest in cells}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run that was trained on a text, each line a document, and the text."""
    folder = tmp_path_factory.mktemp("trained")
    text = "the cat sat on the mat. a dog ate the hat.\n" * 120
    (folder / "input.txt").write_text(text)
    config = charjax.default_config()
    config.data.update(dir=str(folder), batch_size=5, seq_length=20, separator="\n")
    config.model.update(hidden_size=8, num_layers=1)
    config.train.update(max_steps=40, checkpoint_dir=str(folder / "cv"), report=False)
    return charjax.train(config, sinks=()), text


def test_a_row_for_each_predictor_and_for_their_mixture(trained, run, tmp_path):
    trained, text = trained
    text = text[:2500] + "the hat on the dog. " * 10
    file = tmp_path / "text.txt"
    file.write_text(text)
    arguments = "--ngram", "--dynamic", "--baselines", "--ensemble", trained.path
    status, out, _ = run("score", trained.path, file, *arguments)
    assert status == 0
    assert out.splitlines()[0] == "2,700 characters, 2,700 bytes"
    rows = rows_of(out)
    params = charjax.load(trained.path)
    ngram = charjax.report.ngram_for(trained.path, params.vocab)
    predictors = {
        "model": params,
        "ensemble of 2": params,  # of a model with itself
        "dynamic": charjax.report.dynamic_for(trained.path),
        "ensemble of 2 dynamic": charjax.report.dynamic_for(trained.path),
        "8-gram": ngram,
        "8-gram adaptive": charjax.AdaptiveNGram(ngram),
    }
    predictors["mixture"] = charjax.Mixture(list(predictors.values()))
    for name, predictor in predictors.items():
        score = charjax.score(predictor, text, end="\n")
        nats, error, bits, bits_a_byte, perplexity, size = rows[name]
        assert nats == pytest.approx(score.nats, abs=2e-4)
        assert bits == bits_a_byte == pytest.approx(score.bits, abs=2e-4)
        assert perplexity == pytest.approx(score.perplexity, rel=1e-3)
        assert size == pytest.approx(math.ceil(score.bits * 2700 / 8), abs=1)
        means = [x.mean() for x in np.array_split(score.log_probs, 20)]
        assert error == pytest.approx(np.std(means, ddof=1) / 20**0.5, abs=2e-4)
    data = text.encode()
    for name, size in {
        "gzip -9": len(gzip.compress(data, 9)),
        "bzip2 -9": len(bz2.compress(data, 9)),
        "xz -9": len(lzma.compress(data, preset=9)),
    }.items():
        nats, error, bits, _, _, compressed = rows[name]
        assert error == "-"
        assert compressed == size
        assert bits == pytest.approx(8 * size / 2700, abs=1e-4)
        assert nats == pytest.approx(8 * size / 2700 * math.log(2), abs=1e-4)


def test_an_ngram_is_fitted_to_the_training_split_alone(trained, run):
    trained, text = trained
    vocab = charjax.load(trained.path).vocab
    ngram = charjax.report.ngram_for(trained.path, vocab)
    streams = charjax.text.split_corpus(
        vocab.encode(text), batch_size=5, seq_length=20, train_frac=0.95, val_frac=0.05
    )
    lanes = dataclasses.replace(streams.train, end=vocab.encode("\n"))
    window = 0, lanes.num_chunks * lanes.seq_length
    text_and_documents = lanes.window(*window), lanes.begins(*window)
    expected = charjax.NGram.fit(text_and_documents[0], vocab, 8, text_and_documents[1])
    scores = [charjax.score(x, text[:99], end="\n").nats for x in (ngram, expected)]
    assert scores[0] == scores[1]


def test_without_a_text_it_is_what_the_run_validated_on(trained, run):
    trained, text = trained
    status, out, err = run("score", trained.path)
    assert status == 0
    assert "scoring the validation split of the run" in err
    vocab = charjax.load(trained.path).vocab
    ids = vocab.encode(text)
    lanes = np.split(ids[: len(ids) // 5 * 5], 5)  # five lanes, whose ends validate
    val = charjax.report.heldout_text(trained.path, vocab).text
    length = len(val) // 5
    for i, lane in enumerate(lanes):
        assert val[i * length : (i + 1) * length] in vocab.decode(lane[-2 * length :])
    score = charjax.score(charjax.load(trained.path), val, end="\n")
    assert f"nats/char        {score.nats:.4f}" in out


def test_lanes_are_read_from_the_zero_state_as_in_validation(run, tmp_path):
    (tmp_path / "input.txt").write_text("the cat sat on the mat. " * 200)
    config = charjax.default_config()
    config.data.update(dir=str(tmp_path), batch_size=4, seq_length=20)
    config.model.update(hidden_size=4, num_layers=1)
    config.train.update(max_steps=20, checkpoint_dir=str(tmp_path / "cv"), report=False)
    path = charjax.train(config, sinks=()).path
    params = charjax.load(path)
    name, val, begins = charjax.report.heldout_text(path, params.vocab)
    assert (name, len(val), begins.sum()) == ("validation", 4 * len(val) // 4, 4)
    lanes = [val[i * len(val) // 4 : (i + 1) * len(val) // 4] for i in range(4)]
    # The first character of a lane follows on the lane before it.
    expected = [charjax.score(params, lane).log_probs[1:] for lane in lanes]
    score = charjax.score(params, val, begins=begins)
    got = [x[1:] for x in np.split(score.log_probs, 4)]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    _, out, _ = run("score", path)
    assert f"nats/char        {score.nats:.4f}" in out
    with pytest.raises(charjax.ConfigError, match="begins must have a value for each"):
        charjax.score(params, val, begins=begins[1:])


def test_without_a_text_or_a_held_out_split_it_is_one_line(run, tmp_path):
    (tmp_path / "input.txt").write_text("the cat. " * 300)
    config = charjax.default_config()
    config.data.update(dir=str(tmp_path), batch_size=2, seq_length=20)
    config.data.update(train_frac=1.0, val_frac=0.0)
    config.model.update(hidden_size=4, num_layers=1)
    config.train.update(max_steps=2, checkpoint_dir=str(tmp_path / "cv"), report=False)
    path = charjax.train(config, sinks=()).path
    status, _, err = run("score", path)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "data.train_frac is 1" in err
    assert "Try naming a text file." in err


def test_bytes_count_as_the_file_has_them(cv, run, tmp_path):
    file = tmp_path / "text.txt"
    symbols = "abé€"
    save(tmp_path, "wide", symbols=symbols)
    file.write_text(symbols * 3 + "?", encoding="utf-8")
    arguments = "--baselines", "--on-unknown", "skip"
    _, out, _ = run("score", tmp_path / "wide", file, *arguments)
    assert out.splitlines()[0] == "12 characters, 21 bytes"
    (_, error, bits, bits_a_byte, *_) = rows_of(out)["model"]
    assert error == "-"  # too short
    assert bits_a_byte == pytest.approx(bits * 12 / 21, abs=1e-4)


def test_lanes_score_about_what_a_sequential_reading_scores(cv, run, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abc abd\n" * 600)
    nats = []
    for lanes in (1, 4):
        _, out, _ = run("score", cv / "first", file, "--lanes", lanes)
        nats.append(float(out.splitlines()[1].split()[-1]))
    assert nats[0] == pytest.approx(nats[1], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lanes", 0], "lanes must be an integer of 1 or more; got 0"),
        (["--lanes", 2, "--dynamic"], "--lanes must be 1 with --dynamic"),
        (["--ensemble", "{cv}/bytes"], "must have one vocabulary"),
        (["--ensemble", "{cv}/none"], "none"),
        (["--ngram"], "an n-gram model must have the text"),
    ],
)
def test_what_cannot_be_scored_is_one_line(cv, run, tmp_path, options, message):
    file = tmp_path / "text.txt"
    file.write_text("abc abc")
    options = [str(option).replace("{cv}", str(cv)) for option in options]
    status, _, err = run("score", cv / "first", file, *options)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_novel_shows_the_share_of_new_substrings(run, tmp_path):
    (tmp_path / "sampled").write_text("abx")
    (tmp_path / "training").write_text("abc")
    _, out, _ = run("novel", tmp_path / "sampled", tmp_path / "training")
    rows = [line.split() for line in out.splitlines()]
    assert rows[:4] == [
        ["length", "novel"], ["1", "33.33%"], ["2", "50.00%"], ["3", "100.00%"]
    ]  # fmt: skip
