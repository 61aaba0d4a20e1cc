"""Saving: whole or not at all, named, and read back before it is announced."""

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from charjax import checkpoint
from charjax.checkpoint import arrays, files
from charjax.storage import sealed
from tests.checkpoint.examples import (
    PARAMS,
    TRAINING,
    assert_refused,
    assert_same,
    contents,
    make_params,
    save,
)

PACKAGE_ROOT = Path(checkpoint.__file__).parents[2]


def test_the_name_tells_cell_epoch_and_loss(original, tmp_path):
    assert original.name == "lm_lstm_epoch0.95_2.0681"
    interrupted = save(tmp_path, make_params(cell="gru"), loss=None)
    assert interrupted.name == "lm_gru_epoch0.95_interrupted"


def test_the_record_tells_run_and_libraries(original):
    record = checkpoint.read(original)
    assert (record.step, record.epoch, record.loss) == (90, 0.95, 2.06812)
    assert record.config == {"model": {"cell": "lstm"}}
    assert record.progress == {"val": [[90, 2.07]]}
    assert record.versions["jax"] == jax.__version__
    assert record.leaves["training['key']"] == {"shape": [], "dtype": "key<fry>"}
    assert abs(time.time() - record.saved) < 3600


def test_a_checkpoint_is_plain_json_beside_orbax_files(original):
    plain = json.loads((original / checkpoint.MANIFEST).read_text())
    assert plain.pop("sha256")
    assert plain == vars(checkpoint.read(original))
    assert sorted(p.name for p in original.iterdir()) == ["arrays", "checkpoint.json"]
    assert set(plain["files"]) == set(contents(original)) - {"checkpoint.json"}


def test_a_name_that_is_taken_is_never_overwritten(tmp_path):
    paths = [save(tmp_path, step=1234, epoch=0.9 + i / 1e5) for i in range(4)]
    suffixes = [path.name.removeprefix("lm_lstm_epoch0.90_2.0681") for path in paths]
    assert suffixes == ["", "_step1234", "_step1234_2", "_step1234_3"]
    epochs = [checkpoint.read(path).epoch for path in paths]
    assert epochs == [0.9 + i / 1e5 for i in range(4)]


def forbidden(*_):
    raise PermissionError(13, "Permission denied")


def full_disk(*_):
    place = "/a/very/long/path " * 100
    raise ValueError(f"OUT_OF_RANGE: {place}\n{place} [os_error_code='28']")


@pytest.mark.parametrize(
    ("module", "function", "failure", "match"),
    [
        (files, "require_space", forbidden, "Permission denied"),
        (arrays, "write", full_disk, "No space left on device"),
        (files, "digest", forbidden, "Permission denied"),
        (sealed, "seal", full_disk, "No space left on device"),
        (files, "flush", forbidden, "Permission denied"),
    ],
)
def test_a_failed_save_leaves_all_as_it_was(
    module, function, failure, match, copy, monkeypatch
):
    before = contents(copy.parent)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, failure)
        assert_refused(f"not saved: {match}.*checkpoint_dir", save, copy.parent)
    assert contents(copy.parent) == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    checkpoint.verify(save(copy.parent))


def test_a_disk_too_small_is_known_before_orbax_writes(copy, monkeypatch):
    monkeypatch.setattr(arrays, "write", lambda *_: pytest.fail("writes"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        assert_refused("not saved: File too large", save, copy.parent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_file_in_place_of_the_run_folder_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    assert_refused("not saved: Not a directory", save, tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"loss": float("nan")}, "loss must be a finite"),
        ({"loss_of": "dev"}, "loss_of"),
        ({"training": {"name": np.array(["text"])}}, "'name'.*must be one of bool"),
        ({"training": {"count": 3}}, "'count'.*must be an array; got int"),
        ({"config": {"path": Path()}}, "not JSON serializable"),
    ],
)
def test_what_cannot_be_saved_is_named(fields, match, tmp_path):
    assert_refused(match, save, tmp_path, **fields)
    assert list(tmp_path.iterdir()) == []


CHILD = """
import sys, time
import jax
import numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_device", jax.devices()[1])
from charjax import checkpoint
from charjax.checkpoint import arrays
assert not any(name.startswith("orbax") for name in sys.modules), "orbax is slow"
from charjax.model import ModelSpec, init
from charjax.text.vocab import Vocab

spec, vocab = ModelSpec(hidden_size=4), Vocab.of("abc")
shapes = jax.eval_shape(lambda: init(jax.random.key(0), spec, vocab))
params = jax.tree.map(lambda w: jax.device_put(np.full(w.shape, 2, w.dtype)), shapes)

def save(step):
    fields = dict(step=step, epoch=1.0, loss=2.0, loss_of="val", config={}, progress={})
    checkpoint.save(sys.argv[1], params, params, **fields)

save(1)
whole = arrays.write

def write_and_wait(*args):
    whole(*args)
    print("half written", flush=True)
    time.sleep(60)

arrays.write = write_and_wait
save(2)
"""


