"""Checkpoints: bit for bit, whole or not at all, damage found, nothing trusted."""

import dataclasses
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charjax import cells, checkpoint
from charjax.checkpoint import Record
from charjax.errors import CheckpointError, ConfigError
from charjax.model import ModelSpec, Params, init, initial_carry
from charjax.text.vocab import Vocab

VOCAB = Vocab.of("abc é\0\r😀")
PACKAGE_ROOT = Path(checkpoint.__file__).parents[1]


def make_params(**fields) -> Params:
    """A model of odd weights, without the seconds that compiling `init` takes."""
    spec = ModelSpec(**{"hidden_size": 4, "num_layers": 2} | fields)
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), spec, VOCAB))
    noise = np.random.default_rng(0)
    return jax.tree.map(
        lambda w: jnp.asarray(noise.normal(size=w.shape), w.dtype), shapes
    )


def make_training(params):
    """What a training loop holds: NamedTuples, typed keys, counters, states."""
    return {
        "opt_state": optax.adamw(1e-3).init(params),
        "carry": initial_carry(params, 3),
        "key": jax.random.key(7),
        "keys": (jax.random.split(jax.random.key(8, impl="rbg"), 3),),
        "step": jnp.int32(90),
    }


PARAMS = make_params()
TRAINING = make_training(PARAMS)


def save(run_dir, params=PARAMS, training=TRAINING, **fields):
    defaults = {"step": 90, "epoch": 0.95, "loss": 2.06812, "loss_of": "val"}
    notes = {"config": {"model": {"cell": "lstm"}}, "progress": {"val": [[90, 2.07]]}}
    return checkpoint.save(run_dir, params, training, **defaults | notes | fields)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run"))


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run" / original.name)


def bits(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), bits(jax.random.key_data(leaf))
    array = np.asarray(leaf)
    return str(array.dtype), array.shape, array.tobytes()


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    leaves = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert list(map(bits, leaves[0])) == list(map(bits, leaves[1]))


