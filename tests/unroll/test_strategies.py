"""Every strategy of unrolling: the same numbers, the choice, other platforms."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charjax
from charjax import Execution, cells
from charjax.cells.base import Cell, dense_project, sigmoid, zero_carry
from charjax.errors import ConfigError
from charjax.unroll import choose
from charjax.unroll.linear import in_parallel, in_sequence, linear
from charjax.unroll.scan import scan
from tests.models import make
from tests.unroll.test_scan import BUILT_IN, by_loop, value_and_grads
from tests.unroll.test_scan import make as make_cell

T, B, H = 6, 3, 5


class GateParams(NamedTuple):
    input_DxGH: jax.Array
    bias_GH: jax.Array


def gate_init(key, input_size, hidden_size, initializers):
    return GateParams(
        initializers.input(key, (input_size, hidden_size), 2),
        jnp.zeros(2 * hidden_size),
    )


def gate_linear(params, z):
    """h' = (1 - g) h + g n, with gate and candidate of the input alone."""
    gate, candidate = jnp.split(z, 2, axis=-1)
    return 1 - sigmoid(gate), sigmoid(gate) * candidate


def gate_step(params, h_BxH, z_BxGH, matmul):
    a_BxH, b_BxH = gate_linear(params, z_BxGH)
    h_BxH = a_BxH * h_BxH + b_BxH
    return h_BxH, h_BxH


LINEAR = Cell(gate_init, zero_carry, dense_project, gate_step, linear=gate_linear)


@pytest.fixture
def linear_cell(monkeypatch):
    monkeypatch.setitem(cells.registry._CELLS, "gate", LINEAR)
    return LINEAR


def equal(got, expected, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, expected
    )


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        *itertools.product([*BUILT_IN, "gate"], ["auto", "scan"]),
        ("gate", "linear"),
    ],
)
def test_every_strategy_gives_every_cell_the_loops_values_and_gradients(
    name, strategy, linear_cell
):
    with jax.enable_x64(True):
        cell, params, x_TxBxD, carry = make_cell(name)

        def by_strategy(cell, params, carry, z_TxBxGH):
            execution = Execution(unroll=strategy)
            return choose.unroll(cell, params, carry, z_TxBxGH, execution)

        got = value_and_grads(by_strategy, cell, params, x_TxBxD, carry)
        expected = value_and_grads(by_loop, cell, params, x_TxBxD, carry)
    equal(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_in_parallel_and_in_sequence_are_the_same_recurrence(steps):
    keys = jax.random.split(jax.random.key(steps), 3)
    a, b = (jax.random.uniform(k, (steps, B, H), minval=-1.0) for k in keys[:2])
    h = jax.random.normal(keys[2], (B, H))

    def loss(run):
        return lambda *args: jnp.sum(jnp.sin(run(*args)) * jnp.arange(1, H + 1.0))

    got, expected = (
        jax.value_and_grad(loss(run), argnums=(0, 1, 2))(a, b, h)
        for run in (in_parallel, in_sequence)
    )
    equal(got, expected, rtol=1e-4, atol=1e-5)


def test_a_cell_with_a_linear_form_has_no_loop_on_an_accelerator(linear_cell):
    params = make(cell="gate")

    def run(ids_BxT):
        return charjax.apply(params, ids_BxT)[0]

    ids_BxT = jnp.zeros((2, 16), jnp.int32)
    lowered = {
        platform: jax.jit(run).trace(ids_BxT).lower(lowering_platforms=(platform,))
        for platform in ("cpu", "cuda")
    }
    assert "stablehlo.while" in lowered["cpu"].as_text()
    assert "stablehlo.while" not in lowered["cuda"].as_text()


@pytest.mark.parametrize(
    ("name", "execution", "platform", "expected"),
    [
        ("lstm", Execution(unroll="scan"), "cpu", "scan (as requested)"),
        (
            "gru_reset_before",
            Execution(),
            "cpu",
            "scan (no compiled kernel for this ce",
        ),
        ("lstm", Execution(), "cuda", "scan (no compiled kernel for cuda)"),
        ("gate", Execution(), "cpu", "linear (in sequence)"),
        ("gate", Execution(), "cuda", "linear (in parallel)"),
    ],
)
def test_the_choice_is_described_with_its_reason(
    name, execution, platform, expected, linear_cell
):
    assert choose.describe(cells.get(name), execution, platform).startswith(expected)


def test_a_strategy_that_cannot_run_the_cell_is_refused():
    lstm = cells.get("lstm")
    with pytest.raises(ConfigError, match="must have a linear form"):
        choose.check(lstm, Execution(unroll="linear"))
    with pytest.raises(ConfigError, match="not available: no compiled kernel for cuda"):
        choose.check(lstm, Execution(unroll="native"), "cuda")
    with pytest.raises(ConfigError, match="no compiled kernel for this cell"):
        choose.check(cells.get("gru_reset_before"), Execution(unroll="native"))


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_program_traced_on_a_cpu_lowers_for_other_platforms(
    cell, precision, platform
):
    params = make(cell=cell, hidden_size=8)
    execution = Execution(precision=precision)

    def loss(params, ids_BxT):
        x_BxT, y_BxT = ids_BxT[:, :-1], ids_BxT[:, 1:]
        return charjax.loss(params, x_BxT, y_BxT, execution=execution)[0]

    traced = jax.jit(jax.grad(loss)).trace(params, jnp.zeros((40, 5), jnp.int32))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "custom_call" not in text


def test_a_single_step_has_no_loop():
    params = make(cell="gru")
    jaxpr = jax.make_jaxpr(charjax.apply)(params, jnp.zeros((2, 1), jnp.int32))
    assert "scan[" not in str(jaxpr)
    jaxpr = jax.make_jaxpr(charjax.apply)(params, jnp.zeros((2, 2), jnp.int32))
    assert "scan[" in str(jaxpr)


def test_linear_is_one_of_the_strategies_of_one_signature(linear_cell):
    params = LINEAR.init(jax.random.key(0), 4, H, cells.initializers("uniform"))
    z = LINEAR.project(params, jnp.ones((T, B, 4)), jnp.matmul)
    carry = LINEAR.initial_carry(B, H, jnp.float32)
    got, expected = (
        run(LINEAR, params, carry, z, Execution()) for run in (linear, scan)
    )
    equal(got, expected, rtol=1e-5, atol=1e-6)
