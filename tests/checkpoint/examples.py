"""Small models, what a run saves beside them, and checkpoints made from others."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from charjax import checkpoint
from charjax.checkpoint.files import array_files, digest
from charjax.errors import CheckpointError
from charjax.model import ModelSpec, Params, init, initial_carry
from charjax.storage import sealed
from charjax.text.vocab import Vocab

VOCAB = Vocab.of("abc é\0\r😀")


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


def clone(original, run_dir, step, loss, **fields):
    """Another checkpoint without the time that Orbax takes to write one."""
    path = shutil.copytree(original, run_dir / f"lm_{step}_{loss}")
    return reseal(path, step=step, loss=loss, **{"saved": float(step)} | fields)


def reseal(path, **changes):
    """Rewrites a manifest as an attacker would, with a seal that fits."""
    file = path / checkpoint.MANIFEST
    plain = sealed.unseal(file.read_bytes()) | changes
    file.write_bytes(sealed.seal(plain))
    return path


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


def flip_a_byte(path, group="params"):
    file = max((path / "arrays" / group).rglob("d/*"), key=lambda f: f.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    return file.name


def rehash(path, **changes):
    """Rewrites a manifest with the sha256 that its files now have."""
    digests = {name: digest(file) for name, file in array_files(path).items()}
    return reseal(path, files=digests, **changes)
