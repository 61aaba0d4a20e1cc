"""A folder and its checkpoints are used only by the run that they belong to."""

import collections
import hashlib
import json
import shutil

import pytest

import charjax
from charjax import checkpoint
from charjax.training import folder as run_folder
from tests.training.runs import (
    TEXT,
    Killed,
    StopAt,
    assert_same_end,
    make_config,
    quiet,
)


def stop(config, step=20):
    """Stops a run and returns its latest checkpoint."""
    paths = []

    def look(record):
        if record["kind"] == "begin":
            paths.append(record["path"])

    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[look, StopAt(step)])
    return checkpoint.find(paths[0], "latest")


def notes_of(config):
    notes = []
    charjax.train(config, sinks=[lambda record: notes.append(record.get("text", ""))])
    return notes


def names(path):
    return sorted(inner.name for inner in path.iterdir())


def edit_manifest(path, **fields):
    """Changes a manifest's fields, and seals it as its first field says."""
    manifest = json.loads((path / "checkpoint.json").read_text())
    del manifest["sha256"]
    rest = json.dumps(manifest | fields).encode().removeprefix(b"{")
    digest = hashlib.sha256(rest).hexdigest()
    (path / "checkpoint.json").write_bytes(
        b'{"sha256": "%s", ' % digest.encode() + rest
    )


def test_a_checkpoint_of_another_seed_copied_into_the_folder_is_refused(folder):
    ours = make_config(folder)
    stop(ours)
    theirs = make_config(folder, train__seed=5, train__run_name="other")
    path = stop(theirs, step=40)
    shutil.copytree(path, folder / "cv/run" / path.name)
    before = names(folder / "cv/run")
    with pytest.raises(charjax.CheckpointError) as error:
        quiet(ours)
    assert "train.seed=5 there, 123 here" in str(error.value)
    assert path.name in str(error.value)
    assert "hidden_size" not in str(error.value)
    assert "\n" not in str(error.value)
    assert names(folder / "cv/run") == before


def test_a_checkpoint_of_another_text_copied_into_the_folder_is_refused(folder):
    ours = make_config(folder)
    stop(ours)
    (folder / "other").mkdir()
    (folder / "other/input.txt").write_text(TEXT[::-1])
    theirs = make_config(
        folder, data__dir=str(folder / "other"), train__run_name="other"
    )
    path = stop(theirs, step=40)
    shutil.copytree(path, folder / "cv/run" / path.name)
    with pytest.raises(charjax.CheckpointError, match="the text"):
        quiet(ours)


def test_a_config_edited_by_hand_does_not_make_a_run_anothers(folder):
    stop(make_config(folder))
    file = folder / "cv/run/config.json"
    file.write_text(file.read_text().replace('"seed": 123', '"seed": 5'))
    with pytest.raises(charjax.CheckpointError, match="seed=123 there, 5 here"):
        quiet(make_config(folder, train__seed=5))


def test_fields_that_may_change_on_resume_do_not_make_another_run(folder):
    config = make_config(folder)
    stop(config)
    config.train.update(patience=7, keep_best=2, print_every=1)
    config.sample.temperature = 0.3
    assert quiet(config).history


def test_a_checkpoint_without_the_texts_digest_is_resumed(folder, whole):
    config = make_config(folder)
    path = stop(config)
    progress = json.loads((path / "checkpoint.json").read_text())["progress"]
    del progress["text_sha256"]
    edit_manifest(path, progress=progress)
    assert_same_end(quiet(config), whole)


def test_checkpoints_that_are_links_are_resumed_from(folder, whole):
    config = make_config(folder)
    for path, _ in checkpoint.listing(stop(config).parent):
        path.rename(folder / path.name)
        path.symlink_to(folder / path.name)
    assert any(n.startswith("resumed") for n in notes_of(config))
    assert_same_end(quiet(config), whole)


def test_a_checkpoint_of_a_newer_format_is_refused_and_left_alone(folder):
    config = make_config(folder)
    path = stop(config)
    edit_manifest(path, format=99)
    before = names(path.parent)
    with pytest.raises(charjax.CheckpointError, match="99"):
        quiet(config)
    assert names(path.parent) == before


