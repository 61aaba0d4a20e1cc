"""The stacked model: against Flax and PyTorch, in parts, with noise, at first."""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import charjax
from charjax import Execution, ModelSpec, Noise, Vocab
from charjax.linen import RecurrentStack
from charjax.model.forward import forward, input_table, step
from charjax.model.loss import mean_nats
from charjax.model.noise import dropout
from tests.compilations import compilations

VOCAB = Vocab.of("abcdefg")
V = len(VOCAB)
IDS_BxT = jax.random.randint(jax.random.key(7), (3, 12), 0, V)


def make(key=0, **fields):
    spec = ModelSpec(**{"hidden_size": 6, "num_layers": 2} | fields)
    params = charjax.init(jax.random.key(key), spec, VOCAB)
    return jax.tree.map(
        lambda w: w + 0.3 * jnp.cos(jnp.arange(w.size)).reshape(w.shape), params
    )


def flax_cell_and_variables(name, layer):
    """The Flax cell of that name holding a charjax layer's weights."""
    h = layer.recurrent_HxGH.shape[0]

    def gate(w, k):
        return w[..., k * h : (k + 1) * h]

    def dense(k, kernel, bias=None):
        return {"kernel": gate(kernel, k)} | ({} if bias is None else {"bias": bias})

    w, u, b = layer.input_DxGH, layer.recurrent_HxGH, layer.bias_GH
    if name == "rnn":
        return nn.SimpleCell(h), {"i": dense(0, w, b), "h": dense(0, u)}
    if name == "lstm":
        inputs = {f"i{g}": dense(k, w) for k, g in enumerate("ifgo")}
        hidden = {f"h{g}": dense(k, u, gate(b, k)) for k, g in enumerate("ifgo")}
        return nn.OptimizedLSTMCell(h), inputs | hidden
    inputs = {f"i{g}": dense(k, w, gate(b, k)) for k, g in enumerate("rzn")}
    hidden = {f"h{g}": dense(k, u) for k, g in enumerate("rzn")}
    hidden["hn"]["bias"] = layer.reset_bias_H
    return nn.GRUCell(h), inputs | hidden


def flax_loss(params, ids_BxT):
    x = jax.nn.one_hot(ids_BxT[:, :-1], V)
    for layer in params.layers:
        cell, variables = flax_cell_and_variables(params.spec.cell, layer)
        x = nn.RNN(cell).apply({"params": {"cell": variables}}, x)
    logits = x @ params.readout_HxV + params.readout_bias_V
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, ids_BxT[:, 1:])
    return losses.mean(), logits


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_logits_and_gradients_equal_those_of_flax_cells(cell):
    params = make(cell=cell)

    def ours(params):
        logits, _ = charjax.apply(params, IDS_BxT[:, :-1])
        loss, _ = charjax.loss(params, IDS_BxT[:, :-1], IDS_BxT[:, 1:])
        return loss, logits

    (loss, logits), grads = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    flax = jax.jit(jax.value_and_grad(flax_loss, has_aux=True))
    (flax, flax_logits), flax_grads = flax(params, IDS_BxT)
    np.testing.assert_allclose(logits, flax_logits, atol=1e-5)
    np.testing.assert_allclose(loss, flax, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, flax_grads
    )


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_outputs_and_gradients_equal_those_of_torch(cell):
    torch = pytest.importorskip("torch")
    params = make(cell=cell)
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    peer = kind(V, 6, 2, batch_first=True)
    for i, layer in enumerate(params.layers):
        new = {"weight_ih": layer.input_DxGH.T, "weight_hh": layer.recurrent_HxGH.T}
        new |= {"bias_ih": layer.bias_GH, "bias_hh": jnp.zeros_like(layer.bias_GH)}
        if cell == "gru":
            new["bias_hh"] = new["bias_hh"].at[12:].set(layer.reset_bias_H)
        for name, value in new.items():
            weight = getattr(peer, f"{name}_l{i}")
            weight.data = torch.tensor(np.array(value))
    x = torch.nn.functional.one_hot(torch.tensor(np.array(IDS_BxT)).long(), V).float()
    h, _ = peer(x)
    kernel = torch.tensor(np.array(params.readout_HxV))
    logits = h @ kernel + torch.tensor(np.array(params.readout_bias_V))
    logits.square().mean().backward()

    def ours(params):
        logits, _ = charjax.apply(params, IDS_BxT)
        return jnp.mean(logits**2), logits

    grads, our_logits = jax.jit(jax.grad(ours, has_aux=True))(params)
    np.testing.assert_allclose(our_logits, logits.detach().numpy(), atol=1e-5)
    for i, layer in enumerate(grads.layers):
        for name, ours in (
            ("weight_ih", layer.input_DxGH.T),
            ("weight_hh", layer.recurrent_HxGH.T),
            ("bias_ih", layer.bias_GH),
        ):
            theirs = getattr(peer, f"{name}_l{i}").grad.numpy()
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("cell", charjax.cells.names())
@pytest.mark.parametrize("embedding_size", [0, 5])
def test_a_sequence_split_in_two_equals_the_whole(cell, embedding_size):
    params = make(cell=cell, embedding_size=embedding_size)
    whole, carry = charjax.apply(params, IDS_BxT)
    first, between = charjax.apply(params, IDS_BxT[:, :5])
    second, last = charjax.apply(params, IDS_BxT[:, 5:], between)
    joined = jnp.concatenate([first, second], axis=1)
    np.testing.assert_allclose(joined, whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), last, carry)


