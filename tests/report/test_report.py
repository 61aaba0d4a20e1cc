"""What a report collects, against the library's own functions."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import charjax
from charjax import checkpoint, report
from charjax.cli.arguments import parse
from charjax.cli.train import config_of
from charjax.config import flatten
from charjax.report import collect
from charjax.report.command import command
from charjax.report.heldout import HeldOut
from charjax.report.measure import predictions, standard_error
from charjax.text import Lanes, open_corpus, split_corpus
from tests.report.conftest import TEXT, make_config

ROOT = Path(__file__).parent.parent.parent


def test_the_report_has_the_runs_own_losses_and_samples(run, data):
    assert data.run["best_loss"] == run.best_loss
    val = [r for r in run.history if r["kind"] == "val"]
    assert data.curves["val"]["loss"] == [r["loss"] for r in val]
    assert [s["sample"] for s in data.samples] == [r["sample"] for r in val]
    train = [r["loss"] for r in run.history if r["kind"] == "train"]
    np.testing.assert_allclose(data.curves["train"]["loss"], train)


def test_the_command_sets_every_field_as_the_run_had_it(data):
    program, *words = shlex.split(data.run["command"].replace("\\\n", ""))
    assert program == "charjax"
    assert flatten(config_of(parse(words, "charjax"))) == data.config


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_command_holds_characters_that_do_not_show():
    config = charjax.default_config()
    config.sample.prime = "it's\ta \\ \x07 \u202e\xe9"
    words = command(config, "run").replace("charjax train", "printf '%s|'")
    assert words.replace("\n", "").isprintable()
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, check=True,
        env={"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert f"--config.sample.prime={config.sample.prime}|" in done.stdout


def test_held_out_characters_have_the_probabilities_that_score_gives(run, data):
    for passage in data.heldout["passages"]:
        text = "".join(passage["characters"])
        assert text in TEXT
        scored = charjax.score(run.params, text).log_probs
        np.testing.assert_allclose(passage["log_probs"][1:], scored[1:], atol=1e-4)


def test_the_guesses_are_the_likeliest_next_characters(run, data):
    passage = data.heldout["passages"][0]
    for place in (1, 7, 19):
        before = "".join(passage["characters"][:place])
        table = charjax.next_chars(run.params, before)
        expected = list(table.items())[:5]
        guesses = passage["guesses"][place]
        np.testing.assert_allclose(
            [p for _, p in guesses], [p for _, p in expected], atol=1e-4
        )
        assert guesses[0][0] == expected[0][0]


def test_the_standard_error_is_that_of_the_mean_over_stretches_of_text(run):
    config = make_config(run.path.parent.parent)
    corpus = open_corpus(config.data.dir)
    lanes = split_corpus(
        corpus.ids, batch_size=5, seq_length=20, train_frac=0.8, val_frac=0.2
    ).val
    K = lanes.num_chunks
    ids_BxL = lanes.window(0, K * 20 + 1)
    logits_BxLxV, _ = charjax.apply(run.params, ids_BxL[:, :-1])
    log_probs = jax.nn.log_softmax(logits_BxLxV)
    nats_BxL = -np.take_along_axis(
        np.asarray(log_probs), ids_BxL[:, 1:, None].astype(int), axis=-1
    )[..., 0]
    # Five lanes are fewer than eight stretches: each is cut in two.
    half = 20 * -(-K // 2)
    means = np.array([[lane[:half].mean(), lane[half:].mean()] for lane in nats_BxL])
    expected = np.sqrt(np.square(means - means.mean()).sum() / 9 / 10)
    assert standard_error(run.params, lanes) == pytest.approx(expected, rel=1e-4)
    one = dataclasses.replace(lanes, num_chunks=1)
    assert standard_error(run.params, one) is None


def test_a_text_that_changed_is_not_taken_for_the_runs(run, tmp_path):
    (tmp_path / "input.txt").write_text("another text " * 100)
    (tmp_path / "run").mkdir()
    for file in run.path.iterdir():
        (tmp_path / "run" / file.name).symlink_to(file)
    (tmp_path / "run" / "config.json").unlink()
    identity = json.loads((run.path / "config.json").read_text())
    identity["config"]["data"]["dir"] = str(tmp_path)
    (tmp_path / "run" / "config.json").write_text(json.dumps(identity))
    data = collect(tmp_path / "run")
    assert "has changed since the run" in data.heldout["missing"]


def test_held_out_documents_are_predicted_each_by_itself():
    text = "abc\nbd\n\na\n" * 3
    vocab = charjax.Vocab.of(text)
    params = charjax.init(jax.random.key(0), charjax.ModelSpec(hidden_size=6), vocab)
    params = jax.tree.map(lambda w: 3 * w, params)
    ids, end = vocab.encode("\n" + text), vocab.encode("\n")
    lanes = Lanes(ids, (0,), len(ids) // 5, 1, 5, end=end)
    [passage] = predictions(params, HeldOut("validation", lanes))["passages"]
    first, *found = passage["log_probs"]
    expected = charjax.score(params, text, end="\n").log_probs[: len(found)]
    assert first is None
    np.testing.assert_allclose(found, expected, atol=1e-5)
    carried = charjax.score(params, "\n" + text).log_probs[1 : 1 + len(found)]
    assert abs(carried - expected).max() > 1e-3


def test_a_run_that_has_not_finished_is_reported_up_to_its_latest_checkpoint(copy):
    (copy / "summary.json").unlink()
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    [(_, manifest)] = checkpoint.listing(copy)
    data = collect(copy)
    assert not data.run["finished"]
    assert data.run["test_loss"] is None
    assert data.run["steps"] == manifest.step
    assert len(data.curves["train"]["loss"]) + len(data.curves["val"]["loss"]) == 3
    assert "The run has not finished" in report.render(data)


def test_a_report_does_not_import_the_training_loop():
    code = "import sys, charjax.report; print('charjax.training.loop' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_any_predictor_can_be_measured_as_a_model_is(run):
    corpus = open_corpus(run.path.parent.parent / "text")
    lanes = split_corpus(
        corpus.ids, batch_size=5, seq_length=20, train_frac=0.8, val_frac=0.2
    ).val
    ngram = charjax.NGram.fit(corpus.ids, corpus.vocab, order=3)
    shown = predictions(ngram, HeldOut("validation", lanes))["passages"]
    for passage in shown:
        scored = charjax.score(ngram, "".join(passage["characters"])).log_probs
        np.testing.assert_allclose(passage["log_probs"][1:], scored[1:], rtol=1e-5)
    assert standard_error(ngram, lanes) > 0


def test_other_predictors_are_measured_on_the_start_of_the_split(run, data):
    corpus = open_corpus(run.path.parent.parent / "text")
    streams = split_corpus(
        corpus.ids, batch_size=5, seq_length=20, train_frac=0.8, val_frac=0.2
    )
    val = streams.val
    text = corpus.vocab.decode(val.window(0, val.num_chunks * 20).ravel())
    ngram = report.ngram_for(run.path, corpus.vocab)
    dynamic = report.dynamic_for(run.path)
    expected = [
        charjax.score(predictor, text).nats
        for predictor in (
            run.params,
            ngram,
            charjax.Mixture([run.params, ngram]),
            dynamic,
            charjax.Mixture([dynamic, ngram]),
        )
    ]
    assert data.curves["ngram"]["read"] == len(text)
    rows = data.curves["ngram"]["rows"]
    np.testing.assert_allclose([loss for _, loss in rows], expected, rtol=1e-4)
    page = report.render(data)
    assert all(f"{loss:.4f} nats" in page for loss in expected)
