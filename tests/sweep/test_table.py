"""The table of a sweep: what it says of a folder, and how it is drawn anew."""

import json
import math
import re

import pytest

from charjax.cli.sweep_table import Terminal, table
from charjax.storage.locks import owned
from charjax.sweep import standings
from tests.sweep.test_sweep import of, small_config


def write_run(path, *, val=(), train_epoch=0.0, is_finished=False, error=""):
    """Writes what a run of these validation losses, an epoch each, leaves."""
    path.mkdir(parents=True)
    records = [
        {"kind": "val", "step": n, "epoch": n, "loss": loss, "bits": loss / math.log(2),
         "of": "val", "seconds": 1.0, "sample": ""}
        for n, loss in enumerate(val, 1)
    ]  # fmt: skip
    if train_epoch:
        loss = {"loss": 1.0, "bits": 1 / math.log(2), "grad_norm": 1.0}
        speed = {"grad_to_param": 0.1, "learning_rate": 0.1, "seconds": 1.0}
        where = {"kind": "train", "step": 9, "epoch": train_epoch}
        records.append(where | loss | speed)
    lines = [json.dumps(record) + "\n" for record in records]
    (path / "metrics.jsonl").write_text("".join(lines))
    if is_finished:
        summary = {"best": "best", "best_loss": min(val), "test_loss": None}
        (path / "summary.json").write_text(json.dumps(summary | {"seconds": 1.0}))
    if error:
        (path / "error.txt").write_text(error)


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "input.txt").write_text("the quick brown fox")
    sweep = of(
        small_config(tmp_path), "train.seed=1,2,3,4,5", path=tmp_path / "cv", factor=2
    )  # fmt: skip
    write_run(sweep.path / "seed=1", val=[2.5], train_epoch=1.25)
    write_run(sweep.path / "seed=2", val=[2.5, 2.25, 2.0, 2.125], is_finished=True)
    write_run(sweep.path / "seed=3", val=[3.0])
    write_run(sweep.path / "seed=4", error="the loss is nan")
    return sweep


def test_the_table_ranks_the_runs_of_a_folder_whoever_works_on_them(sweep):
    with owned(sweep.path / "seed=1" / ".charjax.lock"):  # by any process or machine
        lines = table(standings(sweep))
    assert lines == [
        "5 runs: 1 running, 1 finished, 1 paused, 1 failed, 1 new",
        "rank     loss    epoch  state     run",
        "   1   2.0000     4.00  finished  seed=2",
        "   2   2.5000     1.25  running   seed=1",
        "   3   3.0000     1.00  paused    seed=3",
        "   4        -     0.00  failed    seed=4",
        "   5        -     0.00  new       seed=5",
    ]


def test_a_small_terminal_has_what_runs_and_the_best(sweep):
    with owned(sweep.path / "seed=3" / ".charjax.lock"):
        lines = table(standings(sweep), lines=4, columns=40)
    assert [line.split()[-1] for line in lines[2:]] == ["seed=2", "seed=3"]
    assert max(map(len, lines)) == 40


def test_the_table_is_drawn_in_place_below_what_workers_print(sweep, capsys):
    with Terminal() as screen:
        screen.show(standings(sweep))
        height = capsys.readouterr().out.count("\n")
        screen.log.write(b"charjax: a warning\nhalf a li")
        screen.log.flush()
        screen.show(standings(sweep))
        drawn = capsys.readouterr().out
    assert height == 7
    assert drawn.startswith("\x1b[7F\x1b[Jcharjax: a warning\n5 runs: ")
    assert set(re.findall(r"\x1b.*?[A-Za-z]", drawn)) == {"\x1b[7F", "\x1b[J"}
    assert "half" not in drawn
    assert capsys.readouterr().out == "\x1b[7F\x1b[J"


def test_the_table_stays_after_a_signal_and_the_cursor_is_below_it(sweep, capsys):
    screen = Terminal()
    screen.__enter__()
    screen.show(standings(sweep))
    assert capsys.readouterr().out.endswith("seed=5\n")
    screen.log.write(b"saved\n")
    screen.log.flush()
    screen.__exit__(KeyboardInterrupt)
    assert capsys.readouterr().out == "saved\n"