@pytest.mark.parametrize("cell", charjax.cells.names())
def test_a_single_step_equals_the_training_graph(cell):
    params = make(cell=cell, embedding_size=6, tied=True)
    logits, _ = charjax.apply(params, IDS_BxT)
    carry = charjax.initial_carry(params, 3)
    jitted, table = jax.jit(step), input_table(params)
    for t in range(IDS_BxT.shape[1]):
        step_logits, carry = jitted(params, IDS_BxT[:, t], carry, table)
        np.testing.assert_allclose(step_logits, logits[:, t], atol=1e-5)


def test_no_output_depends_on_a_later_character():
    params = make(embedding_size=4)
    changed = IDS_BxT.at[:, 7].set((IDS_BxT[:, 7] + 1) % V)
    before, _ = charjax.apply(params, IDS_BxT)
    after, _ = charjax.apply(params, changed)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert jnp.all(jnp.any(before[:, 7:] != after[:, 7:], axis=-1))


def test_the_loss_is_the_mean_negative_log_probability():
    params = make()
    x, y = IDS_BxT[:, :-1], IDS_BxT[:, 1:]
    loss, _ = charjax.loss(params, x, y)
    logits, _ = charjax.apply(params, x)
    log_probs = np.log(np.asarray(jax.nn.softmax(logits)))
    picked = [log_probs[b, t, y[b, t]] for b in range(3) for t in range(11)]
    assert float(loss) == pytest.approx(-np.mean(picked), rel=1e-5)


def test_default_models_have_the_parameters_that_char_rnn_had():
    vocab = Vocab.of(bytes(range(65)))
    params = charjax.init(jax.random.key(0), ModelSpec(), vocab)
    # 240,321 in char-rnn, which gives each gate of each layer a second bias.
    assert sum(charjax.num_parameters(params).values()) == 240_321 - 2 * 4 * 128


