"""Muon: orthogonal updates of each gate, Adam's for all other weights."""

import jax
import numpy as np
import optax
import pytest

import charjax
from charjax.training.muon import muon

RATE = 0.1


def newton_schulz(g):
    """Returns four steps of the quintic iteration towards the orthogonal factor."""
    if len(g) > len(g[0]):
        return newton_schulz(g.T).T
    x = g / np.sqrt(np.abs(g @ g.T).sum(axis=1, keepdims=True))
    for _ in range(4):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def first_updates(spec, seed=0):
    """Returns gradients of a model, and Muon's and Adam's first updates from them."""
    params = charjax.init(jax.random.key(seed), spec, charjax.Vocab.of("abcde"))
    keys = jax.random.split(jax.random.key(9), len(jax.tree.leaves(params)))
    keys = jax.tree.unflatten(jax.tree.structure(params), list(keys))
    grads = jax.tree.map(lambda w, k: jax.random.normal(k, w.shape), params, keys)
    optimizers = (
        muon(lambda step: RATE, 0.9, 0.99, 1e-8, 0.0),
        optax.adam(RATE, 0.9, 0.99, nesterov=True),
    )
    return grads, *(o.update(grads, o.init(params), params)[0] for o in optimizers)


def test_each_gate_gets_an_orthogonal_update_of_its_own():
    spec = charjax.ModelSpec(hidden_size=6, num_layers=2, embedding_size=4)
    grads, ours, _ = first_updates(spec)
    pairs = [(grads.layers[i], ours.layers[i]) for i in (0, 1)]
    for grad, update in pairs:
        for name in ("input_DxGH", "recurrent_HxGH"):
            for gate in range(4):
                part = np.s_[:, 6 * gate : 6 * gate + 6]
                g = np.asarray(getattr(grad, name)[part], np.float64)
                expected = -RATE * 0.2 * np.sqrt(max(g.shape)) * newton_schulz(g)
                got = getattr(update, name)[part]
                np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("embedding_size", [0, 6])
def test_all_other_weights_get_adams_update(embedding_size):
    # With five characters and five units the shapes alone do not tell one-hot
    # characters from a layer's input.
    spec = charjax.ModelSpec(hidden_size=5, num_layers=2, embedding_size=embedding_size)
    _, ours, adams = first_updates(spec)
    same = jax.tree.map(lambda a, b: bool(np.allclose(a, b, rtol=1e-4)), ours, adams)
    assert same.readout_HxV
    assert same.readout_bias_V
    assert [layer.bias_GH for layer in same.layers] == [True, True]
    assert [layer.recurrent_HxGH for layer in same.layers] == [False, False]
    assert [layer.input_DxGH for layer in same.layers] == [not embedding_size, False]
    assert same.embedding_VxE is (True if embedding_size else None)


@pytest.mark.parametrize("cell", ["rnn", "gru", "gru_reset_before"])
def test_every_cell_learns(cell):
    spec = charjax.ModelSpec(cell=cell, hidden_size=8, num_layers=2)
    vocab = charjax.Vocab.of("abc")
    params = charjax.init(jax.random.key(0), spec, vocab)
    optimizer = muon(lambda step: 0.03, 0.9, 0.99, 1e-8, 0.0)
    ids_BxT = vocab.encode("abcab" * 4)[None]

    @jax.jit
    def step(params, state):
        def objective(params):
            return charjax.loss(params, ids_BxT[:, :-1], ids_BxT[:, 1:])[0]

        loss, grads = jax.value_and_grad(objective)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, losses = optimizer.init(params), []
    for _ in range(40):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < 0.2 < 1 < losses[0]


def test_weight_decay_pulls_the_matrices_of_layers():
    spec = charjax.ModelSpec(hidden_size=4, num_layers=1)
    params = charjax.init(jax.random.key(0), spec, charjax.Vocab.of("abc"))
    zero = jax.tree.map(np.zeros_like, params)
    optimizer = muon(lambda step: 1.0, 0.9, 0.99, 1e-8, 0.1)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    layer = params.layers[0]
    np.testing.assert_allclose(
        updates.layers[0].recurrent_HxGH, -0.1 * layer.recurrent_HxGH, rtol=1e-5
    )
    np.testing.assert_array_equal(updates.layers[0].bias_GH, 0)
