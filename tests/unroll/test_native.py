"""The compiled kernels: the numbers of JAX's loops, and their absence."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import Execution, Vocab, cells
from charjax.cells.base import DenseParams
from charjax.cells.lstm import LSTMCarry
from charjax.errors import ConfigError
from charjax.model.params import initial_carry
from charjax.model.spec import cell_of
from charjax.predict import draw
from charjax.predict.predictor import ModelPredictor
from charjax.predict.rules import Past, Rules
from charjax.predict.scoring import read_text
from charjax.unroll import choose, native
from charjax.unroll.choose import unroll
from charjax.unroll.kernels import draw_kernel, unroll_kernel
from charjax.unroll.precision import matmul_in
from charjax.unroll.scan import scan
from tests import models

needs_compiler = pytest.mark.skipif(
    bool(native.problem()), reason=f"no compiled library: {native.problem()}"
)
PRECISIONS = [
    "float32",
    pytest.param(
        "bfloat16",
        marks=pytest.mark.skipif(
            bool(native.problem("bfloat16")), reason="no products in bfloat16"
        ),
    ),
]
CELLS = ("lstm", "gru", "rnn")
LSTM = cells.get("lstm")


class Given(NamedTuple):
    """What a layer reads, and the cotangents of all that it returns."""

    params: Any
    carry: Any
    z_TxBxGH: Any
    dcarry: Any
    dh_TxBxH: Any


def given(cell, T, B, H, dtype=jnp.float32):
    """Arrays large enough to saturate some of the gates."""
    params = cells.get(cell).init(
        jax.random.key(0), 1, H, cells.initializers("uniform")
    )
    carry = cells.get(cell).initial_carry(B, H, jnp.float32)
    gates = params.recurrent_HxGH.shape[1]
    shapes = Given(params, carry, jnp.zeros((T, B, gates)), carry, jnp.zeros((T, B, H)))
    random = np.random.default_rng(T * B * H)
    arrays = jax.tree.map(
        lambda x: np.float32(random.normal(size=x.shape) * 1.5), shapes
    )
    u_HxGH = arrays.params.recurrent_HxGH / np.float32(np.sqrt(H))
    params = arrays.params._replace(recurrent_HxGH=u_HxGH)
    arrays = arrays._replace(params=params)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), arrays)


def results(run, given):
    """Outputs and gradients, with a cotangent on every output and on the last state."""
    values, vjp = jax.vjp(run, given.params, given.carry, given.z_TxBxGH)
    dparams, *others = vjp((given.dcarry, given.dh_TxBxH))
    dparams = dparams[1:2] + dparams[3:]  # those that take part in the recurrence
    return jax.tree.leaves((values, dparams, others))


def by_scan(cell, precision="float32"):
    def run(params, carry, z_TxBxGH):
        execution = Execution(precision=precision)
        return scan(cells.get(cell), params, carry, z_TxBxGH, execution)

    return run


def by_kernel(cell, precision="float32"):
    kernel = unroll_kernel(cells.get(cell), "cpu", precision)

    def run(params, carry, z_TxBxGH):
        assert kernel.fits(params, carry, z_TxBxGH)
        return kernel.unroll(params, carry, z_TxBxGH)

    return run


# One text and one step; fewer units than a vector; blocks of rows and of units that do
# not come out even; whole vectors.
SHAPES = [(1, 1, 1), (3, 2, 5), (7, 27, 37), (4, 50, 64), (5, 1, 37), (6, 1, 64)]


@needs_compiler
@pytest.mark.parametrize(("T", "B", "H"), SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_values_and_gradients_equal_the_scan_in_double_precision(cell, T, B, H):
    got = jax.jit(lambda x: results(by_kernel(cell), x))(given(cell, T, B, H))
    with jax.enable_x64(True):
        double = given(cell, T, B, H, jnp.float64)
        expected = jax.jit(lambda x: results(by_scan(cell), x))(double)
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=3e-5, atol=3e-5 * np.abs(y).max())


@needs_compiler
@pytest.mark.parametrize(("T", "B", "H"), SHAPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_products_in_bfloat16_are_rounded_as_by_the_scan(cell, T, B, H, precision):
    """A number near the middle of two is rounded to either, so a few are further off.

    The precision of bfloat16 itself is 4e-3.
    """
    arrays = given(cell, T, B, H)
    got = jax.jit(lambda x: results(by_kernel(cell, precision), x))(arrays)
    expected = jax.jit(lambda x: results(by_scan(cell, precision), x))(arrays)
    exact = jax.jit(lambda x: results(by_scan(cell), x))(arrays)
    for x, y, z in zip(got, expected, exact, strict=True):
        largest = np.abs(y).max()
        np.testing.assert_allclose(x, y, rtol=0, atol=4e-3 * largest)
        assert np.abs(x - y).mean() < 1e-4 * largest
        assert np.abs(x - y).mean() <= 0.2 * np.abs(x - z).mean()


@needs_compiler
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_texts_give_no_outputs(precision):
    arrays = given("lstm", 5, 0, 16)
    kernel = unroll_kernel(LSTM, "cpu", precision)
    _, h_TxBxH = kernel.unroll(arrays.params, arrays.carry, arrays.z_TxBxGH)
    assert h_TxBxH.shape == (5, 0, 16)


@needs_compiler
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_text_has_the_same_bits_among_any_number_of_others(cell, precision):
    """So also for any number of cores, each of which takes a share of the texts."""
    run = jax.jit(lambda x: results(by_kernel(cell, precision), x))
    all_texts = given(cell, 4, 40, 20)

    def first_two(B):
        batch = jax.tree.map(lambda x: x[..., :B, :], all_texts._replace(params=None))
        got = run(batch._replace(params=all_texts.params))
        return [x[..., :2, :] for x in got if x.ndim == 3 or len(x) == B]

    alone = first_two(2)
    assert len(alone) > 3
    for B in (3, 5, 7, 13, 40):
        for x, y in zip(first_two(B), alone, strict=True):
            np.testing.assert_array_equal(x, y)


# Each is what the scan takes by broadcasting, or refuses.
@needs_compiler
@pytest.mark.parametrize(
    ("c", "h", "z"),
    [
        ((8, 6), (8, 6), (3, 1, 24)),
        ((1, 6), (1, 6), (3, 8, 24)),
        ((8, 5), (8, 5), (3, 8, 24)),
        ((6,), (6,), (3, 24)),
        ((8, 6), (1, 6), (3, 8, 24)),
    ],
)
def test_arrays_that_do_not_go_together_get_what_the_scan_does(c, h, z):
    random = np.random.default_rng(3)
    shapes = (6, 24), c, h, z
    u_HxGH, *arrays = [jnp.float32(random.normal(size=x)) for x in shapes]

    def outcome(kernel):
        params = DenseParams(jnp.zeros((1, 24)), u_HxGH, jnp.zeros(24))
        carry, z_TxBxGH = LSTMCarry(*arrays[:2]), arrays[2]
        try:
            execution = Execution(unroll=kernel)
            return unroll(LSTM, params, carry, z_TxBxGH, execution)
        except (TypeError, ValueError) as error:
            return [np.array(type(error).__name__)]

    got, expected = (jax.tree.leaves(outcome(k)) for k in ("auto", "scan"))
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_array_equal(x, y)


@needs_compiler
def test_the_compiled_functions_refuse_arrays_that_do_not_go_together():
    z_TxBxGH, u_HxGH = jnp.zeros((2, 3, 16)), jnp.zeros((4, 16))
    params = DenseParams(jnp.zeros((1, 16)), u_HxGH, jnp.zeros(16))
    carry = LSTMCarry(jnp.zeros((1, 4)), jnp.zeros((3, 4)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="do not go together"):
        unroll_kernel(LSTM, "cpu", "float32").unroll(params, carry, z_TxBxGH)


class OwnParams(NamedTuple):
    """The weights of a dense cell, as another pytree."""

    input_DxGH: jax.Array
    recurrent_HxGH: jax.Array
    bias_GH: jax.Array
    scale: jax.Array


def test_another_cell_with_the_lstms_step_is_not_taken_for_it():
    def project(params, x, matmul):
        return 2 * LSTM.project(params, x, matmul)

    for find in (unroll_kernel, draw_kernel):
        assert find(LSTM._replace(init=project), "cpu", "float32") is not None
        assert find(LSTM._replace(project=project), "cpu", "float32") is None
        assert find(LSTM, "cuda", "float32") is None


@needs_compiler
def test_weights_in_another_pytree_are_left_to_the_scan():
    arrays = given("lstm", 3, 2, 8)
    params = OwnParams(*arrays.params, jnp.ones(()))
    carry, z_TxBxGH = arrays.carry, arrays.z_TxBxGH

    def total(params, kernel):
        execution = Execution(unroll=kernel)
        _, h_TxBxH = unroll(LSTM, params, carry, z_TxBxGH, execution)
        return jnp.sum(h_TxBxH**2)

    got, expected = (jax.grad(total)(params, k) for k in ("auto", "scan"))
    np.testing.assert_array_equal(got.recurrent_HxGH, expected.recurrent_HxGH)
    assert np.abs(got.recurrent_HxGH).max() > 0


@needs_compiler
@pytest.mark.parametrize("cell", CELLS)
def test_inputs_stay_what_they_were(cell):
    arrays = given(cell, 3, 2, 8)
    before = jax.tree.map(np.array, arrays)
    results(by_kernel(cell), arrays)
    jax.tree.map(np.testing.assert_array_equal, arrays, before)


@needs_compiler
def test_a_batch_of_models_gives_what_each_gives_alone():
    arrays = given("gru", 3, 2, 8)
    stacked = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), arrays)
    together = jax.vmap(lambda x: results(by_kernel("gru"), x))(stacked)
    for i in range(2):
        alone = results(by_kernel("gru"), jax.tree.map(lambda x, i=i: x[i], stacked))
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize(("T", "D", "N"), [(130, 1, 1), (129, 37, 65), (260, 1100, 50)])
def test_large_products_in_bfloat16_and_gradients_are_those_of_rounded_factors(
    T, D, N, precision
):
    random = np.random.default_rng(N)
    shapes = (2, T, D), (D, N), (2, T, N)
    x, w, dy = (jnp.float32(random.normal(size=shape)) for shape in shapes)
    y, vjp = jax.vjp(matmul_in(precision), x, w)
    assert "charjax_product" in str(jax.make_jaxpr(matmul_in(precision))(x, w))
    x, w, dy_rounded = (np.float64(a.astype(jnp.bfloat16)) for a in (x, w, dy))
    expected = x @ w, dy_rounded @ w.T, np.einsum("btd,btn->dn", x, dy_rounded)
    for got, exact in zip((y, *vjp(dy)), expected, strict=True):
        np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


# A last vector of one unit; more texts than a block has rows; an odd vocabulary.
@needs_compiler
@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"num_layers": 1, "hidden_size": 17}, 1),
        ({"num_layers": 3, "hidden_size": 5}, 23),
        ({"num_layers": 2, "hidden_size": 32, "embedding_size": 32, "tied": True}, 16),
        ({"num_layers": 2, "hidden_size": 6, "embedding_size": 3}, 2),
        ({"cell": "gru", "num_layers": 3, "hidden_size": 21}, 3),
        ({"cell": "rnn", "num_layers": 2, "hidden_size": 50}, 19),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_drawing_equals_the_loop_in_its_characters_logits_and_state(
    fields, texts, precision
):
    # Smaller weights, since large ones make differences in rounding grow at each step.
    params = jax.tree.map(lambda w: w / 3, models.make(**fields))
    execution = Execution(precision=precision)
    predictor = ModelPredictor(params, execution)
    state, _ = read_text(predictor, params.vocab.encode("badge"))
    state = draw._copies(state, num_texts=texts)
    loop = draw.Loop(state, Past(None, None))
    positions = np.arange(9)
    noise = draw._noise(jax.random.key(7), positions, (0, texts), state.logits_BxV)[0]
    kernel = draw_kernel(cell_of(params.spec), "cpu", precision)
    weights = draw._pack(params, kernel=kernel, execution=execution)
    drawn = {"count": 6, "rules": Rules(0.7)}
    got, got_ids = draw._draw_compiled(weights, loop, noise, kernel=kernel, **drawn)
    expected, expected_ids = draw._draw_piece(
        params, loop, noise, execution=execution, **drawn
    )
    np.testing.assert_array_equal(got_ids[:6], expected_ids[:6])
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        near = 1e-4 if precision == "float32" else 1e-2
        np.testing.assert_allclose(x, y, rtol=0, atol=near * max(1, np.abs(y).max()))


def expected_ids(logits_BxV, noise_BxV, temperature, top_k, top_p, min_p):
    """What is drawn by each rule in turn, written out with a sorted list a text."""
    ids = []
    for logits_V, noise_V in zip(logits_BxV, noise_BxV, strict=True):
        falling = sorted(range(len(logits_V)), key=lambda s: -logits_V[s])[:top_k]
        weights = np.exp((logits_V[falling] - logits_V[falling[0]]) / temperature)
        before = np.cumsum(weights) - weights
        kept = (before < top_p * weights.sum()) & (weights >= min_p)
        falling = np.array(falling)[kept]
        scores = logits_V[falling] + temperature * noise_V[falling]
        ids.append(falling[np.argmax(scores)])
    return ids


@needs_compiler
@pytest.mark.parametrize(
    "rules",
    [(65, 1, 0), (3, 1, 0), (65, 0.6, 0), (65, 1, 0.2), (9, 0.9, 0.05), (1, 1, 0)],
)
def test_drawing_leaves_out_what_top_k_top_p_and_min_p_cut(rules):
    """At a temperature at which most of what noise alone would draw is cut."""
    random = np.random.default_rng(0)
    params = models.make(
        vocab=Vocab.of("".join(map(chr, range(65, 130)))), num_layers=1
    )
    logits_BxV = np.float32(random.normal(size=(200, 65)) * 2)
    noise_1xBxV = np.float32(random.gumbel(size=(1, 200, 65)))
    kernel = draw_kernel(LSTM, "cpu", "float32")
    weights = draw._pack(params, kernel=kernel, execution=Execution())
    carry = initial_carry(params, 200)
    _, _, ids_1xB = kernel.draw(
        weights, carry, jnp.array(logits_BxV), jnp.array(noise_1xBxV), 1, 1.5, rules
    )
    expected = expected_ids(np.float64(logits_BxV), noise_1xBxV[0], 1.5, *rules)
    np.testing.assert_array_equal(ids_1xB[0], expected)
    plain = np.argmax(logits_BxV + 1.5 * noise_1xBxV[0], axis=1)
    assert np.array_equal(plain, expected) == (rules == (65, 1, 0))


@needs_compiler
@pytest.mark.parametrize(
    "cut",
    [{"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.8}, {"top_k": 5, "top_p": 0.9}],
)
def test_a_cut_text_is_the_same_from_the_kernel_and_from_the_loop(cut):
    params = models.make(hidden_size=9)

    def sample(unroll, **fields):
        execution = Execution(unroll=unroll)
        return charjax.sample(
            params, "bad", length=300, temperature=3.0, execution=execution, **fields
        )

    assert sample("native", **cut) == sample("scan", **cut) != sample("native")


@needs_compiler
def test_a_few_texts_of_a_large_model_are_drawn_by_jax_unless_requested():
    params = models.make(hidden_size=250)

    def find(unroll, texts):
        return draw._find_kernel(params, Execution(unroll=unroll), texts)

    assert find("auto", 7) is None
    assert find("scan", 8) is None
    kernel = draw_kernel(LSTM, "cpu", "float32")
    assert find("auto", 8) is find("native", 1) is kernel
    # In bfloat16 it is half as large.
    rounded = draw._find_kernel(params, Execution(precision="bfloat16"), 1)
    has_bfloat16 = native.problem("bfloat16") is None
    assert rounded is (draw_kernel(LSTM, "cpu", "bfloat16") if has_bfloat16 else None)


def test_after_no_step_the_state_is_the_one_before():
    arrays = given("lstm", 1, 2, 8)
    z = arrays.z_TxBxGH[:0]
    last, h_TxBxH = unroll(LSTM, arrays.params, arrays.carry, z, Execution())
    assert h_TxBxH.shape == (0, 2, 8)
    np.testing.assert_array_equal(last.c_BxH, arrays.carry.c_BxH)


def test_without_the_instruction_bfloat16_is_left_to_jax(monkeypatch):
    monkeypatch.setattr(native, "_open", lambda: (None, False))
    rounded = Execution(precision="bfloat16")
    reason = "scan (this CPU has no instruction for products in bfloat16)"
    assert choose.describe(LSTM, rounded, "cpu") == reason
    assert choose.describe(LSTM, Execution(), "cpu") == "native"
    traced = jax.make_jaxpr(matmul_in("bfloat16"))(jnp.ones((200, 4)), jnp.ones((4, 4)))
    assert "charjax_product" not in str(traced)


def without_compiler(monkeypatch):
    kernel = unroll_kernel(LSTM, "cpu", "float32")
    kernel = kernel._replace(problem=lambda: "there is no C++ compiler")
    monkeypatch.setattr(choose, "unroll_kernel", lambda *key: kernel)


def test_without_a_compiler_the_scan_runs_unless_the_kernel_is_requested(monkeypatch):
    without_compiler(monkeypatch)
    arrays = given("lstm", 3, 2, 8)

    def by_choice(params, carry, z_TxBxGH):
        return unroll(LSTM, params, carry, z_TxBxGH, Execution())

    def by_request(params, carry, z_TxBxGH):
        return unroll(LSTM, params, carry, z_TxBxGH, Execution(unroll="native"))

    for x, y in zip(
        results(by_choice, arrays), results(by_scan("lstm"), arrays), strict=True
    ):
        np.testing.assert_array_equal(x, y)
    assert "no C++ compiler" in choose.describe(LSTM, Execution(), "cpu")
    with pytest.raises(ConfigError, match=r"requested but is not.*no C\+\+ compiler"):
        results(by_request, arrays)