def test_each_step_dropout_differs_in_time_and_locked_dropout_does_not():
    ones = jnp.ones((20, 4, 50))
    fresh = dropout(ones, jax.random.key(0), 0.25, "each_step")
    locked = dropout(ones, jax.random.key(0), 0.25, "locked")
    assert jnp.all(locked == locked[0])
    assert not jnp.all(fresh == fresh[0])
    for dropped in (fresh, locked):
        np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
    assert float(fresh.mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("noise", [
    Noise(dropout=0.5),
    Noise(dropout=0.5, dropout_mode="locked"),
    Noise(embedding_dropout=0.5),
    Noise(character_dropout=0.5),
    Noise(weight_dropout=0.5),
])  # fmt: skip
def test_noise_is_drawn_from_its_key(noise):
    params = make(embedding_size=4)
    plain, _ = charjax.apply(params, IDS_BxT)

    def noisy(seed):
        key = jax.random.key(seed)
        return charjax.apply(params, IDS_BxT, noise=noise, key=key)[0]

    np.testing.assert_array_equal(noisy(1), noisy(1))
    assert jnp.any(noisy(1) != plain)
    assert jnp.any(noisy(1) != noisy(2))


@pytest.mark.parametrize("noise", [None, Noise()])
def test_a_key_alone_changes_nothing(noise):
    params, key = make(embedding_size=4), jax.random.key(1)
    plain, _ = charjax.apply(params, IDS_BxT)
    got, _ = charjax.apply(params, IDS_BxT, noise=noise, key=key)
    np.testing.assert_allclose(got, plain, atol=1e-6)


def test_first_recurrent_weights_are_orthogonal_in_each_gate():
    params = charjax.init(jax.random.key(0), ModelSpec(hidden_size=16), VOCAB)
    for layer in params.layers:
        for gate in jnp.split(layer.recurrent_HxGH, 4, axis=1):
            np.testing.assert_allclose(gate @ gate.T, np.eye(16), atol=1e-5)
        bias = np.asarray(layer.bias_GH).reshape(4, 16)
        np.testing.assert_array_equal(bias, [[0] * 16, [1] * 16, [0] * 16, [0] * 16])


def test_uniform_first_weights_fill_char_rnns_range():
    spec = ModelSpec(hidden_size=32)
    params = charjax.init(jax.random.key(0), spec, VOCAB, scheme="uniform")
    weights = np.concatenate([np.ravel(w) for w in jax.tree.leaves(params)])
    forget = weights == 1
    assert forget.sum() == 2 * 32
    rest = weights[~forget]
    assert -0.08 <= rest.min() < -0.079
    assert 0.079 < rest.max() <= 0.08


@pytest.mark.parametrize(("fields", "message"), [
    ({"cell": "lstmm"}, "model.cell must be one of .*got 'lstmm'.*Did you mean 'lstm'"),
    ({"hidden_size": 0}, "model.hidden_size must be at least 1; got 0"),
    ({"num_layers": 0}, "model.num_layers must be at least 1; got 0"),
    ({"zoneout": 1}, r"model.zoneout must be in \[0, 1\); got 1. Try 0.1"),
    ({"zoneout": "a"}, "model.zoneout must be in .*; got 'a'"),
    ({"tied": True}, "must equal model.hidden_size; got 0 and 128"),
])  # fmt: skip
def test_a_spec_that_makes_no_sense_is_refused_in_one_line(fields, message):
    with pytest.raises(charjax.ConfigError, match=message) as error:
        ModelSpec(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("make_it", "message"), [
    (lambda: Noise(dropout=1.0), r"model.dropout must be in \[0, 1\); got 1.0"),
    (lambda: Noise(dropout=float("nan")), r"model.dropout must be in"),
    (lambda: Noise(dropout="x"), r"model.dropout must be in \[0, 1\); got 'x'"),
    (lambda: Noise(embedding_dropout=None), r"embedding_dropout must be in .*got None"),
    (lambda: Noise(weight_dropout=1), r"weight_dropout must be in .* got 1. Try 0.5"),
    (lambda: Noise(character_dropout=-1), "character_dropout must be in .*; got -1"),
    (lambda: Noise(dropout_mode="lock"), "dropout_mode must be one of .* got 'lock'"),
    (lambda: Execution(precision="float16"), "precision must be one of .*'float16'"),
    (lambda: Execution(unroll="fast"), "must be one of auto, scan, linear, native"),
    (lambda: Execution(segment_length=-1), "must be an integer of 0 or more; got -1"),
    (lambda: Execution(segment_length="x"), "must be an integer of 0 or more; got 'x'"),
    (lambda: Execution(segment_length=2.5), "must be an integer of 0 or more; got 2.5"),
])  # fmt: skip
def test_noise_and_execution_that_make_no_sense_are_refused(make_it, message):
    with pytest.raises(charjax.ConfigError, match=message) as error:
        make_it()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("options", "message"), [
    ({"noise": Noise(dropout=0.5)}, "noise must come with a key"),
    ({"noise": Noise(embedding_dropout=0.1), "key": jax.random.key(0)},
     "embedding_dropout must be 0 without an embedding; got 0.1"),
    ({"noise": Noise(character_dropout=0.1), "key": jax.random.key(0)},
     "character_dropout must be 0 without an embedding; got 0.1. Try"),
    ({"noise": 0.5}, "noise must be of type Noise; got 0.5. Try noise=charjax.Noise"),
    ({"noise": {}, "key": jax.random.key(0)}, "noise must be of type Noise; got {}"),
    ({"execution": "scan"}, "execution must be of type Execution; got 'scan'. Try"),
    ({"execution": []}, r"execution must be of type Execution; got \[\]"),
])  # fmt: skip
def test_noise_or_execution_that_does_not_go_with_the_call_is_refused(options, message):
    with pytest.raises(charjax.ConfigError, match=message):
        charjax.apply(make(), IDS_BxT, **options)
    with pytest.raises(charjax.ConfigError, match=message):
        charjax.loss(make(), IDS_BxT, IDS_BxT, **options)


