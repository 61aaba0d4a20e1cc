"""The cells of later papers, and what wraps a cell: against loops written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import Execution, ModelSpec, Noise, cells, checkpoint
from charjax.cells.base import (
    Cell,
    dense_init,
    dense_project,
    sigmoid,
    zero_carry,
)
from charjax.cells.layer_norm import layer_norm
from charjax.cells.mogrifier import mogrifier
from charjax.unroll import choose
from charjax.unroll.scan import recurrent_weights
from tests.models import VOCAB, make
from tests.oracles import cells as oracle
from tests.oracles import recurrence
from tests.training.runs import TEXT, make_config, quiet
from tests.unroll.test_scan import B, D, H, T, value_and_grads

LINEAR = ("min_gru", "min_lstm", "rg_lru")
CELLS = ("multiplicative_rnn", "multiplicative_lstm", "peephole_lstm", "slstm", *LINEAR)
WRAPPED = {
    "layer_norm_lstm": layer_norm(cells.get("lstm")),
    "mogrifier_lstm": mogrifier(cells.get("lstm"), 3),
}
IDS_BxT = np.random.default_rng(0).integers(0, 7, (3, 12))
KEY = jax.random.key(4)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def example(name):
    """A cell with weights large enough to bend its nonlinearities, and its inputs."""
    cell = WRAPPED[name] if name in WRAPPED else cells.get(name)
    shapes = jax.eval_shape(
        lambda: (
            cell.init(jax.random.key(0), D, H, cells.initializers("uniform")),
            jnp.zeros((T, B, D)),
            cell.initial_carry(B, H, jnp.float32),
        )
    )
    random = np.random.default_rng(1)
    return cell, jax.tree.map(lambda s: random.normal(scale=0.6, size=s.shape), shapes)


def by(strategy):
    execution = Execution(unroll=strategy)
    return lambda *args: choose.unroll(*args, execution)


def strategies(name):
    return ["scan", "linear"] if name in LINEAR else ["scan"]


@pytest.mark.parametrize("name", [*CELLS, *WRAPPED])
def test_outputs_and_gates_are_those_of_the_papers_equations(name, double):
    cell, (params, x_TxBxD, carry) = example(name)

    @jax.jit
    def run(params, x_TxBxD, carry):
        z = cell.project(params, x_TxBxD, jnp.matmul)
        outputs = [by(s)(cell, params, carry, z)[1] for s in strategies(name)]
        gates = []
        for t in range(T if cell.gates else 0):
            z_t = jax.tree.map(lambda z, t=t: z[t], z)
            gates.append(cell.gates(params, carry, z_t, jnp.matmul))
            carry, _ = cell.step(params, carry, z_t, jnp.matmul)
        stacked = {n: jnp.stack([g[n] for g in gates]) for n in (gates or [{}])[0]}
        return outputs, stacked

    expected, gates = getattr(oracle, name)(params, x_TxBxD, *jax.tree.leaves(carry))
    outputs, found = run(params, x_TxBxD, carry)
    for h_TxBxH in outputs:
        np.testing.assert_allclose(h_TxBxH, expected, rtol=0, atol=1e-12)
    assert sorted(found) == sorted(gates)
    for gate, got in found.items():
        np.testing.assert_allclose(got, gates[gate], rtol=0, atol=1e-12)
        assert np.all((got > 0) & (got < 1))


@pytest.mark.parametrize("name", [*CELLS, *WRAPPED])
def test_gradients_are_central_differences_by_every_strategy(name, double):
    cell, inputs = example(name)
    random = np.random.default_rng(2)
    weights_TxBxH = random.normal(size=(T, B, H))

    def with_gradient(strategy):
        def loss(inputs):
            params, x_TxBxD, carry = inputs
            z = cell.project(params, x_TxBxD, jnp.matmul)
            last, h_TxBxH = by(strategy)(cell, params, carry, z)
            ends = sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(last))
            return jnp.sum(weights_TxBxH * jnp.sin(h_TxBxH)) + ends

        return jax.jit(jax.value_and_grad(loss))

    leaves, treedef = jax.tree.flatten(inputs)
    found = [with_gradient(strategy) for strategy in strategies(name)]
    gradients = [jax.tree.leaves(f(inputs)[1]) for f in found]
    for i, leaf in enumerate(leaves):  # each along a direction of its own
        direction = random.normal(size=leaf.shape)
        direction /= np.linalg.norm(direction)
        high, low = (
            found[0](treedef.unflatten([*leaves[:i], moved, *leaves[i + 1 :]]))[0]
            for moved in (leaf + 1e-5 * direction, leaf - 1e-5 * direction)
        )
        for gradient in gradients:
            along = np.sum(gradient[i] * direction)
            np.testing.assert_allclose(along, (high - low) / 2e-5, rtol=1e-6, atol=1e-7)
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [*LINEAR, "slstm"])
def test_gates_that_are_shut_or_wide_open_give_no_nan(name):
    cell, inputs = example(name)
    params, x_TxBxD, carry = jax.tree.map(np.float32, inputs)
    params = jax.tree.map(lambda w: 200 * w, params)
    found = value_and_grads(by("auto"), cell, params, x_TxBxD, carry)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_an_slstm_begins_with_an_empty_memory(double):
    cell, (params, x_TxBxD, _) = example("slstm")
    z = cell.project(params, x_TxBxD, jnp.matmul)
    start = cell.initial_carry(B, H, jnp.float64)
    _, got = by("scan")(cell, params, start, z)
    zeros = np.zeros((B, H))
    expected, _ = oracle.slstm(params, x_TxBxD, zeros, zeros - np.inf, zeros)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_first_weights_are_those_of_the_papers():
    draw = cells.initializers("orthogonal", forget_bias=3.0)

    def first(name):
        return cells.get(name).init(KEY, D, 400, draw)

    decay = 1 / (1 + np.exp(-np.float64(first("rg_lru").decay_H)))
    assert (decay**8).min() == pytest.approx(0.9, abs=2e-3)
    assert (decay**8).max() == pytest.approx(0.999, abs=2e-3)
    biases = {
        "min_lstm": first("min_lstm").bias_GH[:400],
        "slstm": first("slstm").bias_GH[400:800],
        "peephole_lstm": first("peephole_lstm").bias_GH[400:800],
        "multiplicative_lstm": first("multiplicative_lstm").dense.bias_GH[400:800],
    }
    for bias in biases.values():
        np.testing.assert_array_equal(bias, 3)
    np.testing.assert_array_equal(first("min_gru").bias_GH, 0)


@pytest.mark.parametrize("strategy", ["auto", "linear"])
def test_a_wrapped_linear_cell_stays_linear_but_for_the_mogrifier(strategy):
    cell = layer_norm(cells.get("min_gru"))
    assert choose.describe(cell, Execution(unroll=strategy), "cpu").startswith("linear")
    with pytest.raises(charjax.ConfigError, match="must have a linear form"):
        choose.check(mogrifier(cell, 1), Execution(unroll="linear"))


def test_the_recurrent_weights_of_a_wrapped_cell_are_still_known():
    shapes = {}
    for name, cell in WRAPPED.items():
        params = cell.init(KEY, D, H, cells.initializers("uniform"))
        leaves = jax.tree.leaves(params)
        shapes[name] = sorted(
            leaves[i].shape for i in recurrent_weights(cell, params, D, H)
        )
    assert shapes["layer_norm_lstm"] == [(H, 4 * H)]
    matrices = [(D, H), (D, 4 * H), (H, D), (H, D), (H, 4 * H)]
    assert shapes["mogrifier_lstm"] == matrices


def test_a_cell_that_hides_its_output_has_no_mogrifier(monkeypatch):
    def step(params, carry, z, matmul):
        return (carry[0] + z,), carry[0]

    cell = cells.get("rnn")._replace(
        step=step, initial_carry=lambda b, h, dtype: (jnp.zeros((b, h), dtype),)
    )
    monkeypatch.setitem(cells.registry._CELLS, "hidden", cell)
    with pytest.raises(charjax.ConfigError, match="must be its output or have") as e:
        charjax.apply(make(cell="hidden", mogrifier=2), IDS_BxT)
    assert "\n" not in str(e.value)


def test_wrapping_twice_gives_the_same_cell():
    lstm = cells.get("lstm")
    assert layer_norm(lstm) is WRAPPED["layer_norm_lstm"]
    assert mogrifier(lstm, 0) is lstm
    assert mogrifier(lstm, 3) is WRAPPED["mogrifier_lstm"]


def test_a_users_cell_gets_every_wrapper(monkeypatch):
    def step(params, h_BxH, z_BxGH, matmul):  # as in the README
        gate, new = jnp.split(z_BxGH + matmul(h_BxH, params.recurrent_HxGH), 2, axis=-1)
        h_BxH = h_BxH + sigmoid(gate) * (jnp.tanh(new) - h_BxH)
        return h_BxH, h_BxH

    cell = Cell(dense_init(gates=2), zero_carry, dense_project, step)
    monkeypatch.setitem(cells.registry._CELLS, "my_cell", cell)
    found = [
        charjax.apply(make(cell="my_cell", **fields), IDS_BxT)[0]
        for fields in (
            {},
            {"layer_norm": True},
            {"mogrifier": 2},
            {"residual": True},
            {"skip": True},
            {"zoneout": 0.3},
        )
    ]
    assert all(np.isfinite(logits).all() for logits in found)
    assert len({float(logits.sum()) for logits in found}) == len(found)


@pytest.mark.parametrize(("residual", "skip"), [(True, False), (False, True), (1, 1)])
@pytest.mark.parametrize("embedding_size", [0, 5])
def test_layers_are_joined_as_the_papers_draw_them(residual, skip, embedding_size):
    fields = {"residual": bool(residual), "skip": bool(skip), "num_layers": 3}
    params = make(cell="gru", embedding_size=embedding_size, **fields)
    plain = jax.tree.map(np.asarray, params)
    x_TxBxD = np.eye(7)[IDS_BxT.T]
    if embedding_size:
        x_TxBxD = plain.embedding_VxE[IDS_BxT.T]
    zeros, all_layers = np.zeros((3, 6)), []
    stream = recurrence.gru(plain.layers[0], x_TxBxD, zeros)
    for layer in plain.layers[1:]:
        all_layers.append(stream)
        below = np.concatenate([stream, x_TxBxD], -1) if skip else stream
        h_TxBxH = recurrence.gru(layer, below, zeros)
        stream = stream + h_TxBxH if residual else h_TxBxH
    all_layers.append(stream)
    read = np.concatenate(all_layers, -1) if skip else stream
    expected = np.swapaxes(read @ plain.readout_HxV + plain.readout_bias_V, 0, 1)
    logits, _ = charjax.apply(params, IDS_BxT)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_skip_has_no_tied_readout():
    with pytest.raises(charjax.ConfigError, match="must be false with model"):
        ModelSpec(hidden_size=6, embedding_size=6, tied=True, skip=True)


KINDS = [
    {"cell": "min_gru", "layer_norm": True, "residual": True, "embedding_size": 4},
    {"cell": "slstm", "skip": True},
    {"cell": "multiplicative_lstm", "mogrifier": 2, "embedding_size": 6},
    {"cell": "lstm", "skip": True, "residual": True},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["cell"])
def test_a_model_is_drawn_from_scored_kept_and_read_as_its_forward_pass_says(
    kind, tmp_path
):
    params = make(**kind)
    path = checkpoint.save(
        tmp_path / "run", params, {}, step=1, epoch=0.1, loss=None, loss_of="val",
        config={}, progress={},
    )  # fmt: skip
    loaded = charjax.load(path)
    assert loaded.spec == params.spec
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    text = charjax.sample(loaded, "abc", length=30, greedy=True)
    logits, _ = charjax.apply(params, VOCAB.encode(text)[None])
    np.testing.assert_array_equal(
        np.argmax(logits[0, 2:-1], axis=-1), VOCAB.encode(text)[3:]
    )
    log_probs = np.asarray(jax.nn.log_softmax(logits[0]))
    expected = log_probs[np.arange(32), VOCAB.encode(text)[1:]]
    got = charjax.score(params, text).log_probs[1:]
    np.testing.assert_allclose(got, expected, atol=1e-4)
    stats = charjax.gather_statistics(params, VOCAB.encode(text * 10))
    assert np.isfinite(charjax.score(charjax.Dynamic(params, stats), text * 3).nats)
    low, _ = charjax.activations(params, text)
    assert sorted(low.gates) == sorted(low.gates) != []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["cell"])
def test_noise_and_bfloat16_reach_every_part(kind):
    params = make(zoneout=0.1, **kind)
    rate = 0.0 if kind["cell"] == "min_gru" else 0.2  # it has no recurrent weights
    rounded = Execution(precision="bfloat16")
    drawn = {"noise": Noise(dropout=0.2, weight_dropout=rate), "key": KEY}

    def loss(params, **how):
        return charjax.loss(params, IDS_BxT[:, :-1], IDS_BxT[:, 1:], **how)[0]

    plain, close = float(loss(params)), float(loss(params, execution=rounded))
    assert plain != close == pytest.approx(plain, rel=0.01)
    noisy, grads = jax.value_and_grad(loss)(params, execution=rounded, **drawn)
    assert float(noisy) != pytest.approx(plain, rel=0.01)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "fields",
    [
        {"model__cell": "min_gru", "model__num_layers": 2, "model__residual": True},
        {
            "model__cell": "slstm",
            "model__layer_norm": True,
            "model__mogrifier": 2,
            "model__skip": True,
        },
    ],
    ids=lambda fields: fields["model__cell"],
)
def test_a_run_learns_more_than_how_often_each_character_comes(fields, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "input.txt").write_text(TEXT)
    shape = {"model__hidden_size": 16, "model__dropout": 0.0}
    run = quiet(make_config(tmp_path, train__max_epochs=8, **shape, **fields))
    shares = np.unique(list(TEXT), return_counts=True)[1] / len(TEXT)
    assert run.best_loss < 0.7 * -np.sum(shares * np.log(shares))
    for name, value in fields.items():
        assert getattr(run.params.spec, name.removeprefix("model__")) == value
