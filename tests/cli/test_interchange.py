"""`charjax export` and `charjax import`."""

from pathlib import Path

import jax
import numpy as np
import pytest

import charjax
from charjax import checkpoint
from tests.interchange import lua_models
from tests.interchange.t7_writer import dumps

pytest.importorskip("safetensors")


@pytest.mark.parametrize("option", ["--safetensors", "--torch"])
def test_a_model_that_went_out_comes_back_as_a_run(cv, run, tmp_path, option):
    file, back = tmp_path / "a.safetensors", tmp_path / "back"
    assert run("export", cv / "first", option, file) == (0, f"{file}\n", "")
    status, out, _ = run("import", file, "--output", back)
    assert status == 0
    assert f"sample from it:  charjax sample {back}" in out
    jax.tree.map(
        np.testing.assert_array_equal, charjax.load(back), charjax.load(cv / "first")
    )
    [(path, manifest)] = checkpoint.listing(back)
    assert (path.name, manifest.loss) == ("lm_lstm_epoch0.00_1.2500", 1.25)
    text = run("sample", back, "--prime", "abc", "--length", "40")
    assert text == run("sample", cv / "first", "--prime", "abc", "--length", "40")
    assert " imported " in run("list", tmp_path)[1]
    assert run("inspect", back)[0] == 0


def test_an_imported_run_is_reported_and_started_from_but_not_continued(
    run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.t7").write_bytes(dumps(lua_models.torch_rnn("rnn")))
    (tmp_path / "text.txt").write_text("ab c\n" * 3000)
    assert run("import", "old.t7")[0] == 0
    assert run("report", "cv/old") == (0, "cv/old/report.html\n", "")
    assert "not finished" not in Path("cv/old/report.html").read_text("utf-8")
    config = ["--config.data.batch_size=5", "--config.train.max_steps=2"]
    config += ["--config.data.seq_length=20", "--config.train.report=false"]
    train = ["train", "text.txt", "--quiet", *config]
    new = ["--config.train.run_name=new", "--config.train.init_from=cv/old"]
    status, _, err = run(*train, *new)
    assert (status, err) == (0, "")
    assert charjax.load("cv/new").spec == charjax.load("cv/old").spec
    status, _, err = run(*train, "--config.train.run_name=old")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds a run of another configuration" in err


def test_pages_and_programs_are_written_once(cv, run, tmp_path):
    page = tmp_path / "page.html"
    assert run("export", cv / "first", "--html", page, "--int8")[0] == 0
    assert "<title>first</title>" in page.read_text("utf-8")
    status, _, err = run("export", cv / "first", "--html", page)
    assert (status, "must be a new name" in err) == (2, True)


@pytest.mark.parametrize(("arguments", "message"), [
    (["export", "{cv}/first"], "one of the arguments --html --stablehlo"),
    (["export", "{cv}/first", "--torch", "a.safetensors", "--int8"], "with --html"),
    (["export", "{cv}/first", "--html", "a.htm"], "must end in .html"),
    (["export", "{cv}/none", "--html", "a.html"], "not there"),
    (["import", "none.t7"], "got nothing there"),
    (["import", "none.t7", "--output", "{cv}/first"], "must be a new name"),
])  # fmt: skip
def test_wrong_arguments_are_one_line(
    cv, run, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*(argument.format(cv=cv) for argument in arguments))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []
