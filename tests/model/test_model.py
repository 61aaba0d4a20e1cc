"""The stacked model: against Flax and PyTorch, in parts, with dropout, at first."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import charjax
from charjax import ModelSpec, Vocab
from charjax.linen import RecurrentStack
from charjax.model import _dropout, mean_nats, step

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
    jitted = jax.jit(step)
    for t in range(IDS_BxT.shape[1]):
        step_logits, carry = jitted(params, IDS_BxT[:, t], carry)
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
    fresh = _dropout(ones, jax.random.key(0), 0.25, "each_step")
    locked = _dropout(ones, jax.random.key(0), 0.25, "locked")
    assert jnp.all(locked == locked[0])
    assert not jnp.all(fresh == fresh[0])
    for dropped in (fresh, locked):
        np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
    assert float(fresh.mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("fields", [
    {"dropout": 0.5},
    {"dropout": 0.5, "dropout_mode": "locked"},
    {"embedding_size": 4, "embedding_dropout": 0.5},
])  # fmt: skip
def test_dropout_acts_with_a_key_and_never_without(fields):
    params = make(**fields)
    plain, _ = charjax.apply(params, IDS_BxT)
    silent = params.replace(
        spec=ModelSpec(hidden_size=6, embedding_size=fields.get("embedding_size", 0))
    )
    np.testing.assert_array_equal(plain, charjax.apply(silent, IDS_BxT)[0])
    one, _ = charjax.apply(params, IDS_BxT, key=jax.random.key(1))
    same, _ = charjax.apply(params, IDS_BxT, key=jax.random.key(1))
    other, _ = charjax.apply(params, IDS_BxT, key=jax.random.key(2))
    np.testing.assert_array_equal(one, same)
    assert jnp.any(one != plain)
    assert jnp.any(one != other)


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
    ({"cell": "lstmm"}, "unknown cell 'lstmm'.*Did you mean 'lstm'"),
    ({"hidden_size": 0}, "model.hidden_size must be at least 1, not 0"),
    ({"num_layers": 0}, "model.num_layers must be at least 1, not 0"),
    ({"dropout": 1.0}, r"model.dropout is a share in \[0, 1\), not 1.0"),
    ({"dropout": float("nan")}, r"model.dropout is a share"),
    ({"dropout_mode": "lock"}, "model.dropout_mode is one of .* not 'lock'"),
    ({"dtype": "float16"}, "model.dtype is one of"),
    ({"tied": True}, "embedding_size .0. must equal hidden_size .128."),
    ({"embedding_dropout": 0.1}, "needs an embedding"),
])  # fmt: skip
def test_a_spec_that_makes_no_sense_is_refused_in_one_line(fields, message):
    with pytest.raises(charjax.ConfigError, match=message) as error:
        ModelSpec(**fields)
    assert "\n" not in str(error.value)


def test_a_carry_of_another_depth_is_refused():
    params, deeper = make(), make(num_layers=3)
    with pytest.raises(charjax.ConfigError, match="carry holds 3 layers"):
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
    stack = RecurrentStack(ModelSpec(hidden_size=6, dropout=0.5))
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
