"""Runs side by side, as a table and as a page."""

import json
import re

import charjax
from charjax import report
from charjax.cli import main
from tests.report.conftest import embedded, make_config, reseal, with_config

ESCAPES = "a\x1b[2J\nb\u202e"


def test_compare_sets_the_best_first_with_the_fields_that_differ(run, tmp_path, capsys):
    folder = run.path.parent.parent
    config = make_config(folder, checkpoint_dir=str(tmp_path), max_steps=4)
    config.train.report = False
    other = charjax.train(config, sinks=())
    out = tmp_path / "compare.html"
    arguments = ["compare", str(other.path), str(run.path), "--output", str(out)]
    assert main(arguments) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", head.strip())[-2:] == ["train.max_steps", "run"]
    # Both folders have the same name, so each is named by its path.
    best, worst = sorted([run, other], key=lambda r: r.best_loss)
    assert rows[0].strip().startswith(f"{best.best_loss:.4f}")
    assert rows[0].endswith(str(best.path))
    assert rows[1].endswith(str(worst.path))
    assert main([*arguments[:-1], str(tmp_path)]) == 2
    assert "must be a new file or a page of charjax" in capsys.readouterr().err
    page = out.read_text(encoding="utf-8")
    assert f"{worst.best_loss:.4f}" in page
    runs = embedded(page)["comparison"]
    assert [r["name"] for r in runs] == [str(best.path), str(worst.path)]


def test_a_file_of_the_users_is_not_overwritten(run, tmp_path, capsys):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert main(["compare", str(run.path), "--output", str(mine)]) == 2
    assert "must be a new file or a page of charjax" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_runs_of_a_cell_that_is_not_registered_are_compared_too(run, copy):
    identity = with_config(copy, "model", cell="mine")
    (copy / "config.json").write_text(json.dumps(identity))
    reseal(copy, config=identity["config"])
    comparison = report.compare([run.path, copy])
    assert comparison.fields == ["model.cell"]
    assert {r["values"]["model.cell"] for r in comparison.runs} == {"lstm", "mine"}


def test_a_table_shows_no_control_character_of_a_file(run, copy):
    identity = with_config(copy, "model", cell=ESCAPES)
    (copy / "config.json").write_text(json.dumps(identity))
    reseal(copy, config=identity["config"])
    other = copy.with_name(ESCAPES)
    copy.rename(other)
    (other / "summary.json").unlink()  # so that a note names it
    table = report.table(report.compare([run.path, other]))
    assert table.replace("\n", "").isprintable()
    _, *rows, note = table.splitlines()
    assert len(rows) == 2
    assert "a\ufffd[2J\ufffdb\ufffd" in note