def assert_refused(match, call, *args, error=CheckpointError, **kwargs):
    with pytest.raises(error, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def contents(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def reseal(path, **changes):
    """Rewrites a record as an attacker would, with a seal that fits."""
    file = path / checkpoint.RECORD
    plain = checkpoint._unseal(file.read_bytes()) | changes
    file.write_bytes(checkpoint._seal(plain))
    return path


# Round trips.


def test_the_name_tells_cell_epoch_and_loss(original, tmp_path):
    assert original.name == "lm_lstm_epoch0.95_2.0681"
    interrupted = save(tmp_path, make_params(cell="gru"), loss=None)
    assert interrupted.name == "lm_gru_epoch0.95_interrupted"


def test_restore_returns_every_leaf_bit_for_bit(original):
    assert_same(checkpoint.restore(original, PARAMS, TRAINING), (PARAMS, TRAINING))


def test_restore_needs_only_the_shapes_of_its_templates(original):
    shapes = jax.eval_shape(lambda: (PARAMS, TRAINING))
    assert_same(checkpoint.restore(original, *shapes), (PARAMS, TRAINING))


def test_every_dtype_and_odd_value_survives(tmp_path):
    noise = np.random.default_rng(0).bytes(96)
    training = {name: np.frombuffer(noise, name) for name in checkpoint._DTYPES[1:]}
    training["bool"] = np.array([[True], [False]])
    training["empty"] = np.zeros((0, 3), np.float32)
    training["zeros"] = np.zeros(100_000)
    training["scalar"] = np.array(-0.0, np.float32)
    training["fortran"] = np.asfortranarray(np.eye(3, 4))
    training["../a/b\0\n"] = [None, {"": jnp.arange(2, dtype=jnp.bfloat16)}]
    path = save(tmp_path, training=training)
    assert_same(checkpoint.restore(path, PARAMS, training)[1], training)


@pytest.mark.parametrize("training", [None, (), {}, jnp.ones(3)])
def test_training_may_be_empty_or_one_array(training, tmp_path):
    path = save(tmp_path, training=training)
    assert_same(checkpoint.restore(path, PARAMS, training)[1], training)


@pytest.mark.parametrize(
    "fields",
    [
        {"cell": "rnn", "dropout": 0},
        {"cell": "gru", "embedding_size": 4, "tied": True},
        {"cell": "gru_reset_before", "num_layers": 1, "dtype": "bfloat16"},
    ],
)
def test_load_needs_nothing_but_the_checkpoint(fields, tmp_path):
    params = make_params(**fields)
    loaded = checkpoint.load(save(tmp_path, params, training=()))
    assert_same(loaded, params)
    assert (loaded.spec, loaded.vocab) == (params.spec, params.vocab)


def test_weights_narrowed_to_bfloat16_load_as_they_are(tmp_path):
    params = jax.tree.map(lambda w: jnp.asarray(np.asarray(w, jnp.bfloat16)), PARAMS)
    assert_same(checkpoint.load(save(tmp_path, params)), params)


def test_double_weights_are_not_narrowed_in_silence(tmp_path):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda w: jnp.asarray(np.float64(w)), PARAMS)
        path = save(tmp_path, params, training=())
        assert_same(checkpoint.load(path), params)
    assert_refused("jax_enable_x64", checkpoint.load, path)


def test_load_reads_only_the_weights(copy):
    shutil.rmtree(copy / "arrays" / "training")
    assert_same(checkpoint.load(copy), PARAMS)


def test_a_renamed_or_moved_checkpoint_still_loads(copy):
    assert_same(checkpoint.load(copy.rename(copy.parent / "best")), PARAMS)


PLAIN = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(config=st.dictionaries(st.text(), PLAIN), text=st.text(min_size=1))
def test_a_record_returns_all_it_was_given(config, text):
    record = dataclasses.replace(
        make_record(), config=config, vocab=Vocab.of(text).to_json()
    )
    raw = checkpoint._seal(vars(record))
    assert checkpoint._parse(checkpoint._unseal(raw)) == record


def make_record(**fields):
    defaults = {"step": 1, "epoch": 1.0, "loss": None, "loss_of": "val", "saved": 0.0}
    names = ("config", "progress", "spec", "vocab", "versions", "leaves", "files")
    return Record(**defaults | {name: {} for name in names} | fields)


def test_the_record_tells_run_and_libraries(original):
    record = checkpoint.read(original)
    assert (record.step, record.epoch, record.loss) == (90, 0.95, 2.06812)
    assert record.config == {"model": {"cell": "lstm"}}
    assert record.progress == {"val": [[90, 2.07]]}
    assert record.versions["jax"] == jax.__version__
    assert record.leaves["training['key']"] == {"shape": [], "dtype": "key<fry>"}
    assert abs(time.time() - record.saved) < 3600


# Damage.


def test_a_flipped_byte_is_found_in_every_file(copy):
    chance = random.Random(0)
    for name, whole in contents(copy).items():
        for offset in {0, len(whole) - 1, *(chance.randrange(99999) for _ in range(6))}:
            if not whole:
                continue
            damaged = bytearray(whole)
            damaged[offset % len(whole)] ^= 1 << chance.randrange(8)
            (copy / name).write_bytes(damaged)
            assert_refused(re.escape(name), checkpoint.verify, copy)
        (copy / name).write_bytes(whole)
    checkpoint.verify(copy)


def test_any_flipped_bit_of_the_record_is_found(original):
    raw = (original / checkpoint.RECORD).read_bytes()
    for offset in range(len(raw)):
        damaged = bytearray(raw)
        damaged[offset] ^= 1 << offset % 8
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint._unseal(bytes(damaged))


@pytest.mark.parametrize("how", ["truncate", "empty", "delete", "replace by folder"])
def test_a_truncated_or_deleted_file_is_found(how, copy):
    for name, whole in contents(copy).items():
        file = copy / name
        file.unlink()
        if how == "truncate":
            file.write_bytes(whole[:-1] if whole else b" ")
        elif how == "empty":
            file.write_bytes(b"" if whole else b" ")
        elif how == "replace by folder":
            file.mkdir()
        assert_refused(re.escape(name), checkpoint.verify, copy)
        if file.is_dir():
            file.rmdir()
        file.write_bytes(whole)
    checkpoint.verify(copy)


def test_damage_is_found_before_orbax_reads_a_byte(copy, monkeypatch):
    monkeypatch.setattr(checkpoint, "_read_group", lambda *_: pytest.fail("was read"))
    file = max(copy.rglob("params/**/d/*"), key=lambda file: file.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert_refused(file.name, checkpoint.load, copy)
    assert_refused(file.name, checkpoint.restore, copy, PARAMS, TRAINING)


def test_a_newer_format_asks_for_an_upgrade(copy):
    reseal(copy, format=2, news=[])
    assert_refused("format 2.*upgrade", checkpoint.read, copy)


# Templates that do not fit.


def other_training(**changes):
    return TRAINING | changes


@pytest.mark.parametrize(
    ("params", "training", "match"),
    [
        (PARAMS, other_training(step=jnp.float32(0)), r"\['step'\].*float32.*int32"),
        (PARAMS, other_training(step=jnp.zeros(2, int)), r"\['step'\]: .*\[2\].*\[\]"),
        (PARAMS, other_training(more=jnp.ones(2)), r"\['more'\].*no such array"),
        (PARAMS, {"step": jnp.int32(0)}, r"expected no such array, got"),
        (PARAMS, other_training(key=jax.random.key(0, impl="rbg")), r"rbg.*fry"),
        (PARAMS, other_training(step=3), r"\['step'\]: expected an array, got int"),
        (make_params(hidden_size=5), TRAINING, r"params\.layers\[0\]"),
        (make_params(cell="rnn"), TRAINING, "expected cell 'rnn', got 'lstm'"),
        (PARAMS.replace(vocab=Vocab.of("12345678")), TRAINING, "another vocabulary"),
    ],
)
def test_restore_names_what_does_not_fit(params, training, match, original):
    assert_refused(match, checkpoint.restore, original, params, training)


def test_a_cell_that_is_not_registered_must_be_imported(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cells, "_CELLS", cells._CELLS | {"mine": cells.get("gru")})
        path = save(tmp_path, make_params(cell="mine"))
    assert_refused("'mine'.*import its file", checkpoint.load, path, error=ConfigError)
    assert checkpoint.listing(tmp_path)[0][1].spec["cell"] == "mine"


# Hostile contents, sealed as if they were ours.


@pytest.mark.parametrize(
    "text",
    [
        '"a": ' + "[" * 100_000,
        '"a": ' + "9" * 5000 + "}",
        '"format": 1}',
        '"__proto__": {"format": 1}, "__class__": "os.system"}',
        '"format": true}',
        "}",
        "\udcff",
    ],
)
def test_hostile_json_is_refused(text, copy):
    rest = text.encode("utf-8", "surrogateescape")
    digest = checkpoint.hashlib.sha256(rest).hexdigest().encode()
    file = copy / checkpoint.RECORD
    file.write_bytes(b'{"sha256": "' + digest + b'", ' + rest)
    assert_refused(re.escape(str(file)), checkpoint.read, copy)
    assert isinstance(checkpoint.listing(copy.parent)[0][1], CheckpointError)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "1"},
        {"step": True},
        {"step": -1},
        {"epoch": 1},
        {"loss": float("nan")},
        {"loss": float("-inf")},
        {"loss_of": ["val"]},
        {"config": []},
        {"files": None},
        {"leaves": {"params": 1}},
        {"leaves": {"params": {"shape": [-1], "dtype": "float32"}}},
        {"leaves": {"params": {"shape": [1.0], "dtype": "float32"}}},
        {"leaves": {"params": {"shape": [1], "dtype": ["float32"]}}},
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(changes, copy):
    assert_refused(next(iter(changes)), checkpoint.read, reseal(copy, **changes))


SPEC = dataclasses.asdict(PARAMS.spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../secret": "0" * 64}},
        {"files": {"/etc/passwd": "0" * 64}},
        {"vocab": {"encoding": "utf-8", "symbols": "aa"}},
        {"vocab": {"encoding": "utf-8", "symbols": "\ud800"}},
        {"vocab": {"encoding": "pickle", "symbols": ""}},
        {"spec": SPEC | {"hidden_size": "4"}},
        {"spec": SPEC | {"hidden_size": 10**9}},
        {"spec": SPEC | {"hidden_size": 10**30}},
        {"spec": SPEC | {"num_layers": 10**8}},
        {"spec": SPEC | {"__import__": "os"}},
        {"leaves": {}},
    ],
)
def test_a_record_that_lies_is_refused(changes, copy):
    started = time.perf_counter()
    assert_refused(copy.name, checkpoint.load, reseal(copy, **changes))
    assert time.perf_counter() - started < 2


