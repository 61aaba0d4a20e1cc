"""Keeping: examined, set aside, pruned and swept, and nothing else touched."""

import builtins
import errno
import io
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from charjax import checkpoint
from charjax.errors import CheckpointError, ConfigError, DamagedError
from tests.checkpoint.examples import (
    PARAMS,
    assert_refused,
    assert_same,
    clone,
    contents,
    flip_a_byte,
    reseal,
)
from tests.checkpoint.test_saving import forbidden


def test_a_run_is_examined_through_and_the_damaged_are_set_aside(original, tmp_path):
    early, late, cut = (clone(original, tmp_path, step, 2.0) for step in (1, 2, 3))
    flip_a_byte(cut, "training")
    clone(original, tmp_path / "deeper", 9, 1.0)
    (tmp_path / "a_link").symlink_to(late, target_is_directory=True)
    (one, _), (two, _), (damaged, error) = checkpoint.examine(tmp_path)
    assert (one, two, damaged) == (late, early, cut)
    assert isinstance(error, CheckpointError)
    before = contents(cut)
    aside = checkpoint.set_aside(cut)
    assert aside == tmp_path / f".damaged-{cut.name}"
    assert contents(aside) == before
    assert cut not in [path for path, _ in checkpoint.listing(tmp_path)]
    shutil.copytree(early, cut)
    assert checkpoint.set_aside(cut).name == f"{aside.name}_2", "nothing is overwritten"


@pytest.mark.parametrize("keep_best", [1, 2, 99])
def test_prune_keeps_the_best_and_the_latest(keep_best, original, tmp_path):
    losses = {1: 2.0, 2: 1.4, 3: 1.2, 4: 1.3, 5: None, 6: 1.9, 7: None}
    paths = {step: clone(original, tmp_path, step, losses[step]) for step in losses}
    other = clone(original, tmp_path / "deeper", 9, 9.0)
    kept = {1: {3, 7}, 2: {3, 4, 7}, 99: {1, 2, 3, 4, 6, 7}}[keep_best]
    deleted = checkpoint.prune(tmp_path, keep_best)
    assert set(deleted) == {paths[step] for step in set(losses) - kept}
    assert {step for step, path in paths.items() if path.exists()} == kept
    assert other.exists()
    assert not list(tmp_path.glob(".tmp*"))
    assert checkpoint.prune(tmp_path, keep_best) == []


@pytest.mark.parametrize(
    ("every", "kept"), [(0, {1, 6}), (1, {1, 2, 4, 5, 6}), (2, {1, 2, 5, 6})]
)
def test_prune_keeps_those_of_every_nth_validation(every, kept, original, tmp_path):
    val = []
    for step in range(1, 7):
        is_validated = step not in (3, 6)  # these two a signal saved
        val = [*val, [step, float(step)]] if is_validated else val
        loss = float(step) if is_validated else None
        clone(original, tmp_path, step, loss, progress={"val": val})
    checkpoint.prune(tmp_path, 1, every)
    assert {m.step for _, m in checkpoint.listing(tmp_path)} == kept


def test_prune_is_not_misled_by_a_link_to_the_best(original, tmp_path):
    best, _ = [clone(original, tmp_path, step, float(step)) for step in (1, 2)]
    (tmp_path / "a_link").symlink_to(best, target_is_directory=True)
    assert checkpoint.prune(tmp_path, 1) == []
    assert checkpoint.find(tmp_path / "a_link").resolve() == best.resolve()


def test_prune_leaves_damaged_checkpoints_to_people(copy):
    clone(copy, copy.parent, 1, 1.0)
    (copy / checkpoint.MANIFEST).write_bytes(b"")
    assert checkpoint.prune(copy.parent, 1) == []
    assert copy.exists()


def test_prune_keeps_at_least_one(tmp_path):
    match = "train.keep_best must be at least 1"
    assert_refused(match, checkpoint.prune, tmp_path, 0, error=ConfigError)


def test_prune_that_cannot_delete_says_so(copy, monkeypatch):
    clone(copy, copy.parent, 1, 9.0)
    monkeypatch.setattr(Path, "rename", forbidden)
    assert_refused("not deleted: Permission denied", checkpoint.prune, copy.parent, 1)


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_sweep_takes_dead_leftovers_and_nothing_else(copy, monkeypatch):
    run = copy.parent
    dead = [f".tmp-{pid}-lm" for pid in (dead_process(), os.getpid())]
    mine = [f".tmp-{os.getppid()}-lm", ".tmp-notes", ".tmp-1", "x.tmp-9-lm", "texts"]
    for name in dead + mine:
        (run / name / "arrays").mkdir(parents=True)
    (run / f".tmp-{dead_process()}-file").write_text("a file of the user's")
    assert [path.name for path in checkpoint.sweep(run)] == sorted(dead)
    left = {copy.name, *mine}
    assert left == {path.name for path in run.iterdir() if path.is_dir()}
    os.utime(run / mine[0], (0, 0))
    assert checkpoint.sweep(run) == [run / mine[0]], "its process number was reused"
    assert checkpoint.sweep(run / "none") == []


