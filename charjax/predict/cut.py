"""Leaving out unlikely characters before one is drawn: top-k and top-p."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cut(NamedTuple):
    """Which characters are too unlikely to be drawn.

    Attributes:
      top_k: only this many of the likeliest may be drawn.
      top_p: only the likeliest that together hold this probability.
    """

    top_k: jax.Array | int
    top_p: jax.Array | float


def without_unlikely(
    logits_BxV: jax.Array, temperature: jax.Array | float, cut: Cut
) -> jax.Array:
    """Returns the logits with -inf for the characters that are cut.

    The likeliest character is never cut. At temperature 0 it is the only one that
    matters, so any other temperature may be used to weigh them.
    """
    falling_BxV = jnp.sort(logits_BxV, axis=-1, descending=True)
    among_k_1xV = jnp.arange(logits_BxV.shape[-1])[None] < cut.top_k
    scale = jnp.where(temperature > 0, temperature, 1)
    weights_BxV = jnp.exp((falling_BxV - falling_BxV[:, :1]) / scale) * among_k_1xV
    likelier_BxV = jnp.cumsum(weights_BxV, axis=-1) - weights_BxV
    enough_Bx1 = cut.top_p * jnp.sum(weights_BxV, axis=-1, keepdims=True)
    kept_BxV = among_k_1xV & (likelier_BxV < enough_Bx1)
    least_Bx1 = jnp.min(
        jnp.where(kept_BxV, falling_BxV, falling_BxV[:, :1]), axis=-1, keepdims=True
    )
    return jnp.where(logits_BxV >= least_Bx1, logits_BxV, -jnp.inf)
