"""Several devices that share the lanes give what one gives, with one message a step."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType

import charjax
from charjax import parallel
from charjax.cells.wrap import Share
from charjax.errors import ConfigError
from charjax.model.forward import forward
from charjax.training import create_state, make_train_step
from tests.models import make

NOISE = charjax.Noise(dropout=0.3, embedding_dropout=0.2, weight_dropout=0.1)
NOISY_SHAPE = {"embedding_size": 6, "hidden_size": 8, "num_layers": 1, "zoneout": 0.1}


@pytest.mark.parametrize("mode", ["locked", "each_step"])
def test_a_share_of_the_lanes_is_read_as_within_the_whole_batch(mode):
    params, key = make(**NOISY_SHAPE), jax.random.key(3)
    noise = charjax.Noise(0.3, mode, 0.2, 0.1, 0.1)
    ids_TxB = np.random.default_rng(4).integers(0, len(params.vocab), (7, 6))

    @jax.jit
    def read(ids_TxB, first=None):
        share = None if first is None else Share(first, 6)
        out = forward(params, ids_TxB, noise=noise, key=key, share=share)
        return out.logits_TxBxV

    expected_TxBxV = read(ids_TxB)[:, 2:4]
    share_TxBxV = read(ids_TxB[:, 2:4], 2)
    np.testing.assert_allclose(share_TxBxV, expected_TxBxV, rtol=1e-5, atol=1e-6)
    assert not np.allclose(read(ids_TxB[:, 2:4]), expected_TxBxV, rtol=1e-2)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("count", [8, 256])
def test_a_step_on_several_devices_sends_one_message(platform, count):
    params = make(**NOISY_SHAPE)
    optimizer = optax.adam(1e-3)
    key = jax.random.key(0)
    state = create_state(params, optimizer, key, batch_size=256)
    mesh = AbstractMesh((count,), ("lanes",), axis_types=(AxisType.Auto,))
    step = make_train_step(optimizer, reset_rate=0.1, noise=NOISE, mesh=mesh)
    ids_BxL = jax.ShapeDtypeStruct((256, 6), jnp.uint8)
    traced = jax.jit(step).trace(jax.eval_shape(lambda: state), ids_BxL)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.all_reduce") == 1
    assert "stablehlo.all_gather" not in text
    assert "custom_call @charjax" not in text


TRAIN = """
import json, sys
import jax

jax.config.update("jax_num_cpu_devices", 4)
import charjax

folder = sys.argv[1]
config = charjax.default_config()
config.data.dir, config.data.batch_size, config.data.seq_length = folder, 8, 10
config.model.update(hidden_size=8, num_layers=1, embedding_size=6, dropout=0.3)
config.model.update(embedding_dropout=0.2, zoneout=0.1)
config.train.update(checkpoint_dir=folder, report=False, max_epochs=2, print_every=1)
config.train.update(reset_rate=0.2, steps_per_dispatch=2)
config.sample.length = 5


def train(name, devices, sinks=()):
    config.train.update(run_name=name, devices=devices)
    return charjax.train(config, sinks=sinks)


def leave_after(step):
    def sink(record):
        if record["kind"] == "progress" and record["step"] >= step:
            raise RuntimeError("enough")
    return sink


found = {}
for name, devices in [("one", 1), ("four", 0)]:
    found[name] = [r["loss"] for r in train(name, devices).history if "loss" in r]
try:
    train("both", 4, [leave_after(6)])
except charjax.SinkError:
    pass
found["both"] = [r["loss"] for r in train("both", 1).history if "loss" in r]
for devices in (5, 3):
    try:
        train("none", devices)
    except charjax.ConfigError as error:
        found[str(devices)] = str(error)
config.data.update(dir="", name="addition", digits=1)
config.train.update(max_epochs=50, max_steps=3)
for name, devices in [("sums by one", 1), ("sums by four", 4)]:
    found[name] = [r["loss"] for r in train(name, devices).history if "loss" in r]
print(json.dumps(found))
"""


def test_losses_do_not_depend_on_the_number_of_devices(tmp_path):
    (tmp_path / "input.txt").write_text("the quick brown fox jumps. " * 40)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert len(found["one"]) > 20
    for name in ("four", "both"):
        np.testing.assert_allclose(found[name], found["one"], rtol=1e-5)
    np.testing.assert_allclose(found["sums by four"], found["sums by one"], rtol=1e-5)
    assert found["5"].startswith("train.devices must be at most the 4 that JAX sees")
    assert found["3"].startswith("train.devices must divide data.batch_size, 8; got 3")


def test_all_devices_are_as_many_as_divide_the_lanes(monkeypatch):
    device = jax.devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda backend: [device] * 8)
    monkeypatch.setattr(jax, "devices", lambda platform: [device] * 8)
    monkeypatch.setattr(parallel, "Mesh", lambda devices, *_, **__: len(devices))
    assert parallel.make_mesh(device, 0, 50) == 5
    assert parallel.make_mesh(device, 8, 64) == 8
    assert parallel.make_mesh(device, 0, 7) == 7
    with pytest.raises(ConfigError, match=r"at most the 8 .* got 9. Try"):
        parallel.make_mesh(device, 9, 90)