def moved_elsewhere(path, tmp_path):
    """A checkpoint moved to another place, with a link to it in its old one."""
    elsewhere = tmp_path / "elsewhere" / f"{path.parent.name}_{path.name}"
    elsewhere.parent.mkdir(exist_ok=True)
    path.rename(elsewhere)
    path.symlink_to(elsewhere, target_is_directory=True)
    return elsewhere


def test_links_are_examined_like_any_other_checkpoint(original, tmp_path):
    early, late = (clone(original, tmp_path / "run", s, 3.0 - s) for s in (1, 2))
    moved_elsewhere(late, tmp_path)
    assert [path for path, _ in checkpoint.examine(tmp_path / "run")] == [late, early]
    assert [path for path, _ in checkpoint.listing(tmp_path / "run")] == [late, early]
    assert_same(checkpoint.load(tmp_path / "run", "latest"), PARAMS)


def test_prune_deletes_neither_links_nor_what_they_lead_to(original, tmp_path):
    run = tmp_path / "run"
    paths = [clone(original, run, step, 9.0 - step) for step in (1, 2, 3, 4)]
    elsewhere = [moved_elsewhere(path, tmp_path) for path in (paths[0], paths[3])]
    before = [contents(path) for path in elsewhere]
    assert checkpoint.prune(run, 1) == [paths[2], paths[1]]
    assert [contents(path) for path in elsewhere] == before
    assert sorted(run.iterdir()) == [paths[0], paths[3]]


def test_a_link_that_leads_nowhere_stops_a_run_and_stays(original, tmp_path):
    """As when the disk with the latest checkpoint is not mounted."""
    run = tmp_path / "run"
    early, late = (clone(original, run, step, 2.0) for step in (1, 2))
    elsewhere = moved_elsewhere(late, tmp_path)
    elsewhere.rename(tmp_path / "unmounted")
    match = f"is a link to {elsewhere}, which does not exist"
    assert_refused(match, checkpoint.examine, run)
    assert not isinstance(error_of(run), DamagedError)
    assert checkpoint.find(run, fallback=True) == early
    assert checkpoint.prune(run, 1) == []
    assert late.is_symlink()


def test_sweep_follows_no_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".tmp-{os.getpid()}-lm").symlink_to(outside)
    assert checkpoint.sweep(tmp_path / "run") == []
    assert outside.exists()


def error_of(run):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.examine(run)
    return caught.value


def test_a_newer_checkpoint_stops_a_run_and_is_not_called_damaged(original, tmp_path):
    for step in (1, 2):
        path = clone(original, tmp_path, step, 2.0)
    reseal(path, format=checkpoint.FORMAT + 1)
    flip_a_byte(clone(original, tmp_path, 3, 2.0))
    before = contents(tmp_path)
    error = error_of(tmp_path)
    assert not isinstance(error, DamagedError)
    assert "Try upgrading charjax" in str(error)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize(
    ("module", "function"),
    [(io, "open"), (builtins, "open"), (os, "stat"), (os, "scandir")],
)
def test_what_cannot_be_read_at_present_is_not_called_damaged(
    module, function, code, original, tmp_path, monkeypatch
):
    clone(original, tmp_path, 1, 3.0)
    latest = clone(original, tmp_path, 2, 2.0)
    before = contents(tmp_path)
    plain = getattr(module, function)

    def fail(path, *args, **kwargs):
        if str(path).startswith(str(latest)):
            raise OSError(code, os.strerror(code), str(path))
        return plain(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail)
        error = error_of(tmp_path)
    assert not isinstance(error, DamagedError)
    assert os.strerror(code) in str(error)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_run_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    code, original, tmp_path, monkeypatch
):
    clone(original, tmp_path, 1, 3.0)

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "scandir", fail)
    for call in (checkpoint.examine, checkpoint.listing, checkpoint.load):
        assert_refused(os.strerror(code), call, tmp_path)


def test_a_process_without_free_descriptors_sets_nothing_aside(original, tmp_path):
    clone(original, tmp_path, 1, 3.0)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        error = error_of(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not isinstance(error, DamagedError)
    assert "Too many open files" in str(error)


def test_a_checkpoint_that_cannot_be_set_aside_stays(copy, monkeypatch):
    monkeypatch.setattr(Path, "rename", forbidden)
    assert_refused("not renamed: Permission denied", checkpoint.set_aside, copy)
    assert copy.exists()