def test_a_checkpoint_that_cannot_be_read_now_is_refused_and_left_alone(
    folder, whole, monkeypatch
):
    config = make_config(folder)
    path = stop(config)
    before = names(path.parent)
    plain = hashlib.file_digest

    def file_digest(file, name):
        if path.name in str(file.name):
            raise OSError(5, "Input/output error", str(file.name))
        return plain(file, name)

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", file_digest)
        with pytest.raises(charjax.CheckpointError, match="Input/output error"):
            quiet(config)
    assert names(path.parent) == before
    assert_same_end(quiet(config), whole)


@pytest.mark.parametrize("run_name", ["", "named"])
def test_the_same_command_continues_without_the_model_it_began_from(folder, run_name):
    base = make_config(folder, model__cell="gru", train__max_steps=4)
    shutil.copytree(quiet(base).path, folder / "base")
    fields = {"train__init_from": str(folder / "base"), "train__run_name": run_name}
    config = make_config(folder, **fields)
    path = stop(config)
    assert path.parent.name == (run_name or "text_gru")
    shutil.rmtree(folder / "base")
    notes = notes_of(config)
    assert any(note.startswith("resumed") for note in notes)


def test_a_new_run_from_a_model_that_is_gone_is_refused(folder, whole):
    gone = str(folder / "gone")
    config = make_config(folder, train__init_from=gone, train__run_name="")
    with pytest.raises(charjax.CheckpointError, match="gone: "):
        quiet(config)
    assert not (folder / "cv").exists()


def test_two_runs_from_a_model_that_is_gone_are_told_apart_by_name(folder):
    for cell in ("gru", "rnn"):
        base = make_config(folder, model__cell=cell, train__max_steps=1)
        base.train.run_name = cell
        shutil.copytree(quiet(base).path, folder / "base")
        config = make_config(folder, train__init_from=str(folder / "base"))
        config.train.update(run_name="", max_steps=1)
        quiet(config)
        shutil.rmtree(folder / "base")
    with pytest.raises(charjax.ConfigError, match="text_gru, text_rnn") as error:
        quiet(config)
    assert "train.run_name" in str(error.value)


def test_a_folder_that_cannot_be_read_is_reported_as_such(folder, monkeypatch):
    def is_finished(path):
        raise PermissionError(13, "Permission denied", str(path / "summary.json"))

    monkeypatch.setattr(run_folder, "is_finished", is_finished)
    with pytest.raises(charjax.CheckpointError, match="cannot read") as error:
        quiet(make_config(folder))
    assert "summary.json" in str(error.value)
    assert "Permission denied" in str(error.value)


def test_the_losses_of_a_finished_run_survive_a_changed_summary(folder, whole):
    shutil.copytree(whole.path, folder / "cv/run")
    file = folder / "cv/run/summary.json"
    summary = json.loads(file.read_text())
    file.write_text(json.dumps(summary | {"best_loss": 0.1}))
    assert quiet(make_config(folder)).best_loss == whole.best_loss
    file.write_text(json.dumps(summary | {"test_loss": 0.1}))
    with pytest.raises(
        charjax.CheckpointError, match=r"test_loss must be .*; got 0\.1"
    ) as error:
        quiet(make_config(folder))
    assert str(file) in str(error.value)


def test_a_resume_hashes_each_file_of_each_checkpoint_once(folder, monkeypatch):
    config = make_config(folder)
    run = stop(config).parent
    hashed, plain = collections.Counter(), hashlib.file_digest

    def file_digest(file, name):
        hashed[str(file.name)] += 1
        return plain(file, name)

    def end(record):
        if record["kind"] == "begin":
            raise Killed

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    with pytest.raises(Killed):
        charjax.train(config, sinks=[end])
    files = [str(file) for file in run.rglob("arrays/**/*") if file.is_file()]
    assert len(files) > 10
    assert {name: hashed[name] for name in files} == dict.fromkeys(files, 1)