def test_kill_9_while_saving_costs_only_what_was_being_saved(tmp_path):
    """The one saved before is from another device, and loads on this one."""
    command = [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path)]
    child = subprocess.Popen(command, cwd=PACKAGE_ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half written\n"
        assert checkpoint.sweep(tmp_path) == [], "its process is alive"
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    [(path, record)] = checkpoint.listing(tmp_path)
    assert record.step == 1
    checkpoint.verify(path)
    loaded = checkpoint.load(tmp_path)
    assert all((np.asarray(w) == 2).all() for w in jax.tree.leaves(loaded))
    assert all(w.devices() == {jax.devices()[0]} for w in jax.tree.leaves(loaded))
    assert len(checkpoint.sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "exp[1]",
        "[draft] run",
        "a*b?c",
        "{a,b} %20#x",
        "ü\U0001f98a",
        "a:b@c&d=e|f~",
        "a\nb",
    ],
)
def test_any_name_of_a_run_can_be_saved_in_and_loaded(name, tmp_path):
    for run in (tmp_path / name, tmp_path / name / "run"):
        path = save(run)
        assert_same(checkpoint.restore(path, PARAMS, TRAINING), (PARAMS, TRAINING))
    assert_same(checkpoint.load(tmp_path / name / "run", fallback=True), PARAMS)


def test_a_backslash_in_a_path_is_refused_before_anything_is_written(tmp_path):
    match = r"must not have a backslash.*train\.run_name"
    assert_refused(match, save, tmp_path / "a\\b")
    assert list(tmp_path.iterdir()) == []


def one_bit_less(name):
    def change(found):
        array = found[name].copy()
        array.view(np.uint8).flat[0] ^= 1
        return found | {name: array}

    return change


@pytest.mark.parametrize(
    "change",
    [
        one_bit_less("params.readout_bias_V"),
        one_bit_less("training['opt_state'][0].mu.readout_bias_V"),
        lambda found: {n: a for n, a in found.items() if not n.startswith("training")},
        lambda found: found | {"params.readout_bias_V": np.zeros(3, np.float32)},
    ],
)
def test_a_save_that_cannot_be_read_back_as_it_was_is_not_announced(
    change, tmp_path, monkeypatch
):
    write = arrays.write
    monkeypatch.setattr(arrays, "write", lambda tmp, found: write(tmp, change(found)))
    assert_refused("not saved: what was read back differs from it", save, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_written_otherwise_is_not_announced(tmp_path, monkeypatch):
    def write_less(path, raw):
        with open(path, "wb") as file:
            return file.write(raw[:-1])

    monkeypatch.setattr(Path, "write_bytes", write_less)
    assert_refused(
        "read back differs from it, checkpoint.json: is damaged", save, tmp_path
    )
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_orbax_leaves_empty_is_not_announced(tmp_path, monkeypatch):
    """As it does in a folder with brackets, if it is told to use its own paths."""
    from etils import epath

    monkeypatch.setattr(arrays, "_literal_path", lambda: epath.Path)
    assert_refused(
        "not saved: what was read back differs from it", save, tmp_path / "a[1]"
    )
    assert list((tmp_path / "a[1]").iterdir()) == []


def test_threads_save_and_load_at_the_same_time(tmp_path):
    """Two of the threads save into one run, under one name."""
    runs = [tmp_path / name for name in ("a", "b", "shared", "shared")]
    together = threading.Barrier(len(runs))

    def work(run):
        together.wait()
        paths = []
        for _ in range(5):
            paths.append(save(run))
            assert_same(checkpoint.load(paths[-1]), PARAMS)
        return paths

    with ThreadPoolExecutor(len(runs)) as pool:
        saved = [path for paths in pool.map(work, runs) for path in paths]
    assert len(set(saved)) == 20
    for path in saved:
        assert_same(checkpoint.restore(path, PARAMS, TRAINING), (PARAMS, TRAINING))
    assert {path for path, _ in checkpoint.listing(tmp_path)} == set(saved)
    assert not list(tmp_path.glob("*/.tmp*"))


FULL = """
import sys
import jax
from tests.checkpoint.examples import save
from charjax.checkpoint import files
from charjax.errors import CheckpointError

if sys.argv[2] == "orbax":
    files.require_space = lambda *_: None
try:
    save(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("options", "finds"),
    [
        ("size=40k", "orbax"),
        ("size=8m,nr_inodes=20", "orbax"),
        ("size=8m,nr_inodes=20", "charjax"),
    ],
)
def test_a_full_disk_is_one_line_and_nothing_else_is_printed(options, finds, tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    try:
        command = [sys.executable, "-c", FULL, str(tmp_path), finds]
        done = subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True, text=True)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "No space left on device" in done.stdout
