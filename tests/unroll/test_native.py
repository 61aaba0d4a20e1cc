"""The compiled kernels: the numbers of JAX's loops, and their absence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charjax import Execution, cells
from charjax.cells.base import DenseParams
from charjax.cells.lstm import LSTMCarry
from charjax.errors import ConfigError
from charjax.predict import draw
from charjax.predict.predictor import ModelPredictor
from charjax.predict.scoring import read_text
from charjax.unroll import choose, native
from charjax.unroll.choose import unroll
from charjax.unroll.kernels import draw_kernel, unroll_kernel
from charjax.unroll.native import lstm as native_lstm
from charjax.unroll.scan import scan
from tests import models

needs_compiler = pytest.mark.skipif(
    bool(native.problem()), reason=f"no compiled library: {native.problem()}"
)
LSTM = cells.get("lstm")


def arrays(seed, *shapes):
    """Arrays in double precision, large enough to saturate some of the gates."""
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) * 1.5 for shape in shapes]


def results(run, u_HxGH, c_BxH, h_BxH, z_TxBxGH, dc_BxH, dlast_BxH, dh_TxBxH):
    """Outputs and gradients, with a cotangent on every output and on the last state."""

    def outputs(u_HxGH, c_BxH, h_BxH, z_TxBxGH):
        params = DenseParams(jnp.zeros_like(u_HxGH), u_HxGH, jnp.zeros_like(u_HxGH[0]))
        return run(params, LSTMCarry(c_BxH, h_BxH), z_TxBxGH)

    values, vjp = jax.vjp(outputs, u_HxGH, c_BxH, h_BxH, z_TxBxGH)
    return jax.tree.leaves((values, vjp((LSTMCarry(dc_BxH, dlast_BxH), dh_TxBxH))))


def by_scan(params, carry, z_TxBxGH):
    return scan(LSTM, params, carry, z_TxBxGH, Execution())


def by_kernel(params, carry, z_TxBxGH):
    assert native_lstm.fits(params, carry, z_TxBxGH)
    return native_lstm.unroll(params, carry, z_TxBxGH)


def inputs(T, B, H):
    shapes = (H, 4 * H), (B, H), (B, H), (T, B, 4 * H), (B, H), (B, H), (T, B, H)
    u_HxGH, *rest = arrays(T * B * H, *shapes)
    return u_HxGH / np.sqrt(H), *rest


# One text and one step; fewer units than a vector; blocks of rows and of units that do
# not come out even; whole vectors.
@needs_compiler
@pytest.mark.parametrize(
    ("T", "B", "H"),
    [(1, 1, 1), (3, 2, 5), (7, 27, 37), (4, 50, 64), (5, 1, 37), (6, 1, 64)],
)
def test_values_and_gradients_equal_the_scan_in_double_precision(T, B, H):
    given = inputs(T, B, H)
    single = [jnp.asarray(x, jnp.float32) for x in given]
    got = jax.jit(lambda args: results(by_kernel, *args))(single)
    with jax.enable_x64(True):
        expected = jax.jit(lambda args: results(by_scan, *args))(given)
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=3e-5, atol=3e-5 * np.abs(y).max())


@needs_compiler
def test_the_same_call_gives_the_same_bits():
    single = [jnp.asarray(x, jnp.float32) for x in inputs(5, 9, 20)]
    run = jax.jit(lambda args: results(by_kernel, *args))
    first = run(single)
    for _ in range(5):
        for x, y in zip(first, run(single), strict=True):
            np.testing.assert_array_equal(x, y)


@needs_compiler
def test_a_text_has_the_same_bits_among_any_number_of_others():
    _, c_BxH, h_BxH, z_TxBxGH, *cotangents = inputs(4, 30, 20)
    u_HxGH, *_ = inputs(4, 30, 20)

    def first_two(B):
        batch = [x[..., :B, :] for x in (c_BxH, h_BxH, z_TxBxGH, *cotangents)]
        single = [jnp.asarray(x, jnp.float32) for x in (u_HxGH, *batch)]
        (c, h, hs), (_, dc, dh, dz) = np.split(
            np.array(results(by_kernel, *single), dtype=object), [3]
        )
        return [x[..., :2, :] for x in (c, h, hs, dc, dh, dz)]

    alone = first_two(2)
    for B in (3, 5, 7, 13, 30):
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
    u_HxGH, *given = [jnp.float32(x) for x in arrays(3, (6, 24), c, h, z)]

    def outcome(kernel):
        params = DenseParams(jnp.zeros((1, 24)), u_HxGH, jnp.zeros(24))
        carry, z_TxBxGH = LSTMCarry(*given[:2]), given[2]
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
        native_lstm.unroll(params, carry, z_TxBxGH)


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
        assert find(LSTM, "cpu", "bfloat16") is None


@needs_compiler
def test_weights_in_another_pytree_are_left_to_the_scan():
    u_HxGH, c_BxH, h_BxH, z_TxBxGH, *_ = (jnp.float32(x) for x in inputs(3, 2, 8))
    params = OwnParams(jnp.zeros((1, 32)), u_HxGH, jnp.zeros(32), jnp.ones(()))
    carry = LSTMCarry(c_BxH, h_BxH)

    def total(params, kernel):
        execution = Execution(unroll=kernel)
        _, h_TxBxH = unroll(LSTM, params, carry, z_TxBxGH, execution)
        return jnp.sum(h_TxBxH**2)

    got, expected = (jax.grad(total)(params, k) for k in ("auto", "scan"))
    np.testing.assert_array_equal(got.recurrent_HxGH, expected.recurrent_HxGH)
    assert np.abs(got.recurrent_HxGH).max() > 0


@needs_compiler
def test_inputs_stay_what_they_were():
    single = [jnp.asarray(x, jnp.float32) for x in inputs(3, 2, 8)]
    before = [np.array(x) for x in single]
    results(by_kernel, *single)
    for x, y in zip(single, before, strict=True):
        np.testing.assert_array_equal(x, y)


@needs_compiler
def test_a_batch_of_models_gives_what_each_gives_alone():
    stacked = [
        jnp.stack([jnp.asarray(x, jnp.float32), 0.5 * jnp.asarray(x, jnp.float32)])
        for x in inputs(3, 2, 8)
    ]
    together = jax.vmap(lambda *args: results(by_kernel, *args))(*stacked)
    for i in range(2):
        alone = results(by_kernel, *[x[i] for x in stacked])
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-6, atol=1e-6)


# A last vector of one unit; more texts than a block has rows; an odd vocabulary.
@needs_compiler
@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"num_layers": 1, "hidden_size": 17}, 1),
        ({"num_layers": 3, "hidden_size": 5}, 23),
        ({"num_layers": 2, "hidden_size": 32, "embedding_size": 32, "tied": True}, 16),
        ({"num_layers": 2, "hidden_size": 6, "embedding_size": 3}, 2),
    ],
)
def test_drawing_equals_the_loop_in_its_characters_logits_and_state(fields, texts):
    params = models.make(**fields)
    execution = Execution()
    predictor = ModelPredictor(params, execution)
    state, _ = read_text(predictor, params.vocab.encode("badge"))
    state = draw._copies(state, num_texts=texts)
    positions = np.arange(9)
    noise = draw._noise(jax.random.key(7), positions, (0, texts), state.logits_BxV)[0]
    kernel = draw_kernel(LSTM, "cpu", "float32")
    weights = draw._pack(params, kernel=kernel, execution=execution)
    drawn = {"count": 6, "temperature": 0.7}
    got = draw._draw_compiled(weights, state, noise, kernel=kernel, **drawn)
    expected = draw._draw_piece(
        params, state, noise, cut=None, execution=execution, **drawn
    )
    np.testing.assert_array_equal(got[1], expected[1])
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_a_few_texts_of_a_large_model_are_drawn_by_jax_unless_requested():
    params = models.make(hidden_size=300)

    def find(unroll, texts):
        return draw._find_kernel(params, Execution(unroll=unroll), texts)

    assert find("auto", 7) is None
    assert find("scan", 8) is None
    kernel = draw_kernel(LSTM, "cpu", "float32")
    assert find("auto", 8) is find("native", 1) is kernel


def test_after_no_step_the_state_is_the_one_before():
    _, c_BxH, h_BxH, z_TxBxGH, *_ = inputs(1, 2, 8)
    carry = LSTMCarry(jnp.float32(c_BxH), jnp.float32(h_BxH))
    params = LSTM.init(jax.random.key(0), 3, 8, cells.initializers("uniform"))
    z = jnp.asarray(z_TxBxGH[:0], jnp.float32)
    last, h_TxBxH = unroll(LSTM, params, carry, z, Execution())
    assert h_TxBxH.shape == (0, 2, 8)
    np.testing.assert_array_equal(last.c_BxH, carry.c_BxH)


def without_compiler(monkeypatch):
    kernel = unroll_kernel(LSTM, "cpu", "float32")
    kernel = kernel._replace(problem=lambda: "there is no C++ compiler")
    monkeypatch.setattr(choose, "unroll_kernel", lambda *key: kernel)


def test_without_a_compiler_the_scan_runs_unless_the_kernel_is_requested(monkeypatch):
    without_compiler(monkeypatch)
    single = [jnp.asarray(x, jnp.float32) for x in inputs(3, 2, 8)]

    def by_choice(params, carry, z_TxBxGH):
        return unroll(LSTM, params, carry, z_TxBxGH, Execution())

    def by_request(params, carry, z_TxBxGH):
        return unroll(LSTM, params, carry, z_TxBxGH, Execution(unroll="native"))

    for x, y in zip(
        results(by_choice, *single), results(by_scan, *single), strict=True
    ):
        np.testing.assert_array_equal(x, y)
    assert "no C++ compiler" in choose.describe(LSTM, Execution(), "cpu")
    with pytest.raises(ConfigError, match=r"requested but is not.*no C\+\+ compiler"):
        results(by_request, *single)
