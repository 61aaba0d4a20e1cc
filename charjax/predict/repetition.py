"""A penalty for characters with which the text would go on repeating itself.

In a text of characters nearly every character has come shortly before, so that a
penalty for having come, as for words in Keskar et al. (2019),
https://arxiv.org/abs/1909.05858, would be one for all. What a reader sees as repetition
is a stretch that comes again. So a character x is made less likely by the length m(x)
of the stretch that it would go on repeating,

    logit(x) - m(x) log(penalty)

where m(x) is the largest m such that the last m characters, followed by x, stand within
the last n characters of the text, the prime included. The longer a repeat grows, the
less likely it goes on, and words that merely come again cost little.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Repetition(NamedTuple):
    """How much repeating costs.

    Attributes:
      log_penalty: for each character of the stretch that is repeated.
      window: how many characters back a repeat is searched.
    """

    log_penalty: Any
    window: Any


class Recent(NamedTuple):
    """The last characters of each text.

    Attributes:
      ids_BxN: the characters, the newest last; V where the text is shorter. N is the
        window or a little more.
      runs_BxN: how many characters before each equal the last ones of the text.
    """

    ids_BxN: jax.Array
    runs_BxN: jax.Array


def recent_of(ids: np.ndarray, window: int, num_symbols: int) -> Recent:
    """Returns the last characters of one text."""
    size = 1 << (window - 1).bit_length()  # windows of like size share a compilation
    recent_N = np.full(size, num_symbols, np.int32)
    runs_N = np.zeros(size, np.int32)
    for char in ids[-size:].tolist():
        runs_N = np.where(recent_N == char, runs_N + 1, 0).astype(np.int32)
        recent_N = np.append(recent_N[1:], np.int32(char))
    return Recent(jnp.asarray(recent_N[None]), jnp.asarray(runs_N[None]))


def with_next(recent: Recent, ids_B: jax.Array) -> Recent:
    """Returns the last characters after one more in each text."""
    ids_Bx1 = ids_B[:, None]
    runs_BxN = jnp.where(recent.ids_BxN == ids_Bx1, recent.runs_BxN + 1, 0)
    return Recent(jnp.concatenate([recent.ids_BxN[:, 1:], ids_Bx1], axis=1), runs_BxN)


def less_repeated(
    logits_BxV: jax.Array, recent: Recent, repetition: Repetition
) -> jax.Array:
    """Returns the logits less the penalty."""
    B, N = recent.ids_BxN.shape
    # A run ends where the window begins; a character before that has less than none.
    most_N = jnp.arange(N) - (N - repetition.window)
    runs_BxN = jnp.minimum(recent.runs_BxN, most_N)
    repeated_BxV = jnp.zeros(logits_BxV.shape, runs_BxN.dtype)
    where = jnp.arange(B)[:, None], recent.ids_BxN
    repeated_BxV = repeated_BxV.at[where].max(runs_BxN, mode="drop")
    return logits_BxV - repetition.log_penalty * repeated_BxV
