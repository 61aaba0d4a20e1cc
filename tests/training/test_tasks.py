"""Runs on a task: they go on exactly, and report right answers by difficulty."""

import pytest

import charjax
from charjax import report
from charjax.cli import main
from charjax.errors import ConfigError, TextError
from charjax.predict.answers import answers
from charjax.text import made_up
from charjax.text.made_up import held_out_examples
from charjax.training import Stopped
from charjax.training.setup import make_streams, open_text
from tests.training.runs import StopAt, assert_same_end, quiet

DATA = {"name": "addition", "digits": 1, "nesting": 1}


def make_config(folder, **fields):
    config = charjax.default_config()
    config.data.update(DATA, batch_size=4, seq_length=16)
    config.model.update(hidden_size=6, num_layers=1)
    config.train.update(max_steps=12, eval_every=5.0, print_every=1, run_name="run")
    config.train.update(steps_per_dispatch=4, checkpoint_dir=str(folder / "cv"))
    config.data.update(fields)
    return config


@pytest.fixture(autouse=True)
def short_validation(monkeypatch):
    monkeypatch.setattr(made_up, "_VALIDATED", 1000)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up, "_VALIDATED", 1000)
        return quiet(make_config(tmp_path_factory.mktemp("sums")))


def test_a_stopped_run_goes_on_to_the_same_end(run, tmp_path):
    config = make_config(tmp_path)
    for step in (2, 7):  # within a dispatch, and after a validation
        with pytest.raises(Stopped):
            charjax.train(config, sinks=[StopAt(step)])
    assert_same_end(quiet(config), run)


def test_another_curriculum_is_another_run(run):
    with pytest.raises(ConfigError, match=r"curriculum='combined' there, 'mixed'"):
        quiet(make_config(run.path.parent.parent, curriculum="mixed"))


def test_examples_that_are_made_differently_are_another_text(run, monkeypatch):
    monkeypatch.setattr("charjax.text.tasks._HELD_OUT", 9)
    with pytest.raises(ConfigError, match=r"another configuration .*the text"):
        quiet(make_config(run.path.parent.parent))


def test_a_model_with_other_ids_reads_the_same_characters(tmp_path):
    config = make_config(tmp_path)
    corpus = open_text(config)
    vocab = charjax.Vocab(corpus.vocab.symbols[::-1])
    plain, recoded = (
        make_streams(config, corpus, v).train.window(0, 50)
        for v in (corpus.vocab, vocab)
    )
    for ids, other_ids in zip(plain, recoded, strict=True):
        assert corpus.vocab.decode(ids) == vocab.decode(other_ids)


def test_a_sample_has_questions_and_how_many_answers_are_right(run):
    [first, *_, last] = [r["sample"] for r in run.history if r["kind"] == "val"]
    [examples] = held_out_examples(DATA, 50)
    right = int(answers(run.params, examples).right_N.sum())
    head, *lines = last.splitlines()
    assert first != last
    assert head.endswith(f" of {len(examples)} held-out answers are right")
    assert len(lines) == 8
    for line in lines:
        question, _, rest = line.partition("=")
        assert rest == str(eval(question)) or rest.endswith(
            f"(wrong: {eval(question)})"
        )
    if "epoch1.00" in run.best.name:
        assert head.startswith(f"{right} of")


def test_the_report_has_the_right_answers_by_difficulty(run):
    data = report.collect(run.path)
    [row] = data.accuracy["rows"]
    [examples] = held_out_examples(DATA, 256)
    found = answers(run.params, examples)
    assert (row["digits"], row["nesting"], row["questions"]) == (1, 1, len(examples))
    assert row["answers"] == found.right_N.mean()
    assert row["characters"] == found.hits_N.sum() / found.lengths_N.sum()
    data.accuracy["rows"][0] |= {"characters": 0.5625, "answers": 0.125}
    page = report.render(data)
    assert "<td>56.2%</td><td>12.5%</td>" in page
    assert "No n-gram model is shown" in page


def test_sampling_ends_with_the_answer(run, capsys):
    assert main(["sample", str(run.path), "--prime", "1+2=", "--length", "300"]) == 0
    written = capsys.readouterr().out
    # One newline ends the answer, if it came in time, and one the program's output.
    answer = written.removeprefix("1+2=").removesuffix("\n").removesuffix("\n")
    assert "\n" not in answer


def test_a_chunk_too_short_for_the_task_is_refused(tmp_path):
    with pytest.raises(
        TextError, match=r"data.seq_length must be at least 13, .*got 12"
    ):
        quiet(make_config(tmp_path, digits=3, seq_length=12))


def test_a_task_needs_no_preparation(capsys):
    assert main(["prepare", "programs"]) == 0
    assert "there is nothing to prepare" in capsys.readouterr().out
