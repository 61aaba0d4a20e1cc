"""A run's files: owned by one process, sound after every failure, never lost."""

import dataclasses
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import checkpoint
from charjax.checkpoint import arrays, files
from charjax.training import setup
from tests.training.runs import (
    TEXT,
    StopAt,
    assert_same_end,
    make_config,
    quiet,
    untimed,
)

PLANS = {}


@pytest.fixture(autouse=True)
def _shared_plans(monkeypatch):
    """Traces the training step once for all runs that take the same steps."""
    plain = setup.make_plan

    def make_plan(config, corpus, params, schedule=None):
        dicts = [config[group].to_dict() for group in ("model", "optimizer", "train")]
        for free in ("checkpoint_dir", "keep_best", "on_save_error", "print_every"):
            del dicts[-1][free]
        key = f"{dicts} {corpus.sha256}"
        if key not in PLANS:
            PLANS[key] = plain(config, corpus, params, schedule)
        return dataclasses.replace(PLANS[key], config=config)

    monkeypatch.setattr(setup, "make_plan", make_plan)


def contents(folder):
    paths = sorted(folder.rglob("*"))
    return {str(p): p.read_bytes() if p.is_file() else None for p in paths}


def flip_a_byte(path, group):
    file = max((path / "arrays" / group).rglob("d/*"), key=lambda f: f.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(folder):
    config = make_config(folder)
    refused = []

    def start_another(record):
        if (record["kind"], record.get("step")) == ("train", 8):
            before = contents(folder / "cv")
            with pytest.raises(charjax.BusyError) as error:
                quiet(config)
            refused.append(one_line(error))
            assert contents(folder / "cv") == before

    charjax.train(config, sinks=[start_another])
    assert f"process {os.getpid()} on {os.uname().nodename}" in refused[0]
    assert str(folder / "cv/run") in refused[0]
    assert not (folder / "cv/run/.charjax.lock").exists()


class Disk:
    """A small file system of its own, and ways in which it fails."""

    def __init__(self, path):
        self.path, self.run = path, path / "cv/run"

    def full(self, broken):
        ballast = self.path / "ballast"
        if not broken:
            return ballast.unlink()
        with open(ballast, "wb", buffering=0) as file:
            for size in (1 << 16, 1):  # to the last byte of the last page
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    pass

    def read_only(self, broken):
        if not broken:
            return mount("umount", self.run)
        # A second mount over the first, in which a file is open for writing.
        mount("mount", "--bind", self.run, self.run)
        mount("mount", "-o", "remount,bind,ro", self.run)

    def vanished(self, broken):
        elsewhere = self.path / "elsewhere"
        self.run.rename(elsewhere) if broken else elsewhere.rename(self.run)


def mount(*command):
    return subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mount("mount", "-t", "tmpfs", "-o", "size=4m", "none", path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    yield Disk(path)
    mount("umount", "-l", path)


TROUBLES = {
    "full": "No space left on device",
    "read_only": "Read-only file system",
    "vanished": "removed or replaced",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_run_that_cannot_write_stops_in_one_line_and_goes_on_later(
    trouble, folder, disk, whole
):
    config = make_config(folder, train__checkpoint_dir=str(disk.path / "cv"))

    def break_the_disk(record):
        if (record["kind"], record.get("step")) == ("train", 20):
            getattr(disk, trouble)(True)

    with pytest.raises(charjax.CheckpointError, match=TROUBLES[trouble]) as error:
        charjax.train(config, sinks=[break_the_disk])
    assert str(disk.run) in one_line(error)
    getattr(disk, trouble)(False)
    assert checkpoint.read(checkpoint.find(disk.run, "latest")).step == 16
    assert_same_end(quiet(config), whole)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_run_may_train_on_while_it_cannot_write(trouble, folder, disk, whole):
    fields = {"train__on_save_error": "continue", "train__keep_best": 1}
    config = make_config(folder, **fields, train__checkpoint_dir=str(disk.path / "cv"))
    notes, kept = [], []

    def break_the_disk(record):
        notes.append(record.get("text", ""))
        if (record["kind"], record.get("step")) == ("train", 20):
            getattr(disk, trouble)(True)
        if (record["kind"], record.get("step")) == ("train", 40):
            getattr(disk, trouble)(False)
            kept.extend(checkpoint.examine(disk.run))

    run = charjax.train(config, sinks=[break_the_disk])
    warned = [note for note in notes if "training goes on" in note]
    assert any(TROUBLES[trouble] in note for note in warned)
    assert all("\n" not in note for note in warned)
    [(_, record)] = kept
    assert record.step == 16, "sound while all else failed"
    assert_same_end(run, whole)
    left = {path.name for path in run.path.iterdir()}
    checkpoints = {path.name for path, _ in checkpoint.examine(run.path)}
    assert left == checkpoints | {"config.json", "metrics.jsonl", "summary.json"}


def test_a_run_whose_last_save_fails_is_not_finished(folder, whole, monkeypatch):
    config = make_config(folder, train__on_save_error="continue")
    plain = checkpoint.save

    def fail_late(*args, **fields):
        if fields["step"] > 16:
            raise charjax.CheckpointError("no room")
        return plain(*args, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", fail_late)
        with pytest.raises(charjax.CheckpointError, match="no room"):
            quiet(config)
        with pytest.raises(charjax.CheckpointError, match="no room"):
            charjax.train(config, sinks=[StopAt(20)])
    assert not (folder / "cv/run/summary.json").exists()
    assert_same_end(quiet(config), whole)


def test_a_run_goes_on_from_the_latest_sound_checkpoint(folder, whole):
    config = make_config(folder)
    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(40)])
    damaged = checkpoint.find(folder / "cv/run", "latest")
    flip_a_byte(damaged, "training")
    before = contents(damaged)
    notes = []
    run = charjax.train(config, sinks=[lambda r: notes.append(r.get("text", ""))])
    [warning] = [note for note in notes if note.startswith("damaged")]
    assert damaged.name in warning
    assert "arrays/training" in warning
    assert any(n.startswith("resumed") and n.endswith("step 32") for n in notes)
    assert_same_end(run, whole)
    aside = contents(damaged.with_name(f".damaged-{damaged.name}"))
    assert list(aside.values()) == list(before.values())


@pytest.mark.parametrize("lost", ["arrays", "checkpoint.json"])
def test_a_run_without_a_sound_checkpoint_is_not_begun_anew(folder, lost):
    config = make_config(folder)
    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(20)])
    paths = [path for path, _ in checkpoint.listing(folder / "cv/run")]
    assert len(paths) == 2
    for path in paths:
        if lost == "arrays":
            flip_a_byte(path, "params")
        else:
            (path / lost).write_bytes(b"")
    before = contents(folder / "cv")
    with pytest.raises(charjax.CheckpointError, match="no sound checkpoint") as error:
        quiet(config)
    assert "damaged" in one_line(error)
    assert contents(folder / "cv") == before


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json"])
def test_a_damaged_file_of_a_run_is_named_in_one_line(folder, whole, name):
    shutil.copytree(whole.path, folder / "cv/run")
    if name == "metrics.jsonl":
        (folder / "cv/run/summary.json").unlink()
    raw = (folder / "cv/run" / name).read_bytes()
    (folder / "cv/run" / name).write_bytes(raw[:20] + b"\n" + raw[20:-9])
    with pytest.raises(charjax.CheckpointError, match=name) as error:
        quiet(make_config(folder))
    assert "damaged" in one_line(error)


