"""Sweeps: which runs there are, which goes on next, and that pauses change nothing."""

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import charjax
from charjax.errors import ConfigError
from charjax.storage.locks import is_held, owned
from charjax.sweep import make_sweep, parse_choice, standings, work
from charjax.sweep.halving import next_run, rung_of

TEXT = "the quick brown fox jumps over the lazy dog. " * 30


def small_config(folder, **train):
    config = charjax.default_config()
    config.data.update(dir=str(folder), batch_size=5, seq_length=10)
    config.model.update(hidden_size=4, num_layers=1)
    config.optimizer.learning_rate = 0.02
    config.train.update(max_epochs=4, checkpoint_dir=str(folder / "cv"), **train)
    config.sample.length = 0
    return config


def of(config, *choices, path, **options):
    return make_sweep(config, list(map(parse_choice, choices)), path=path, **options)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "input.txt").write_text(TEXT)
    return tmp_path


def test_a_grid_is_the_product_of_the_values(folder):
    sweep = of(
        small_config(folder),
        "model.dropout=0,0.25", "train.seed=1,2,3", path=folder / "cv",
    )  # fmt: skip
    got = [tuple(trial.fields.values()) for trial in sweep.trials]
    assert got == list(itertools.product([0.0, 0.25], [1, 2, 3]))
    assert sweep.trials[3].name == "dropout=0.25_seed=1"
    assert sweep.config_of(sweep.trials[3]).model.dropout == 0.25


def test_drawn_trials_differ_lie_in_their_range_and_depend_on_the_seed_alone(folder):
    choices = ["optimizer.learning_rate=1e-3..1e-1:log", "model.hidden_size=4..9",
               "model.cell=lstm,gru"]  # fmt: skip
    first, again, other = (
        of(small_config(folder, seed=seed), *choices, path=folder, num_trials=200)
        for seed in (1, 1, 2)
    )
    assert first.trials == again.trials != other.trials
    names = [trial.name for trial in first.trials]
    assert len(set(names)) == 200
    assert all(re.fullmatch(r"[\w.=+-]+", name) for name in names)
    values = np.array([list(trial.fields.values())[:2] for trial in first.trials])
    assert values.min(0).tolist() == pytest.approx([1e-3, 4], rel=0.1)
    assert values.max(0).tolist() == pytest.approx([1e-1, 9], rel=0.1)
    # Half of what is drawn by ratio lies below the geometric mean.
    assert np.mean(values[:, 0] < 1e-2) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("factor", "num_runs"), [(2, 13), (3, 27), (4, 5)])
