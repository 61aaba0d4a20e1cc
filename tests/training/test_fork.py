"""Forks: the old run until a step, and from there what other fields make of it."""

import shutil

import jax
import numpy as np
import pytest

import charjax
from charjax import checkpoint
from charjax.errors import CheckpointError, ConfigError
from charjax.training.fork import fork
from tests.checkpoint.examples import reseal
from tests.training.runs import (
    TEXT,
    assert_same_end,
    make_config,
    quiet,
    untimed,
    weights_of,
)  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that keeps the checkpoint of each epoch, at steps 16, 32 and 48."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "text").mkdir()
    (folder / "text" / "input.txt").write_text(TEXT)
    return quiet(make_config(folder, train__keep_best=1, train__keep_every=1))


def test_a_fork_without_other_fields_ends_as_the_run_itself_bit_for_bit(kept):
    config = fork(kept.path, {}, at=16)
    path = kept.path.with_name("run_at16")
    assert [m.step for _, m in checkpoint.listing(path)] == [16]
    whole = quiet(config)
    assert whole.path == path
    assert_same_end(whole, kept)


def test_a_fork_is_the_run_until_its_step_and_learns_otherwise_after_it(kept):
    config = fork(kept.path, {"optimizer.learning_rate": 0.002}, at=32)
    path = kept.path.with_name("run_at32_learning_rate=0.002")
    old = next(p for p, m in checkpoint.listing(kept.path) if m.step == 32)
    jax.tree.map(
        np.testing.assert_array_equal, weights_of(path), jax.tree.map(
            np.asarray, charjax.load(old)
        ),
    )  # fmt: skip
    forked = quiet(config)
    before = [[r for r in run.history if r["step"] <= 32] for run in (forked, kept)]
    assert untimed(before[0]) == untimed(before[1])
    rates = {
        r["step"]: r["learning_rate"] for r in forked.history if "learning_rate" in r
    }
    assert rates[36] < 0.002 < rates[32]
    same = jax.tree.map(np.array_equal, weights_of(path), weights_of(kept.path))
    assert not any(jax.tree.leaves(same))


def test_a_fork_may_be_longer_and_goes_on_where_it_exists(kept):
    config = fork(kept.path, {"train.max_epochs": 5})
    assert quiet(config).history[-1]["step"] == 80
    before = sorted(path.name for path in kept.path.parent.iterdir())
    assert fork(kept.path, {"train.max_epochs": 5}).to_dict() == config.to_dict()
    assert sorted(path.name for path in kept.path.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("fields", "at", "said"),
    [
        ({}, 17, "checkpoint; got 17. Try one of 16, 32, 48"),
        ({"model.hidden_size": 9}, 16, "that of the run that is forked, 8; got 9"),
        ({"data.seq_length": 10}, 16, "data.seq_length must be that of the run"),
        ({"train.init_from": "cv"}, 16, "train.init_from must be that of the run"),
        ({"optimizer.name": "sgd"}, 16, "leave the optimizer's state as it is"),
        ({"train.max_epochs": 1}, 16, "must come after step 16"),
        ({"model.dropout": 1.0}, 16, "model.dropout must be in"),
        ({"train.run_name": "run"}, 16, "run must be the fork of .*; got something"),
        ({"model.droput": 0.5}, 16, "unknown config field 'model.droput'"),
    ],
)  # fmt: skip
def test_what_cannot_be_forked_is_one_line_and_writes_nothing(kept, fields, at, said):
    before = sorted(kept.path.parent.iterdir())
    with pytest.raises(ConfigError, match=said) as caught:
        fork(kept.path, fields, at)
    assert "\n" not in str(caught.value)
    assert sorted(kept.path.parent.iterdir()) == before


def test_a_fork_is_not_taken_for_one_at_another_step(kept):
    fork(kept.path, {"train.run_name": "mine"}, at=16)
    assert fork(kept.path, {"train.run_name": "mine"}, at=16).train.run_name == "mine"
    with pytest.raises(ConfigError, match=r"must be the fork of .* at step 32; got"):
        fork(kept.path, {"train.run_name": "mine"}, at=32)


def test_a_fork_that_patience_would_end_at_once_is_refused(kept):
    losses = [record["loss"] for record in kept.history if record["kind"] == "val"]
    assert losses == sorted(losses, reverse=True)  # so only a made-up history is stale
    old = next(p for p, m in checkpoint.listing(kept.path) if m.step == 48)
    stale = kept.path.with_name("stale")
    shutil.copytree(kept.path, stale)
    manifest = checkpoint.read(old)
    val = [[16, 1.0], [32, 2.0], [48, 3.0]]
    reseal(stale / old.name, progress=manifest.progress | {"val": val})
    fields = {"train.patience": 2, "train.max_epochs": 5}
    with pytest.raises(ConfigError, match=r"train.patience must be above 2, .*; got 2"):
        fork(stale, fields, at=48)
    shutil.rmtree(stale)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="must be a run's folder"):
        fork(tmp_path, {})