def test_metrics_cut_off_within_a_character_are_gone_on_from(folder, whole):
    config = make_config(folder)
    with pytest.raises(charjax.Stopped):
        charjax.train(config, sinks=[StopAt(20)])
    with open(folder / "cv/run/metrics.jsonl", "ab") as file:
        file.write('{"kind": "val", "sample": "ü'.encode()[:-1])
    assert_same_end(quiet(config), whole)


def test_nan_in_the_gradient_of_a_step_stops_at_that_step(folder, monkeypatch):
    """The only qq of the text is in the tenth chunk."""
    text = TEXT[:185] + "qq" + TEXT[187:]
    (folder / "text/input.txt").write_text(text)
    q = charjax.Vocab.of(text).encode("q")[0]

    @jax.custom_vjp
    def poisoned(nats):
        return nats

    poisoned.defvjp(lambda nats: (nats, None), lambda _, g: (g * jnp.nan,))
    losses = importlib.import_module("charjax.model.loss")  # not the function
    plain = losses.mean_nats

    def mean_nats(logits_TxBxV, y_TxB, weights_TxB):
        nats = plain(logits_TxBxV, y_TxB, weights_TxB)
        is_marked = jnp.any((y_TxB[1:] == q) & (y_TxB[:-1] == q))
        return jax.lax.cond(is_marked, poisoned, lambda n: n, nats)

    monkeypatch.setattr(losses, "mean_nats", mean_nats)
    with pytest.raises(charjax.TrainingError, match="nan at step 10,") as error:
        quiet(make_config(folder, train__eval_every=4.0, sample__length=0))
    latest, record = checkpoint.examine(folder / "cv/run")[0]
    assert record.step == 8
    assert str(latest) in str(error.value)
    params = checkpoint.load(latest)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


