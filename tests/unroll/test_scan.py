"""Cells and their unrolling: values against slow loops, gradients against autodiff."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from charjax import cells
from charjax.cells import initializers
from charjax.unroll.execution import Execution
from charjax.unroll.scan import scan
from tests.oracles import recurrence as oracle

T, B, D, H = 6, 3, 4, 5
BUILT_IN = ("gru", "gru_reset_before", "lstm", "rnn")


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def make(name):
    """A cell with weights large enough to bend its nonlinearities, and its inputs."""
    cell = cells.get(name)
    draw = initializers("uniform")
    params = cell.init(jax.random.key(0), D, H, draw)
    params = jax.tree.map(lambda w: 8 * jnp.asarray(w, jnp.float64), params)
    x_TxBxD = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)
    carry = cell.initial_carry(B, H, jnp.float64)
    keys = jax.random.split(jax.random.key(2), len(jax.tree.leaves(carry)))
    leaves = [
        jax.random.normal(key, leaf.shape, leaf.dtype) / 2
        for key, leaf in zip(keys, jax.tree.leaves(carry), strict=True)
    ]
    return cell, params, x_TxBxD, jax.tree.unflatten(jax.tree.structure(carry), leaves)


def by_scan(cell, params, carry, z_TxBxGH):
    return scan(cell, params, carry, z_TxBxGH, Execution())


def by_loop(cell, params, carry, z_TxBxGH):
    outputs = []
    for t in range(T):
        z = jax.tree.map(lambda leaf, t=t: leaf[t], z_TxBxGH)
        carry, h = cell.step(params, carry, z, jnp.matmul)
        outputs.append(h)
    return carry, jnp.stack(outputs)


def value_and_grads(run, cell, params, x_TxBxD, carry):
    """A loss that depends on every output and on the last carry, and its gradients."""

    def loss(params, x_TxBxD, carry):
        z = cell.project(params, x_TxBxD, jnp.matmul)
        last, h_TxBxH = run(cell, params, carry, z)
        weights = jnp.arange(1.0, T + 1)[:, None, None]
        ends = sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(last))
        return jnp.sum(weights * jnp.sin(h_TxBxH)) + ends

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    return compiled(params, x_TxBxD, carry)


@pytest.mark.parametrize("name", BUILT_IN)
def test_outputs_equal_the_equations_looped_in_numpy(name):
    cell, params, x_TxBxD, carry = make(name)
    z = cell.project(params, x_TxBxD, jnp.matmul)
    _, h_TxBxH = by_scan(cell, params, carry, z)
    arrays = jax.tree.map(np.asarray, (params, x_TxBxD))
    expected = getattr(oracle, name)(*arrays, *map(np.asarray, jax.tree.leaves(carry)))
    np.testing.assert_allclose(h_TxBxH, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BUILT_IN)
def test_gradients_equal_those_of_a_loop_differentiated_by_jax(name):
    inputs = make(name)
    cell, params, x_TxBxD, carry = inputs
    fast = value_and_grads(by_scan, cell, params, x_TxBxD, carry)
    # The oracle's LSTM has no custom derivative of its own.
    slow_cell = cell._replace(step=plain_lstm_step) if name == "lstm" else cell
    slow = value_and_grads(by_loop, slow_cell, params, x_TxBxD, carry)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12),
        fast,
        slow,
    )


def plain_lstm_step(params, carry, z_BxGH, matmul):
    a = z_BxGH + matmul(carry.h_BxH, params.recurrent_HxGH)
    i, f, g, o = jnp.split(a, 4, axis=1)
    c = jax.nn.sigmoid(f) * carry.c_BxH + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return type(carry)(c, h), h


@pytest.mark.parametrize("name", BUILT_IN)
def test_gradients_equal_finite_differences(name):
    cell, params, x_TxBxD, carry = make(name)

    def run(params, x_TxBxD, carry):
        z = cell.project(params, x_TxBxD, jnp.matmul)
        return by_scan(cell, params, carry, z)

    run = jax.jit(run)
    check_grads(run, (params, x_TxBxD, carry), order=1, modes="rev", atol=1e-5)


class OddParams(NamedTuple):
    w: jax.Array
    u: jax.Array
    gain: jax.Array
    heads: jax.Array


def odd_step(params, h, z, matmul):
    """Uses a weight in products, in part, transposed; and two at once."""
    y = matmul(h, params.u) + matmul(jnp.sin(h), params.u)
    y += matmul(h, params.u.T) + h @ params.u
    y += matmul(jnp.stack([h, -h]), params.heads).sum(axis=0)
    h = jnp.tanh(params.gain * (z + y) + params.u[0, 0])
    return h, h


@pytest.mark.parametrize("B", [1, 3])
def test_a_weight_may_be_used_in_any_way_and_its_gradient_stays_right(B):
    cell = cells.Cell(
        lambda key, d, h, draw: OddParams(
            jax.random.normal(key, (d, h)),
            jax.random.normal(key, (h, h)),
            jnp.ones(h),
            jax.random.normal(key, (2, h, h)),
        ),
        lambda b, h, dtype: jnp.zeros((b, h), dtype),
        lambda params, x, matmul: matmul(x, params.w),
        odd_step,
    )
    params = cell.init(jax.random.key(0), D, H, initializers("uniform"))
    x_TxBxD = jax.random.normal(jax.random.key(1), (T, B, D))
    carry = cell.initial_carry(B, H, jnp.float64) + 0.1
    fast = value_and_grads(by_scan, cell, params, x_TxBxD, carry)
    slow = value_and_grads(by_loop, cell, params, x_TxBxD, carry)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13),
        fast,
        slow,
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_after_no_step_the_gradient_of_the_weights_is_zero(name):
    cell, params, x_TxBxD, carry = make(name)

    def last(params, carry):
        z = cell.project(params, x_TxBxD[:0], jnp.matmul)
        last, _ = by_scan(cell, params, carry, z)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(last))

    dparams, dcarry = jax.grad(last, argnums=(0, 1))(params, carry)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(dparams))
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(dcarry))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_weights_gradients_do_not_grow_the_backward_scan(name):
    cell, params, x_TxBxD, carry = make(name)
    gradients = jax.make_jaxpr(partial(value_and_grads, by_scan, cell))
    scans = list(find_scans(gradients(params, x_TxBxD, carry).jaxpr))
    assert len(scans) >= 2
    for eqn in scans:
        # What is carried leaves the scan as it leaves a step, not stacked over time.
        shapes = [
            outer.aval.shape
            for outer, inner in zip(
                eqn.outvars, eqn.params["jaxpr"].out_avals, strict=True
            )
            if outer.aval.shape == inner.shape
        ]
        assert shapes
        assert all(shape[:1] != (H,) or len(shape) < 2 for shape in shapes)


def find_scans(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            yield eqn
        for param in eqn.params.values():
            inner = getattr(param, "jaxpr", None)
            if inner is not None:
                yield from find_scans(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("name", BUILT_IN)
def test_bfloat16_products_stay_near_float32_in_values_and_gradients(name):
    cell, params, x_TxBxD, carry = make(name)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), (params, x_TxBxD, carry))
    _, exact = value_and_grads(by_scan, cell, *single)

    def rounded(cell, params, carry, z_TxBxGH):
        execution = Execution(precision="bfloat16")
        return scan(cell, params, carry, z_TxBxGH, execution)

    _, close = value_and_grads(rounded, cell, *single)
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(close), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert jnp.linalg.norm(a - b) < 0.05 * jnp.linalg.norm(a) + 0.05
        assert jnp.any(a != b)