def test_arrays_larger_than_their_files_are_refused_before_memory_is_taken(copy):
    hidden = 10**6
    spec = SPEC | {"hidden_size": hidden, "num_layers": 1}
    shapes = jax.eval_shape(
        lambda: init(jax.random.key(0), ModelSpec(**spec), VOCAB, scheme="uniform")
    )
    leaves = checkpoint._flatten("params", shapes)
    described = {name: checkpoint._describe(leaf) for name, leaf in leaves.items()}
    assert_refused(
        "expected 16,000,.* bytes of arrays",
        checkpoint.load,
        reseal(copy, spec=spec, leaves=described),
    )


def test_arrays_unlike_the_record_are_refused_before_memory_is_taken(copy):
    """Orbax alone would end the process here: it allocates what the file says."""
    import tensorstore

    group = copy / "arrays" / "params"
    store = {
        "driver": "zarr3",
        "kvstore": {
            "driver": "ocdbt",
            "base": f"file://{group}/",
            "path": "params.readout_bias_V/",
        },
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [1000, 1000]}}
    absurd = {"shape": [10**7, 10**7], "data_type": "float32", "chunk_grid": grid}
    tensorstore.open(
        store | {"metadata": absurd}, create=True, delete_existing=True
    ).result()
    files = {name: checkpoint._digest(f) for name, f in checkpoint._files(copy).items()}
    assert_refused(
        "arrays/params: not the arrays", checkpoint.load, reseal(copy, files=files)
    )