@pytest.mark.parametrize("mode", ["each_step", "locked"])
def test_the_gradient_by_segments_is_that_of_the_whole(mode):
    params = make(embedding_size=4)
    noise = Noise(dropout=0.5, dropout_mode=mode) if mode == "locked" else None

    def loss(params, length):
        execution = Execution(segment_length=length)
        x, y, key = IDS_BxT[:, :-4], IDS_BxT[:, 1:-3], jax.random.key(3)
        nats, _ = charjax.loss(params, x, y, noise=noise, key=key, execution=execution)
        return nats

    whole, parts = (jax.value_and_grad(loss)(params, length) for length in (0, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, parts)
    with pytest.raises(charjax.ConfigError, match=r"must divide .* 8; got 3"):
        loss(params, 3)


def test_the_outputs_of_the_layers_are_those_the_next_one_reads():
    params = make()
    out = forward(params, IDS_BxT.T)
    assert [h.shape for h in out.layers] == [(12, 3, 6)] * 2
    np.testing.assert_array_equal(out.layers[-1][-1], out.carry[-1].h_BxH)
    logits = out.layers[-1] @ params.readout_HxV + params.readout_bias_V
    np.testing.assert_allclose(logits, out.logits_TxBxV, atol=1e-6)


class ModulatedParams(NamedTuple):
    w: jax.Array


def modulated_cell():
    """A cell that gates and concatenates its input, and multiplies by no weight."""

    def project(params, x, matmul):
        doubled = jnp.concatenate([x * jnp.cos(x), 1 - x], axis=-1)
        return matmul(doubled, params.w) + x.sum(axis=-1, keepdims=True)

    def step(params, h, z, matmul):
        h = jnp.tanh(z + h)
        return h, h

    return charjax.cells.Cell(
        lambda key, d, h, draw: ModulatedParams(jax.random.normal(key, (2 * d, h))),
        lambda b, h, dtype: jnp.zeros((b, h), dtype),
        project,
        step,
    )


def test_a_cell_may_do_anything_with_one_hot_characters(monkeypatch):
    cell = modulated_cell()
    monkeypatch.setitem(charjax.cells.registry._CELLS, "modulated", cell)
    params = make(cell="modulated", num_layers=1)
    logits, _ = charjax.apply(params, IDS_BxT)
    h, w = np.zeros((3, 6)), np.asarray(params.layers[0].w)
    for t in range(IDS_BxT.shape[1]):
        x = np.eye(V)[np.asarray(IDS_BxT[:, t])]
        z = np.concatenate([x * np.cos(x), 1 - x], axis=-1) @ w + 1
        h = np.tanh(z + h)
        expected = h @ params.readout_HxV + params.readout_bias_V
        np.testing.assert_allclose(logits[:, t], expected, atol=1e-5)


def test_the_input_table_of_one_hot_characters_needs_no_product():
    params = make()
    jaxpr = jax.make_jaxpr(input_table)(params)
    assert "dot_general" not in str(jaxpr)


@pytest.mark.parametrize("cell", charjax.cells.names())
@pytest.mark.parametrize("embedding_size", [0, 5])
def test_a_table_and_vectors_give_the_same_logits_and_gradients(
    cell, embedding_size, monkeypatch
):
    params = make(cell=cell, embedding_size=embedding_size)

    def loss(params, table):
        out = forward(
            params, IDS_BxT.T, table_VxGH=input_table(params) if table else None
        )
        return jnp.mean(out.logits_TxBxV**2)

    by_table = jax.grad(loss)(params, True)
    module = sys.modules["charjax.model.forward"]
    monkeypatch.setattr(module, "_reads_vectors", lambda *args: embedding_size > 0)
    by_vectors = jax.grad(loss)(params, False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), by_table, by_vectors
    )


