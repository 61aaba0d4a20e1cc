"""Leaving out characters before one is drawn: top-k, top-p, min-p and typical.

Each rule is a function from logits to logits, -inf for the characters that are cut. It
sees what the rules before it have left, at the temperature of the draw, and never cuts
all. Of characters that a rule finds alike it keeps all or none.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Cut(NamedTuple):
    """Which characters may not be drawn, by rules in their order; None where off.

    Attributes:
      top_k: only this many of the likeliest may be drawn.
      top_p: only the likeliest that together hold this probability.
      min_p: only those with this share of the likeliest one's probability.
      typical_p: only those whose surprise is nearest to the expected one, and that
        together hold this probability.
    """

    top_k: Any = None
    top_p: Any = None
    min_p: Any = None
    typical_p: Any = None

    def limits(self, num_symbols: int) -> tuple[float, float, float]:
        """Returns top-k, top-p and min-p, as what cuts nothing where they are off."""
        off = num_symbols, 1.0, 0.0
        given = zip(self[:3], off, strict=True)
        k, p, least = (without if on is None else on for on, without in given)
        return float(k), p, least


def without_cut(
    logits_BxV: jax.Array, temperature: jax.Array | float, cut: Cut
) -> jax.Array:
    """Returns the logits after all rules.

    At temperature 0 the likeliest character is the only one that matters. None of the
    rules cuts it then, so any other temperature may be used to weigh them.
    """
    if cut.top_k is not None:
        logits_BxV = top_k(logits_BxV, cut.top_k)
    if cut.top_p is not None:
        logits_BxV = top_p(logits_BxV, temperature, cut.top_p)
    if cut.min_p is not None:
        logits_BxV = min_p(logits_BxV, temperature, cut.min_p)
    if cut.typical_p is not None:
        logits_BxV = typical(logits_BxV, temperature, cut.typical_p)
    return logits_BxV


def top_k(logits_BxV: jax.Array, k: jax.Array | int) -> jax.Array:
    """Keeps the k likeliest, and all that are as likely as the last of them."""
    falling_BxV = jnp.sort(logits_BxV, axis=-1, descending=True)
    return _at_least(logits_BxV, jnp.take(falling_BxV, k - 1, axis=-1)[:, None])


def top_p(
    logits_BxV: jax.Array, temperature: jax.Array | float, p: jax.Array | float
) -> jax.Array:
    """Keeps the likeliest that hold a probability of p.

    Holtzman et al. (2020), https://arxiv.org/abs/1904.09751.
    """
    falling_BxV = jnp.sort(logits_BxV, axis=-1, descending=True)
    weights_BxV = jnp.exp(_scaled(falling_BxV, temperature))
    likelier_BxV = jnp.cumsum(weights_BxV, axis=-1) - weights_BxV
    is_kept_BxV = likelier_BxV < p * jnp.sum(weights_BxV, axis=-1, keepdims=True)
    kept_BxV = jnp.where(is_kept_BxV, falling_BxV, falling_BxV[:, :1])
    return _at_least(logits_BxV, jnp.min(kept_BxV, axis=-1, keepdims=True))


def min_p(
    logits_BxV: jax.Array, temperature: jax.Array | float, p: jax.Array | float
) -> jax.Array:
    """Keeps those with a probability of p times that of the likeliest, or more.

    Nguyen et al. (2024), https://arxiv.org/abs/2407.01082.
    """
    scaled_BxV = _scaled(logits_BxV, temperature)
    return jnp.where(scaled_BxV >= jnp.log(p), logits_BxV, -jnp.inf)


def typical(
    logits_BxV: jax.Array, temperature: jax.Array | float, p: jax.Array | float
) -> jax.Array:
    """Keeps those of least `|-log p(x) - H|`, H the entropy, that hold p.

    Meister et al. (2022), https://arxiv.org/abs/2202.00666.
    """
    log_probs_BxV = jax.nn.log_softmax(_scaled(logits_BxV, temperature))
    probs_BxV = jnp.exp(log_probs_BxV)
    nats_BxV = jnp.where(probs_BxV > 0, -log_probs_BxV, 0)
    entropy_Bx1 = jnp.sum(probs_BxV * nats_BxV, axis=-1, keepdims=True)
    distances_BxV = jnp.abs(log_probs_BxV + entropy_Bx1)
    rising_BxV, held_BxV = jax.lax.sort((distances_BxV, probs_BxV), num_keys=1)
    nearer_BxV = jnp.cumsum(held_BxV, axis=-1) - held_BxV
    kept_BxV = jnp.where(nearer_BxV < p, rising_BxV, rising_BxV[:, :1])
    farthest_Bx1 = jnp.max(kept_BxV, axis=-1, keepdims=True)
    is_kept_BxV = (distances_BxV <= farthest_Bx1) | (jnp.asarray(temperature) == 0)
    return jnp.where(is_kept_BxV, logits_BxV, -jnp.inf)


def _scaled(logits_BxV: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Returns the logits at a temperature, 0 for the likeliest."""
    scale = jnp.where(jnp.asarray(temperature) > 0, temperature, 1)
    return (logits_BxV - jnp.max(logits_BxV, axis=-1, keepdims=True)) / scale


def _at_least(logits_BxV: jax.Array, least_Bx1: jax.Array) -> jax.Array:
    return jnp.where(logits_BxV >= least_Bx1, logits_BxV, -jnp.inf)
