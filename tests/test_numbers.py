"""Numbers stay numbers: in half the bits, and over long texts."""

import jax
import numpy as np
import optax

import charjax
from tests.models import make

TEXT = "the quick brown fox jumps over the lazy dog. " * 30
STEPS = 60


def losses(precision):
    """The curve of a small model that learns one text by heart."""
    params = make(vocab=charjax.Vocab.of(TEXT), hidden_size=16)
    params = jax.tree.map(lambda leaf: leaf * 0.1, params)
    ids_BxT = params.vocab.encode(TEXT)[: 16 * 41].reshape(16, 41).astype(np.int32)
    optimizer = optax.adam(4e-2)
    execution = charjax.Execution(precision=precision)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(
            lambda p: charjax.loss(
                p, ids_BxT[:, :-1], ids_BxT[:, 1:], execution=execution
            )[0]
        )(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    state, curve = optimizer.init(params), []
    for _ in range(STEPS):
        params, state, loss = step(params, state)
        curve.append(float(loss))
    return np.array(curve)


def test_bfloat16_learns_along_the_curve_of_float32():
    """Within 0.1 nats at every step, while the loss falls from 3.3 to 0.1."""
    exact, rounded = losses("float32"), losses("bfloat16")
    assert exact[-1] < 0.2 < 3 < exact[0]
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.1)


def test_a_hundred_thousand_characters_of_one_stream_stay_as_likely():
    params = make(2, num_layers=1)
    text = charjax.sample(params, "a", length=100_000, seed=1)
    assert len(text) == 100_001
    assert set(text) <= set(params.vocab.symbols)
    log_probs = charjax.score(params, text).log_probs
    assert np.isfinite(log_probs).all()
    early, late = log_probs[1:50_000].mean(), log_probs[50_000:].mean()
    assert abs(early - late) < 0.02 * abs(early)