class StopTwiceAt(StopAt):
    """A sink that sends SIGINT and then SIGTERM."""

    def __call__(self, record):
        if (record["kind"], record.get("step")) == ("train", self.step):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_stops_at_once_with_its_own_number(folder, whole):
    config = make_config(folder)
    with pytest.raises(charjax.Stopped, match="at once") as stop:
        charjax.train(config, sinks=[StopTwiceAt(32)])
    assert stop.value.signum == signal.SIGTERM
    assert checkpoint.read(checkpoint.find(folder / "cv/run", "latest")).step == 16
    assert_same_end(quiet(config), whole)


@pytest.mark.parametrize(
    ("module", "function"), [(arrays, "write"), (files, "publish")]
)
def test_a_second_signal_while_saving_leaves_all_sound(
    module, function, folder, whole, monkeypatch
):
    config = make_config(folder)
    plain = getattr(module, function)

    def signalled(*args):
        result = plain(*args)
        signal.raise_signal(signal.SIGTERM)
        return result

    with monkeypatch.context() as patch:

        def stop(record):
            if (record["kind"], record.get("step")) == ("train", 20):
                patch.setattr(module, function, signalled)
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(charjax.Stopped, match="at once") as stopped:
            charjax.train(config, sinks=[stop])
    assert stopped.value.signum == signal.SIGTERM
    assert not [p for p in (folder / "cv/run").iterdir() if ".tmp" in p.name]
    assert_same_end(quiet(config), whole)


SNAPSHOTS = {}


def photograph(event, arguments):
    """An audit hook: copies a run before each change that Python makes to it.

    An audit hook stays for the life of the process; without a run it does nothing.
    """
    run, path = SNAPSHOTS.get("run"), str(arguments[0]) if arguments else ""
    is_ours = threading.current_thread() is threading.main_thread()
    if run is None or not is_ours or not path.startswith(str(run)):
        return
    writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
        event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
    )
    if not writes or "/.tmp-" in os.path.dirname(path):  # that one is known to be half
        return
    SNAPSHOTS["run"] = None
    copy = run.with_name(f"{len(SNAPSHOTS['states']):03}") / run.name
    shutil.copytree(run, copy)
    # Checkpoints tell the time; and nothing that is being written counts.
    state = {
        name.removeprefix(str(copy)): raw
        for name, raw in contents(copy).items()
        if ".tmp-" not in name and not (raw and "epoch" in name)
    }
    if state in SNAPSHOTS["states"]:
        shutil.rmtree(copy.parent)
    else:
        SNAPSHOTS["states"].append(state)
    SNAPSHOTS["run"] = run


def test_a_run_killed_before_any_change_to_its_files_comes_to_the_same_end(folder):
    """Each copy is what kill -9 would have left at that instant."""
    fields = {"train__keep_best": 1, "train__print_every": 24, "sample__length": 0}
    run = folder / "cv/run"
    run.mkdir(parents=True)
    SNAPSHOTS.update(run=run, states=[])
    sys.addaudithook(photograph)
    try:
        whole = quiet(make_config(folder, **fields))
    finally:
        SNAPSHOTS["run"] = None
    names = {path.name for path in run.iterdir()}
    assert len(SNAPSHOTS["states"]) > 10
    for copy in sorted((folder / "cv").glob("[0-9]*")):
        config = make_config(folder, **fields, train__checkpoint_dir=str(copy))
        again = quiet(config)
        assert untimed(again.history) == untimed(whole.history)
        jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
        left = {path.name for path in again.path.iterdir()} - {".charjax.lock"}
        assert left == names, copy.name
