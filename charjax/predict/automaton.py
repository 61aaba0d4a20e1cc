"""Automata: which texts may be drawn, and where a text ends.

An automaton reads a text character by character and is in one state after each. There
is no symbol for the end of a text. Where a text may end, it goes on with the character
drawn from all, and ends if that is one with which the automaton cannot go on: what the
model gives to these is the probability of the end. Where a text may not end, only
characters are drawn from which an end can be reached in the length that is left.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NEVER = 2**31 - 1  # steps to an end that cannot be reached


class Automaton(NamedTuple):
    """A deterministic finite automaton over characters; it starts in state 0.

    Attributes:
      class_V: the class of each character; those of a class are alike to it.
      next_SxC: the state after a character of each class.
      steps_S: how many more characters a text needs before it may end, NEVER where it
        cannot.
    """

    class_V: np.ndarray
    next_SxC: np.ndarray
    steps_S: np.ndarray

    @classmethod
    def of(
        cls,
        classes: Sequence[int],
        table: Sequence[Sequence[int]],
        steps: Sequence[int],
    ) -> "Automaton":
        """Returns an automaton of a table of states, -1 for the state of no return.

        Its sizes are powers of two, so that automata of like sizes share a compilation.
        """
        S, C = len(table) + 1, len(table[0])
        size = tuple(max(16, 1 << (n - 1).bit_length()) for n in (S, C))
        next_SxC = np.full(size, S - 1, np.int32)
        next_SxC[: S - 1, :C] = table
        next_SxC[next_SxC < 0] = S - 1
        steps_S = np.full(size[0], NEVER, np.int32)
        steps_S[: S - 1] = steps
        return cls(np.asarray(classes, np.int32), next_SxC, steps_S)


class Place(NamedTuple):
    """Where each text is.

    Attributes:
      state_B: of the automaton.
      left_B: how many more characters may be drawn.
      ended_B: whether the text has ended.
    """

    state_B: jax.Array
    left_B: jax.Array
    ended_B: jax.Array


def start_of(length: int) -> Place:
    """Returns the place of one text of which nothing is drawn yet."""
    left_1 = jnp.full(1, min(length, NEVER), jnp.int32)
    return Place(jnp.zeros_like(left_1), left_1, jnp.zeros(1, bool))


def allowed(automaton: Automaton, place: Place) -> jax.Array:
    """Returns with which characters each text may go on, `allowed_BxV`."""
    next_BxC = jnp.asarray(automaton.next_SxC)[place.state_B]
    steps_BxC = jnp.asarray(automaton.steps_S)[next_BxC]
    return (steps_BxC < place.left_B[:, None])[:, automaton.class_V]


def may_end(automaton: Automaton, place: Place) -> jax.Array:
    """Returns which texts may end here, `may_end_B`."""
    return jnp.asarray(automaton.steps_S)[place.state_B] == 0


def moved(
    automaton: Automaton, place: Place, ids_B: jax.Array, allowed_BxV: jax.Array
) -> Place:
    """Returns the place after a character, which ends a text that cannot go on so."""
    goes_on_B = jnp.take_along_axis(allowed_BxV, ids_B[:, None], axis=1)[:, 0]
    classes_B = jnp.asarray(automaton.class_V)[ids_B]
    state_B = jnp.asarray(automaton.next_SxC)[place.state_B, classes_B]
    return Place(state_B, place.left_B - 1, place.ended_B | ~goes_on_B)


def stops_after(strings: Sequence[np.ndarray], num_symbols: int) -> Automaton:
    """Returns the automaton of texts that end after the first of some strings in them.

    It is that of Aho and Corasick (1975), https://doi.org/10.1145/360825.360855: a
    state for each beginning of a string, the longest one that the text ends with.

    Args:
      strings: as ids, none of them empty.
      num_symbols: of the vocabulary.
    """
    symbols = np.unique(np.concatenate(strings))
    classes = np.zeros(num_symbols, np.int32)
    classes[symbols] = np.arange(1, len(symbols) + 1)
    children: list[dict[int, int]] = [{}]
    is_stop = [False]
    for string in strings:
        node = 0
        for char in classes[string].tolist():
            if char not in children[node]:
                children[node][char] = len(children)
                children.append({})
                is_stop.append(False)
            node = children[node][char]
        is_stop[node] = True
    table = [[0] * (len(symbols) + 1) for _ in children]
    queue = deque([(0, 0)])  # each beginning, and the longest other one it ends with
    while queue:
        node, shorter = queue.popleft()
        is_stop[node] |= is_stop[shorter]
        if node:
            table[node] = list(table[shorter])
        for char, child in children[node].items():
            queue.append((child, table[shorter][char] if node else 0))
            table[node][char] = child
    for node, stop in enumerate(is_stop):
        if stop:
            table[node] = [-1] * len(table[node])
    return Automaton.of(classes.tolist(), table, [0] * len(table))
