"""Damaged and edited files of a run: refused in a line, or never believed."""

import json

import numpy as np
import pytest

import charjax
from charjax import checkpoint, report
from charjax.cli import main
from charjax.report import collect
from tests.report.conftest import reseal, with_config


def test_a_folder_that_is_not_a_run_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "found no config.json in it" in err
    assert err.count("\n") == 1


def test_a_config_that_differs_from_its_checkpoints_is_refused(copy, capsys):
    identity = with_config(copy, "optimizer", learning_rate=0.5)
    (copy / "config.json").write_text(json.dumps(identity))
    for words in (["report", str(copy)], ["compare", str(copy)]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"{copy / 'config.json'}: optimizer.learning_rate must be 0.01" in err
        assert "got 0.5" in err
        assert err.count("\n") == 1


def test_a_config_of_another_text_than_its_checkpoints_is_refused(copy):
    [(_, record)] = checkpoint.listing(copy)
    identity = json.loads((copy / "config.json").read_text())
    sha256 = identity["text_sha256"]
    reseal(copy, progress=record.progress | {"text_sha256": sha256})
    report.compare([copy])
    other = sha256[:-1] + ("0" if sha256[-1] != "0" else "1")
    (copy / "config.json").write_text(json.dumps(identity | {"text_sha256": other}))
    with pytest.raises(charjax.ConfigError, match=f"text_sha256 must be '{sha256}'"):
        report.compare([copy])


def test_loss_steps_and_time_are_those_of_sealed_checkpoints(copy):
    [(_, record)] = checkpoint.listing(copy)
    file = copy / "summary.json"
    lies = {"best_loss": 0.001, "steps": 10**6, "seconds": 1e6, "best": "another"}
    file.write_text(json.dumps(json.loads(file.read_text()) | lies))
    shown = collect(copy).run
    assert shown["best_loss"] == record.loss
    assert shown["steps"] == record.step
    assert shown["seconds"] == record.progress["seconds"]
    [row] = report.compare([copy]).runs
    assert (row["best_loss"], row["seconds"]) == (record.loss, shown["seconds"])


def test_a_test_loss_that_two_files_disagree_on_is_refused(copy):
    file = copy / "summary.json"
    summary = json.loads(file.read_text())
    with open(copy / "metrics.jsonl", "a") as metrics:
        record = {"kind": "test", "step": 9, "epoch": 1.0, "of": "test", "loss": 2.0}
        metrics.write(json.dumps(record | {"bits": 2.0 / np.log(2)}) + "\n")
    file.write_text(json.dumps(summary | {"test_loss": 2.5}))
    with pytest.raises(charjax.CheckpointError, match=r"test_loss must be 2\.0.*2\.5"):
        report.compare([copy])
    file.write_text(json.dumps(summary | {"test_loss": 2.0}))
    assert collect(copy).run["test_loss"] == 2.0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"progress": {"seconds": [1]}}, "progress.seconds must be"),
        ({"progress": {"seconds": -1.0}}, "progress.seconds must be"),
        ({"progress": {"seconds": float("nan")}}, "progress.seconds must be"),
        ({"saved": 1e300}, "saved must be"),
        ({"saved": -1e300}, "saved must be"),
        ({"epoch": 1e300}, "epoch must be"),
        ({"versions": {"jax": [1]}}, "versions must be"),
    ],
)
def test_a_record_with_absurd_fields_is_one_line(changes, field, copy, capsys):
    reseal(copy, **changes)
    for words in (["report", str(copy)], ["compare", str(copy)]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert field in err
        assert err.count("\n") == 1
