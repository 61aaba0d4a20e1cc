"""Choosing: best, latest, past the damaged ones, and while a run goes on."""

import re
import shutil

import pytest

from charjax import checkpoint
from charjax.checkpoint import arrays, choosing, files, loading
from charjax.errors import CheckpointError, ConfigError
from tests.checkpoint.examples import (
    PARAMS,
    assert_refused,
    assert_same,
    clone,
    flip_a_byte,
)


def test_best_and_latest_of_a_run_and_of_a_tree(original, tmp_path):
    run, other = tmp_path / "a", tmp_path / "group" / "b"
    a = clone(original, run, 1, 2.0)
    b = clone(original, run, 2, 1.5, saved=9.0)
    c = clone(original, run, 9, 1.7, saved=8.0)
    unknown = clone(original, run, 3, None)
    d = clone(original, other, 1, 1.2)
    trained = clone(original, tmp_path / "c", 20, 0.5, loss_of="train", saved=8.5)
    assert checkpoint.find(run) == b
    assert checkpoint.find(run, "latest") == c
    assert checkpoint.find(tmp_path) == d
    assert checkpoint.find(tmp_path, "latest") == c, "in the run saved to last"
    assert checkpoint.find(a, "latest") == a, "a checkpoint is its own choice"
    best_first = [d, b, c, a, trained, unknown]
    assert [path for path, _ in checkpoint.listing(tmp_path)] == best_first


def test_a_run_without_any_loss_is_loaded_from_its_latest(original, tmp_path):
    clone(original, tmp_path, 1, None)
    latest = clone(original, tmp_path, 2, None)
    assert checkpoint.find(tmp_path) == latest


@pytest.mark.parametrize("lost", [checkpoint.MANIFEST, "arrays/_CHECKPOINT_METADATA"])
def test_a_damaged_checkpoint_is_listed_last(lost, copy):
    sound = clone(copy, copy.parent, 1, 3.0)
    raw = (copy / checkpoint.MANIFEST).read_bytes()
    (copy / checkpoint.MANIFEST).write_bytes(raw[:-1])
    (copy / lost).unlink()
    (path, record), (damaged, error) = checkpoint.listing(copy.parent)
    assert (path, damaged) == (sound, copy)
    assert record.loss == 3.0
    assert isinstance(error, CheckpointError)
    for which in ("best", "latest"):
        assert_refused(re.escape(copy.name), checkpoint.find, copy.parent, which)
        assert checkpoint.find(copy.parent, which, fallback=True) == sound


def test_a_folder_of_damaged_checkpoints_says_so(copy):
    (copy / checkpoint.MANIFEST).write_bytes(b"")
    assert_refused("checkpoint.json: is damaged", checkpoint.find, copy.parent)
    assert_refused(
        "no sound checkpoint.*damaged", checkpoint.find, copy.parent, fallback=True
    )


@pytest.mark.parametrize("which", ["best", "latest"])
def test_a_damaged_choice_is_passed_over_only_when_told_to(
    which, original, tmp_path, capsys
):
    sound = clone(original, tmp_path, 1, 2.5)
    second, first = (clone(original, tmp_path, step, 2.5 - step) for step in (1, 2))
    shutil.rmtree(second / "arrays" / "params")
    name = flip_a_byte(first)
    assert_refused(f"{name} is damaged", checkpoint.load, tmp_path, which)
    assert capsys.readouterr().err == ""
    assert_same(checkpoint.load(tmp_path, which, fallback=True), PARAMS)
    assert checkpoint.find(tmp_path, which, fallback=True) == sound
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    for part in (f"took {sound}", str(first), f"{name} is damaged", str(second)):
        assert part in said[0]


def test_a_model_is_loaded_though_what_training_needs_is_damaged(copy):
    flip_a_byte(copy, "training")
    clone(copy, copy.parent, 1, 3.0)
    assert_same(checkpoint.load(copy.parent, fallback=True), PARAMS)
    assert_refused("training.*damaged", checkpoint.verify, copy)


def test_a_path_without_checkpoint_names_those_nearby(copy, tmp_path, monkeypatch):
    near = re.escape(str(copy))
    assert_refused(f"not there.*{near}", checkpoint.load, copy.parent / "lm_lstm_ep")
    (tmp_path / "other").mkdir()
    assert_refused("near it: .*/run, ", checkpoint.find, tmp_path / "ruin")
    assert_refused(f"no checkpoint in it.*{near}", checkpoint.find, tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    assert_refused("cv/x: not there; none is near", checkpoint.find, "cv/x")
    assert_refused(
        "best, latest.*worst", checkpoint.find, copy, "worst", error=ConfigError
    )


def test_listing_a_folder_that_is_not_there_is_empty(tmp_path):
    assert checkpoint.listing(tmp_path / "none") == []


@pytest.mark.parametrize("which", ["best", "latest"])
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize(
    ("module", "function"),
    [(choosing, "read"), (loading, "read"), (arrays, "read"), (files, "digest")],
)
def test_a_checkpoint_pruned_while_it_is_read_is_chosen_again(
    module, function, fallback, which, original, tmp_path, monkeypatch, capsys
):
    """At each stage of a load, a run may save the next one and prune this one."""
    losses = iter([2.0, 1.9, 1.8, 1.7])
    paths = [clone(original, tmp_path, 1, next(losses))]
    plain = getattr(module, function)

    def prune_first(*args):
        if paths[0].exists() and len(paths) < 4:
            paths.append(clone(original, tmp_path, len(paths) + 1, next(losses)))
            shutil.rmtree(paths[-2])
        return plain(*args)

    monkeypatch.setattr(module, function, prune_first)
    assert_same(checkpoint.load(tmp_path, which, fallback=fallback), PARAMS)
    assert len(paths) > 1 or (module, fallback) == (loading, True)
    assert capsys.readouterr().err == "", "none of them is called damaged"


def test_a_pruned_checkpoint_that_was_named_is_missing(original, tmp_path, monkeypatch):
    path = clone(original, tmp_path, 1, 2.0)
    clone(original, tmp_path, 2, 2.0)
    plain = loading.read

    def prune_first(checkpoint):
        shutil.rmtree(path)
        return plain(checkpoint)

    monkeypatch.setattr(loading, "read", prune_first)
    assert_refused("is missing", checkpoint.load, path)
