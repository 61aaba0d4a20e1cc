"""Noise on the weights: dropout of characters and of recurrent weights."""

import dataclasses
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import Execution, ModelSpec, Noise, cells
from charjax.cells.base import zero_carry
from charjax.linen import RecurrentStack
from charjax.model.noise import noisy_weights
from charjax.unroll import native
from tests.models import make
from tests.oracles import recurrence

KEY = jax.random.key(4)
IDS_BxT = np.random.default_rng(0).integers(0, 7, (3, 12))
RECURRENT = {
    "rnn": {"recurrent_HxGH"},
    "lstm": {"recurrent_HxGH"},
    "gru": {"recurrent_HxGH"},
    "gru_reset_before": {"recurrent_Hx2H", "candidate_HxH"},
}


def masks(params, noise, key=KEY):
    """The factor of each weight: 0, or what keeps the mean; 1 where nothing is done."""
    ones = jax.tree.map(jnp.ones_like, params)
    return noisy_weights(ones, noise, key)[0]


def equal(got, expected, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, expected
    )


def by_loop(params, ids_BxT):
    """The logits of a model, from the equations of its cell."""
    params = jax.tree.map(np.asarray, params)
    x_TxBxD = np.eye(7)[ids_BxT.T]
    if params.embedding_VxE is not None:
        x_TxBxD = params.embedding_VxE[ids_BxT.T]
    zeros = [np.zeros((len(ids_BxT), 6))] * (2 if params.spec.cell == "lstm" else 1)
    for layer in params.layers:
        x_TxBxD = getattr(recurrence, params.spec.cell)(layer, x_TxBxD, *zeros)
    weights_HxV = params.readout_HxV
    if weights_HxV is None:
        weights_HxV = params.embedding_VxE.T
    return np.swapaxes(x_TxBxD @ weights_HxV + params.readout_bias_V, 0, 1)


@pytest.mark.parametrize("cell", RECURRENT)
def test_weight_dropout_masks_the_recurrent_weights_of_every_cell_and_no_others(cell):
    params = make(cell=cell, hidden_size=50)
    factors = masks(params, Noise(weight_dropout=0.25))
    found = []
    for layer, name in itertools.product(factors.layers, factors.layers[0]._fields):
        mask = np.asarray(getattr(layer, name))
        if name in RECURRENT[cell]:
            np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.75], rtol=1e-6)
            assert np.mean(mask == 0) == pytest.approx(0.25, abs=0.04)
            found.append(mask)
        else:
            np.testing.assert_array_equal(mask, 1)
    for one, other in itertools.combinations(found, 2):
        assert one.shape != other.shape or np.any(one != other)
    assert np.all(factors.readout_HxV == 1)


