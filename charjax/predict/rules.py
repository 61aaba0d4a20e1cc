"""How the next character is drawn: all rules, in the order in which they apply.

1. The repetition penalty changes the logits.
2. An automaton leaves out characters with which no allowed text begins.
3. The cuts leave out top-k, top-p, min-p and typical ones, in this order.
4. Noise at a temperature draws from what is left.

`Past` is what the first two need to know of the characters before. It goes through the
compiled loop beside the model's own state.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from charjax.predict.automaton import (
    Automaton,
    Place,
    allowed,
    may_end,
    moved,
    start_of,
)
from charjax.predict.cut import Cut, without_cut
from charjax.predict.repetition import (
    Recent,
    Repetition,
    less_repeated,
    recent_of,
    with_next,
)

_LEAST = -1e30  # of a logit that is allowed: one of -inf would be as one that is not


class Rules(NamedTuple):
    """How to draw; a rule that is None is off.

    Attributes:
      temperature: scales the noise.
      cut: which characters may not be drawn.
      repetition: how much repeating costs.
      automaton: which texts may be drawn.
    """

    temperature: Any
    cut: Cut | None = None
    repetition: Repetition | None = None
    automaton: Automaton | None = None

    @property
    def are_compiled(self) -> bool:
        """Whether the compiled kernels have these rules."""
        is_typical = self.cut is not None and self.cut.typical_p is not None
        return self.repetition is None and self.automaton is None and not is_typical

    @property
    def is_plain(self) -> bool:
        """Whether every character may be drawn, with its probability."""
        return self[1:] == (None, None, None)


class Past(NamedTuple):
    """What the rules need to know of the texts so far; None for rules that are off."""

    recent: Recent | None
    place: Place | None


def past_of(rules: Rules, prime_ids: np.ndarray, length: int, num_symbols: int) -> Past:
    """Returns the past of one text at the end of its prime.

    Args:
      rules: how to draw.
      prime_ids: the text so far.
      length: how many characters to draw.
      num_symbols: of the vocabulary.
    """
    recent = place = None
    if rules.repetition is not None:
        recent = recent_of(prime_ids, rules.repetition.window, num_symbols)
    if rules.automaton is not None:
        place = start_of(length)
    return Past(recent, place)


def next_ids(
    logits_BxV: jax.Array, noise_BxV: jax.Array, past: Past, rules: Rules
) -> tuple[jax.Array, Past]:
    """Returns the next character of each text, -1 after its end, and the past then."""
    recent, place = past
    allowed_BxV = None
    if recent is not None and rules.repetition is not None:
        logits_BxV = less_repeated(logits_BxV, recent, rules.repetition)
    if place is not None and rules.automaton is not None:
        allowed_BxV = allowed(rules.automaton, place)
        is_open_BxV = allowed_BxV | may_end(rules.automaton, place)[:, None]
        logits_BxV = jnp.maximum(logits_BxV, _LEAST)
        # After the end anything may be drawn: it does not count.
        is_open_BxV |= place.ended_B[:, None]
        logits_BxV = jnp.where(is_open_BxV, logits_BxV, -jnp.inf)
    if rules.cut is not None:
        logits_BxV = without_cut(logits_BxV, rules.temperature, rules.cut)
    logits_BxV += rules.temperature * noise_BxV
    ids_B = jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    if recent is not None:
        recent = with_next(recent, ids_B)
    if place is not None and rules.automaton is not None and allowed_BxV is not None:
        place = moved(rules.automaton, place, ids_B, allowed_BxV)
        ids_B = jnp.where(place.ended_B, -1, ids_B)
    return ids_B, Past(recent, place)
