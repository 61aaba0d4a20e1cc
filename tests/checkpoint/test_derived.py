"""Arrays kept beside a checkpoint: what comes back, and what is refused."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charjax import CheckpointError, checkpoint, default_config
from charjax.checkpoint import load_derived, save_derived
from charjax.errors import DamagedError
from tests.models import make

NAME, ABOUT = "squares", {"chunks": 3}
PARAMS = make(embedding_size=3)
TREE = jax.tree.map(lambda x: x * x, PARAMS)


def save(folder, step=1):
    return checkpoint.save(
        folder,
        PARAMS,
        {"step": np.int32(step)},
        step=step,
        epoch=1.0,
        loss=1.5,
        loss_of="val",
        config=default_config().to_dict(),
        progress={},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = save(tmp_path_factory.mktemp("run"))
    save_derived(path, NAME, TREE, ABOUT)
    return path


@pytest.fixture
def path(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / saved.name)


def test_what_was_saved_comes_back_bit_for_bit_and_the_checkpoint_stays_sound(path):
    found = load_derived(path, NAME, PARAMS, ABOUT)
    assert jax.tree.structure(found) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(TREE), strict=True):
        np.testing.assert_array_equal(a, b)
    checkpoint.verify(path)
    assert checkpoint.find(path.parent) == path


def test_without_a_file_there_is_nothing(path):
    assert load_derived(path, "cubes", PARAMS, ABOUT) is None


@pytest.mark.parametrize("where", [3, 100, 900, -1])
def test_any_changed_byte_is_found(path, where):
    raw = bytearray((path / NAME).read_bytes())
    raw[where] ^= 1
    (path / NAME).write_bytes(raw)
    with pytest.raises(DamagedError, match=r"is damaged, .*Try deleting it") as error:
        load_derived(path, NAME, PARAMS, ABOUT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"0"])
def test_another_length_is_found(path, change):
    (path / NAME).write_bytes(change((path / NAME).read_bytes()))
    with pytest.raises(DamagedError, match="the sha256 of its arrays differs"):
        load_derived(path, NAME, PARAMS, ABOUT)


def test_the_file_of_another_checkpoint_is_refused(path, tmp_path):
    other = save(tmp_path / "other", step=2)
    shutil.copy(path / NAME, other / NAME)
    with pytest.raises(CheckpointError, match=r"checkpoint must be .*; got"):
        load_derived(other, NAME, PARAMS, ABOUT)


def test_other_arrays_and_other_ways_of_computing_are_refused(path):
    halved = jax.tree.map(lambda x: x.astype(jnp.float16), PARAMS)
    twice = jax.tree.map(lambda x: jnp.stack([x, x]).astype(jnp.float16), PARAMS)
    with pytest.raises(DamagedError):
        load_derived(path, NAME, halved, ABOUT)
    with pytest.raises(CheckpointError, match="leaves must be"):
        load_derived(path, NAME, twice, ABOUT)
    with pytest.raises(CheckpointError, match=r"about must be .*4.*; got .*3"):
        load_derived(path, NAME, PARAMS, {"chunks": 4})


def test_a_link_is_not_written_through(path, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (path / "link").symlink_to(mine)
    with pytest.raises(CheckpointError, match=r"was not written: .*symbolic link"):
        save_derived(path, "link", TREE, ABOUT)
    assert mine.read_text() == "mine"


def test_what_is_not_a_file_is_refused(path):
    (path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="must be a regular file"):
        load_derived(path, "folder", PARAMS, ABOUT)