@pytest.mark.parametrize("cell", RECURRENT)
def test_logits_with_weight_dropout_are_those_of_the_masked_weights_in_a_loop(cell):
    params, noise = make(cell=cell), Noise(weight_dropout=0.5)
    masked = jax.tree.map(lambda w, m: w * m, params, masks(params, noise))
    got, _ = charjax.apply(params, IDS_BxT, noise=noise, key=KEY)
    np.testing.assert_allclose(got, by_loop(masked, IDS_BxT), atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_a_dropped_character_is_zero_wherever_it_is_read_but_can_be_predicted(tied):
    params = make(embedding_size=6, tied=tied)
    noise = Noise(character_dropout=0.5)
    mask_VxE = np.asarray(masks(params, noise).embedding_VxE)
    assert np.all(mask_VxE == mask_VxE[:, :1])
    assert set(mask_VxE[:, 0].tolist()) == {0, 2}
    readout_HxV = params.embedding_VxE.T if tied else params.readout_HxV
    embedding_VxE = params.embedding_VxE * mask_VxE
    masked = dataclasses.replace(
        params, embedding_VxE=embedding_VxE, readout_HxV=readout_HxV
    )
    got, _ = charjax.apply(params, IDS_BxT, noise=noise, key=KEY)
    np.testing.assert_allclose(got, by_loop(masked, IDS_BxT), atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_under_masks_are_those_at_the_masked_weights_times_the_masks(tied):
    params = make(embedding_size=6, tied=tied)
    noise = Noise(character_dropout=0.5, weight_dropout=0.5)
    factors = masks(params, noise)

    def loss(params, **how):
        return charjax.loss(params, IDS_BxT[:, :-1], IDS_BxT[:, 1:], **how)[0]

    def masked_loss(params, readout_HxV):
        params, by = (
            dataclasses.replace(p, readout_HxV=None) for p in (params, factors)
        )
        masked = jax.tree.map(jnp.multiply, params, by)
        return loss(dataclasses.replace(masked, readout_HxV=readout_HxV))

    readout_HxV = params.embedding_VxE.T if tied else params.readout_HxV
    got = jax.grad(loss)(params, noise=noise, key=KEY)
    expected, by_readout = jax.grad(masked_loss, argnums=(0, 1))(params, readout_HxV)
    if tied:
        by_both = expected.embedding_VxE + by_readout.T
        expected = dataclasses.replace(expected, embedding_VxE=by_both)
    else:
        expected = dataclasses.replace(expected, readout_HxV=by_readout)
    equal(got, expected, atol=1e-5)


def test_masks_of_weights_keep_the_mean():
    params = make(embedding_size=6, tied=True)
    noise = Noise(character_dropout=0.3, weight_dropout=0.3)
    keys = jax.random.split(KEY, 2000)
    factors = jax.vmap(lambda key: masks(params, noise, key))(keys)
    for mask in jax.tree.leaves(factors):
        np.testing.assert_allclose(np.mean(mask, axis=0), 1, atol=0.08)


@pytest.mark.parametrize("noise", [
    Noise(weight_dropout=0.5),
    Noise(character_dropout=0.5),
    Noise(0.5, "locked", 0.2, 0.2, 0.5),
])  # fmt: skip
def test_all_segments_of_a_chunk_have_the_same_masks(noise):
    params = make(embedding_size=6, tied=True)

    def loss(params, length):
        execution = Execution(segment_length=length)
        x, y = IDS_BxT[:, :-4], IDS_BxT[:, 1:-3]
        nats, _ = charjax.loss(params, x, y, noise=noise, key=KEY, execution=execution)
        return nats

    whole, parts = (jax.value_and_grad(loss)(params, length) for length in (0, 2))
    equal(parts, whole, atol=1e-5)


def test_equal_characters_stay_equal_so_that_a_table_is_enough(monkeypatch):
    module, calls = sys.modules["charjax.model.forward"], []
    plain = module.input_table
    monkeypatch.setattr(
        module, "input_table", lambda *args: calls.append(args) or plain(*args)
    )
    params = make(embedding_size=6)
    module.forward(params, IDS_BxT.T, noise=Noise(character_dropout=0.3), key=KEY)
    assert len(calls) == 1
    module.forward(params, IDS_BxT.T, noise=Noise(embedding_dropout=0.3), key=KEY)
    assert len(calls) == 1


@pytest.mark.skipif(bool(native.problem()), reason="no compiled library")
def test_masked_weights_run_on_the_compiled_kernel():
    params = make()

    def kernels(noise):
        def run(params):
            return charjax.apply(params, IDS_BxT, noise=noise, key=KEY)

        return str(jax.make_jaxpr(run)(params)).count("ffi_call")

    assert kernels(Noise(weight_dropout=0.5)) == kernels(None) > 0


def test_the_linen_stack_masks_its_recurrent_weights_only_in_training():
    noise = Noise(weight_dropout=0.5)
    stack = RecurrentStack(ModelSpec(cell="rnn", hidden_size=6), noise=noise)
    x_BxTxD = jnp.ones((2, 5, 3))
    variables = stack.init(jax.random.key(0), x_BxTxD)
    plain, _ = stack.apply(variables, x_BxTxD)
    rngs = {"dropout": jax.random.key(1)}
    noisy, _ = stack.apply(variables, x_BxTxD, train=True, rngs=rngs)
    assert not np.allclose(noisy, plain)
    again, _ = RecurrentStack(stack.spec).apply(
        variables, x_BxTxD, train=True, rngs=rngs
    )
    np.testing.assert_array_equal(again, plain)


def test_a_cell_without_recurrent_weights_has_none_to_drop(monkeypatch):
    def step(params, h, z, matmul):
        h = jnp.tanh(z + h @ params["u"].T)  # in part, or not through matmul
        return h, h

    cell = cells.Cell(
        lambda key, d, h, draw: {"w": jnp.ones((d, h)), "u": jnp.ones((h, h))},
        zero_carry,
        lambda params, x, matmul: matmul(x, params["w"]),
        step,
    )
    monkeypatch.setitem(cells.registry._CELLS, "odd", cell)
    noise = Noise(weight_dropout=0.5)
    message = r"weight_dropout must be 0 for a cell .*; got 0\.5 with 'odd'\. Try"
    with pytest.raises(charjax.ConfigError, match=message) as error:
        charjax.apply(make(cell="odd"), IDS_BxT, noise=noise, key=KEY)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("mode", "embedding_size", "expected"), [
    ("each_step", 0, [3.45836, 1.34622, 2.02687]),
    ("each_step", 5, [-4.32718, 0.08810, 0.53091]),
    ("locked", 0, [0.36481, -0.76670, 1.85745]),
    ("locked", 5, [-1.33030, -2.46617, -1.68155]),
])  # fmt: skip
def test_the_masks_of_a_key_are_those_of_earlier_versions(
    mode, embedding_size, expected
):
    """So that runs of an earlier version go on as they would have."""
    params = make(cell="gru", embedding_size=embedding_size)
    noise = Noise(0.5, mode, 0.3 if embedding_size else 0.0)
    ids_BxT = np.arange(12).reshape(2, 6) % 7
    logits, _ = charjax.apply(params, ids_BxT, noise=noise, key=KEY)
    np.testing.assert_allclose(logits[1, 5, :3], expected, atol=1e-4)
