"""Loading: every leaf bit for bit, and templates that do not fit are named."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charjax import cells, checkpoint
from charjax.checkpoint import SPEC_FIELDS, files
from charjax.checkpoint.trees import DTYPES
from charjax.errors import ConfigError
from charjax.text.vocab import Vocab
from tests.checkpoint.examples import (
    PARAMS,
    TRAINING,
    assert_refused,
    assert_same,
    make_params,
    save,
)


def test_restore_returns_every_leaf_bit_for_bit(original):
    assert_same(checkpoint.restore(original, PARAMS, TRAINING), (PARAMS, TRAINING))


def test_restore_needs_only_the_shapes_of_its_templates(original):
    shapes = jax.eval_shape(lambda: (PARAMS, TRAINING))
    assert_same(checkpoint.restore(original, *shapes), (PARAMS, TRAINING))


def test_every_dtype_and_odd_value_survives(tmp_path):
    noise = np.random.default_rng(0).bytes(96)
    training = {name: np.frombuffer(noise, name) for name in DTYPES[1:]}
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
        {"cell": "rnn"},
        {"cell": "gru", "embedding_size": 4, "tied": True},
        {"cell": "gru_reset_before", "num_layers": 1},
    ],
)
def test_load_needs_nothing_but_the_checkpoint(fields, tmp_path):
    params = make_params(**fields)
    loaded = checkpoint.load(save(tmp_path, params, training=()))
    assert_same(loaded.layers, params.layers)
    assert_same(jax.tree.leaves(loaded), jax.tree.leaves(params))
    assert loaded.vocab == params.vocab
    for name in SPEC_FIELDS:
        assert getattr(loaded.spec, name) == getattr(params.spec, name)


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


def other_training(**changes):
    return TRAINING | changes


@pytest.mark.parametrize(
    ("params", "training", "match"),
    [
        (PARAMS, other_training(step=jnp.float32(0)), r"\['step'\].*float32.*int32"),
        (
            PARAMS,
            other_training(step=jnp.zeros(2, int)),
            r"\['step'\] must .*\[2\].*\[\]",
        ),
        (PARAMS, other_training(more=jnp.ones(2)), r"\['more'\].*no such array"),
        (PARAMS, {"step": jnp.int32(0)}, r"must be no such array; got"),
        (PARAMS, other_training(key=jax.random.key(0, impl="rbg")), r"rbg.*fry"),
        (PARAMS, other_training(step=3), r"\['step'\] must be an array; got int"),
        (make_params(hidden_size=5), TRAINING, r"params\.layers\[0\]"),
        (make_params(cell="rnn"), TRAINING, "cell must be 'rnn'; got 'lstm'"),
        (
            dataclasses.replace(PARAMS, vocab=Vocab.of("12345678")),
            TRAINING,
            "another vocabulary",
        ),
    ],
)
def test_restore_names_what_does_not_fit(params, training, match, original):
    assert_refused(match, checkpoint.restore, original, params, training)


def test_a_cell_that_is_not_registered_must_be_imported(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(cells.registry._CELLS, "mine", cells.get("gru"))
        path = save(tmp_path, make_params(cell="mine"))
    assert_refused("'mine'.*import the file", checkpoint.load, path, error=ConfigError)
    assert checkpoint.listing(tmp_path)[0][1].spec["cell"] == "mine"


def test_what_was_verified_is_not_hashed_again(original, monkeypatch):
    verified = checkpoint.verify(original)
    monkeypatch.setattr(files, "digest", lambda _: pytest.fail("hashed again"))
    assert_same(checkpoint.load(verified), PARAMS)
    shapes = checkpoint.template(verified.manifest)
    assert_same(checkpoint.restore(verified, shapes, TRAINING), (PARAMS, TRAINING))


def test_a_fallback_is_hashed_once(original, monkeypatch):
    hashed = []
    plain = files.digest
    monkeypatch.setattr(files, "digest", lambda f: hashed.append(f) or plain(f))
    assert_same(checkpoint.load(original.parent, fallback=True), PARAMS)
    assert hashed
    assert len(hashed) == len(set(hashed))