def test_an_error_of_orbax_is_one_line(original, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    monkeypatch.setattr(ocp, "load", pages_of_text)
    assert_refused("arrays/params: DATA LOSS", checkpoint.load, original)
    monkeypatch.setattr(ocp, "metadata", lambda *_: ocp.PyTreeMetadata)
    assert_refused("arrays/params: ", checkpoint.load, original)


def pages_of_text(*_, **__):
    raise Exception("DATA LOSS\n" * 1000)


# Choosing.


def clone(original, run_dir, step, loss, **fields):
    """Another checkpoint without the time that Orbax takes to write one."""
    path = shutil.copytree(original, run_dir / f"lm_{step}_{loss}")
    return reseal(path, step=step, loss=loss, **{"saved": float(step)} | fields)


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


@pytest.mark.parametrize("lost", [checkpoint.RECORD, "arrays/_CHECKPOINT_METADATA"])
def test_a_damaged_checkpoint_is_listed_last(lost, copy):
    sound = clone(copy, copy.parent, 1, 3.0)
    raw = (copy / checkpoint.RECORD).read_bytes()
    (copy / checkpoint.RECORD).write_bytes(raw[:-1])
    (copy / lost).unlink()
    (path, record), (damaged, error) = checkpoint.listing(copy.parent)
    assert (path, damaged) == (sound, copy)
    assert record.loss == 3.0
    assert isinstance(error, CheckpointError)
    for which in ("best", "latest"):
        assert_refused(re.escape(copy.name), checkpoint.find, copy.parent, which)
        assert checkpoint.find(copy.parent, which, fallback=True) == sound


def test_a_folder_of_damaged_checkpoints_says_so(copy):
    (copy / checkpoint.RECORD).write_bytes(b"")
    assert_refused("checkpoint.json: is damaged", checkpoint.find, copy.parent)
    assert_refused(
        "no sound checkpoint.*damaged", checkpoint.find, copy.parent, fallback=True
    )


def flip_a_byte(path, group="params"):
    file = max((path / "arrays" / group).rglob("d/*"), key=lambda f: f.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    return file.name


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


# Saving, pruning, sweeping.


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
    ("function", "failure", "match"),
    [
        ("_require_space", forbidden, "Permission denied"),
        ("_write_arrays", full_disk, "No space left on device"),
        ("_digest", forbidden, "Permission denied"),
        ("_seal", full_disk, "No space left on device"),
        ("_flush", forbidden, "Permission denied"),
    ],
)
def test_a_failed_save_leaves_all_as_it_was(
    function, failure, match, copy, monkeypatch
):
    before = contents(copy.parent)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, function, failure)
        assert_refused(f"not saved: {match}.*checkpoint_dir", save, copy.parent)
    assert contents(copy.parent) == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    checkpoint.verify(save(copy.parent))


def test_a_disk_too_small_is_known_before_orbax_writes(copy, monkeypatch):
    monkeypatch.setattr(checkpoint, "_write_arrays", lambda *_: pytest.fail("writes"))
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
        ({"loss": float("nan")}, "loss: expected a finite"),
        ({"loss_of": "dev"}, "loss_of"),
        ({"training": {"name": np.array(["text"])}}, "'name'.*expected bool"),
        ({"training": {"count": 3}}, "'count'.*expected an array, got int"),
        ({"config": {"path": Path()}}, "not JSON serializable"),
    ],
)
def test_what_cannot_be_saved_is_named(fields, match, tmp_path):
    assert_refused(match, save, tmp_path, **fields)
    assert list(tmp_path.iterdir()) == []


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


def test_prune_is_not_misled_by_a_link_to_the_best(original, tmp_path):
    best, _ = [clone(original, tmp_path, step, float(step)) for step in (1, 2)]
    (tmp_path / "a_link").symlink_to(best, target_is_directory=True)
    assert checkpoint.prune(tmp_path, 1) == []
    assert checkpoint.find(tmp_path / "a_link").resolve() == best.resolve()


def test_prune_leaves_damaged_checkpoints_to_people(copy):
    clone(copy, copy.parent, 1, 1.0)
    (copy / checkpoint.RECORD).write_bytes(b"")
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


CHILD = """
import sys, time
import jax
import numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_device", jax.devices()[1])
from charjax import checkpoint
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
whole = checkpoint._write_arrays

def write_and_wait(*args):
    whole(*args)
    print("half written", flush=True)
    time.sleep(60)

checkpoint._write_arrays = write_and_wait
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


def test_a_checkpoint_is_plain_json_beside_orbax_files(original):
    plain = json.loads((original / checkpoint.RECORD).read_text())
    assert plain.pop("sha256")
    assert plain == vars(checkpoint.read(original))
    assert sorted(p.name for p in original.iterdir()) == ["arrays", "checkpoint.json"]
    assert set(plain["files"]) == set(contents(original)) - {"checkpoint.json"}