@pytest.mark.parametrize("cell", charjax.cells.names())
def test_no_rank_is_promoted(cell):
    params = make(cell=cell, embedding_size=5)
    with jax.numpy_rank_promotion("raise"):
        jax.value_and_grad(lambda p: charjax.loss(p, IDS_BxT, IDS_BxT)[0])(params)
        charjax.sample(params, length=2, top_k=3, top_p=0.9)


def test_calling_a_model_outside_a_jit_compiles_once():
    params = make(cell="gru", hidden_size=7)
    charjax.apply(params, IDS_BxT)
    with compilations() as compiled:
        charjax.apply(jax.tree.map(lambda w: w * 2, params), IDS_BxT + 0)
    assert [name for name in compiled if "apply" in name] == []


def test_a_carry_of_another_depth_is_refused():
    params, deeper = make(), make(num_layers=3)
    with pytest.raises(
        charjax.ConfigError, match="must have 2 layers, as the model; got 3"
    ):
        charjax.apply(params, IDS_BxT, charjax.initial_carry(deeper, 3))


def test_the_linen_stack_equals_the_models_own_layers():
    params = make(cell="gru")
    x_BxTxD = jax.nn.one_hot(IDS_BxT, V)
    stack = RecurrentStack(params.spec)
    h_BxTxH, carry = stack.apply({"params": {"layers": params.layers}}, x_BxTxD)
    logits = h_BxTxH @ params.readout_HxV + params.readout_bias_V
    expected, last = charjax.apply(params, IDS_BxT)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carry, last)


def test_the_linen_stack_initialises_and_drops_units_only_in_training():
    stack = RecurrentStack(ModelSpec(hidden_size=6), noise=Noise(dropout=0.5))
    x_BxTxD = jnp.ones((2, 5, 3))
    variables = stack.init(jax.random.key(0), x_BxTxD)
    plain, _ = stack.apply(variables, x_BxTxD)
    rngs = {"dropout": jax.random.key(1)}
    dropped, _ = stack.apply(variables, x_BxTxD, train=True, rngs=rngs)
    assert jnp.all(plain != 0)
    assert jnp.any(dropped == 0)


def test_mean_nats_of_large_logits_stays_finite():
    logits_TxBxV = jnp.full((2, 2, V), 1e4).at[..., 0].set(2e4)
    assert float(mean_nats(logits_TxBxV, jnp.zeros((2, 2), jnp.int32))) == 0


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_linen_stack_takes_an_input_in_bfloat16(cell):
    stack = RecurrentStack(ModelSpec(cell=cell, hidden_size=6))
    x_BxTxD = jax.random.normal(jax.random.key(1), (2, 5, 3))
    (h_BxTxH, _), variables = stack.init_with_output(jax.random.key(0), x_BxTxD)
    rounded, carry = stack.apply(variables, x_BxTxD.astype(jnp.bfloat16))
    np.testing.assert_allclose(rounded, h_BxTxH, atol=2e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_in_bfloat16_give_nearly_the_same_logits(cell):
    params = charjax.init(jax.random.key(0), ModelSpec(cell=cell), VOCAB)
    rounded = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
    ids_BxT = VOCAB.encode("abcab")[None]
    expected, _ = charjax.apply(params, ids_BxT)
    got, _ = charjax.apply(rounded, ids_BxT)
    np.testing.assert_allclose(got, expected, atol=2e-2)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_in_bfloat16_can_be_trained_and_drawn_from(cell):
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), make(cell=cell))
    grads = jax.grad(lambda p: charjax.loss(p, IDS_BxT, IDS_BxT)[0])(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("bfloat16")}
    assert len(charjax.sample(params, "abc", length=5)) == 8
    assert len(charjax.sample(params, "", length=5, top_k=3)) == 5
    assert charjax.score(params, "abc").nats > 0


@pytest.mark.parametrize("cell", charjax.cells.names())
def test_a_model_runs_under_shard_map_without_its_check(cell):
    params = make(cell=cell)
    mesh = jax.make_mesh((1,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))

    def loss(params, ids_BxT):
        return charjax.loss(params, ids_BxT[:, :-1], ids_BxT[:, 1:])[0]

    lanes, whole = jax.P("lanes"), jax.P()
    sharded = jax.shard_map(
        jax.grad(loss), mesh=mesh, in_specs=(whole, lanes), out_specs=whole,
        check_vma=False,
    )  # fmt: skip
    got, expected = jax.jit(sharded)(params, IDS_BxT), jax.grad(loss)(params, IDS_BxT)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, expected
    )