def test_the_best_of_each_rung_go_on(factor, num_runs):
    rungs = 3
    final = np.random.default_rng(factor).normal(size=(num_runs, rungs))
    losses: list[list[float]] = [[] for _ in range(num_runs)]
    while (run := next_run(losses, factor, rungs)) is not None:
        rung = len(losses[run])
        if rung:
            at_rung = sorted(loss[rung - 1] for loss in losses if len(loss) >= rung)
            assert losses[run][-1] in at_rung[: len(at_rung) // factor]
        losses[run].append(final[run, rung])
    for rung in range(1, rungs):
        reached = sorted(
            (x for x in losses if len(x) >= rung), key=lambda x: x[rung - 1]
        )
        assert all(len(loss) > rung for loss in reached[: len(reached) // factor])
    assert all(losses)


def test_runs_that_others_work_on_are_skipped():
    losses = [[2.0], [1.0], [], []]
    assert next_run(losses, 2, 2) == 1
    assert next_run(losses, 2, 2, skipped={1}) == 2
    assert next_run(losses, 2, 2, skipped={1, 2, 3}) is None


def test_a_rung_is_reached_at_its_epoch():
    assert [rung_of(epoch, (1, 3, 9)) for epoch in (0, 0.99, 1, 2, 3, 9)] == [
        0, 0, 1, 1, 2, 3,
    ]  # fmt: skip


def test_a_paused_run_ends_as_one_that_was_never_paused(folder):
    config = small_config(folder)
    sweep = of(
        config, "optimizer.learning_rate=1e-4,0.02,1e30,1e-5",
        path=folder / "cv" / "sweep", factor=2,
    )  # fmt: skip
    assert sweep.rungs == (1, 2, 4)
    work(sweep)
    found = {run.trial.name: run for run in standings(sweep)}
    states = {name: run.state for name, run in found.items()}
    assert states == {
        "learning_rate=0.0001": "paused",
        "learning_rate=0.02": "finished",
        "learning_rate=1e+30": "failed",
        "learning_rate=1e-05": "paused",
    }
    reason = (sweep.path / "learning_rate=1e+30" / "error.txt").read_text()
    assert "the gradient norm nan at step 2" in reason
    plain = charjax.train(config)
    expected = [r["loss"] for r in plain.history if r["kind"] == "val"]
    best = found["learning_rate=0.02"]
    assert best.loss == min(expected)
    assert best.at_rungs == tuple(min(expected[:n]) for n in (1, 2, 4))
    work(sweep)  # nothing is left to do
    assert {run.trial.name: run for run in standings(sweep)} == found


def test_the_last_one_goes_on_to_the_end_where_there_are_too_few(folder):
    sweep = of(
        small_config(folder), "train.seed=1,2", path=folder / "cv", factor=4
    )  # fmt: skip
    work(sweep)
    states = sorted(run.state for run in standings(sweep))
    assert states == ["finished", "paused"]


def test_a_file_is_held_while_it_is_owned(tmp_path):
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with owned(lock):
        assert is_held(lock)
    lock.touch()
    assert not is_held(lock)


@pytest.mark.parametrize(
    ("choices", "options", "message"),
    [
        (["model.dropuot=0,1"], {}, "Did you mean 'model.dropout'"),
        (["model.dropout"], {}, r"got 'model.dropout'\. Try model.dropout=0,0.25,0.5"),
        (["model.dropout=0,2"], {}, r"model.dropout must be in \[0, 1\); got 2"),
        (["model.dropout=0.5..0.1"], {}, "must be a range that rises"),
        (["model.dropout=0..0.5:log"], {}, "above 0 with :log"),
        (["model.cell=gru..lstm"], {}, "must be a range that rises"),
        (["model.dropout=0..0.5"], {}, "a range must come with --trials"),
        (["model.dropout=0", "model.dropout=1e-1"], {}, "name each field once"),
        ([], {}, "got none. Try --set"),
        (["train.run_name=a,b"], {}, "fields that change a run"),
        (["model.dropout=0,0.5"], {"factor": 5}, "from 2 to train.max_epochs, which"),
    ],
)  # fmt: skip
def test_wrong_choices_are_refused_in_a_line(folder, choices, options, message):
    with pytest.raises(ConfigError, match=message):
        of(small_config(folder), *choices, path=folder, **options)


def test_standard_input_is_refused_since_it_is_read_once(folder):
    config = small_config(folder)
    config.data.update(name="-", dir="")
    with pytest.raises(ConfigError, match=r"must be one that each run can read"):
        of(config, "train.seed=1,2", path=folder)


def test_another_sweep_in_the_folder_is_refused(folder):
    config = small_config(folder, max_steps=1)
    work(of(config, "train.seed=1", path=folder / "cv"))
    with pytest.raises(ConfigError, match=r"must be of this sweep.*--name"):
        work(of(config, "train.seed=1,2", path=folder / "cv"))


def test_what_a_killed_worker_leaves_another_takes_up(folder):
    command = [
        sys.executable, "-m", "charjax", "sweep", "--config", "default",
        f"--config.data.dir={folder}", "--config.data.batch_size=5",
        "--config.data.seq_length=10", "--config.model.hidden_size=4",
        "--config.train.max_epochs=8", "--config.sample.length=0",
        "--config.train.print_every=1", "--set", "train.seed=1,2,3", "--workers", "2",
    ]  # fmt: skip
    sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    path, victims = folder / "cv", []
    while not victims and sweep.poll() is None:
        time.sleep(0.05)
        # A run has its configuration once its worker trains it.
        locks = [
            file.with_name(".charjax.lock") for file in path.glob("*/*/config.json")
        ]
        owners = [lock.read_text() for lock in locks if lock.exists()]
        victims = [int(owner.split()[1]) for owner in owners if owner]
    os.kill(victims[0], signal.SIGKILL)
    printed, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 2  # the worker that was killed is told of
    rows = re.findall(r"^ *[\d.]+ +8\.00  finished  ", printed, re.MULTILINE)
    assert len(rows) == 3
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert "--config.train.max_epochs=16" in done.stdout
    assert not math.isinf(float(re.search(r"\n *([\d.]+) +8.00", done.stdout)[1]))
