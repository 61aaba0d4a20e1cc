"""States, gates, areas and predicates, one character or one pair at a time."""

import jax
import jax.numpy as jnp
import numpy as np

import charjax
from tests.oracles.recurrence import sigmoid

apply = jax.jit(charjax.apply)


def carries(params, ids):
    """The carry after each character: T tuples of layers."""
    carry, found = charjax.initial_carry(params, 1), []
    for i in ids:
        _, carry = apply(params, jnp.array([[i]], jnp.int32), carry)
        found.append(jax.tree.map(np.asarray, carry))
    return found


def gates(params, ids):
    """Each layer's gates at each character by the cell's equations: T lists."""
    before = jax.tree.map(np.asarray, charjax.initial_carry(params, 1))
    found = []
    for i, after in zip(ids, carries(params, ids), strict=True):
        x = np.eye(len(params.vocab))[i]
        if params.embedding_VxE is not None:
            x = np.asarray(params.embedding_VxE)[i]
        layers = []
        for layer, old, new in zip(params.layers, before, after, strict=True):
            h, x_after = getattr(old, "h_BxH", old)[0], getattr(new, "h_BxH", new)[0]
            layers.append(_GATES[params.spec.cell](layer, x, h))
            x = x_after
        found.append(layers)
        before = after
    return found


def _lstm(p, x, h):
    a = x @ p.input_DxGH + h @ p.recurrent_HxGH + p.bias_GH
    i, f, _, o = np.split(sigmoid(a), 4)
    return {"input": i, "forget": f, "output": o}


def _gru(p, x, h):
    u = p.recurrent_Hx2H if hasattr(p, "recurrent_Hx2H") else p.recurrent_HxGH
    size = 2 * len(h)
    a = (x @ p.input_DxGH + p.bias_GH)[:size] + (h @ u)[:size]
    return dict(zip(("reset", "update"), np.split(sigmoid(a), 2), strict=True))


_GATES = {
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_before": _gru,
    "rnn": lambda p, x, h: {},
}


def area(values, truth):
    """The share of pairs (true, false) in which the true one is higher; ties half."""
    pairs = [
        (a > b) + (a == b) / 2 for a in values[truth] for b in values[np.invert(truth)]
    ]
    return sum(pairs) / len(pairs)


def inside_quotes(text):
    inside, found = False, []
    for i, character in enumerate(text):
        if character in '"“”':
            inside = not inside
        if text[max(i - 1, 0) : i + 1] == "\n\n":
            inside = False
        found.append(inside)
    return found


def position_in_line(text):
    position, found = 0, []
    for character in text:
        position = 0 if character == "\n" else position + 1
        found.append(position)
    return found


def bracket_depth(text):
    depth, found = 0, []
    for character in text:
        if character in "([{":
            depth += 1
        if character in ")]}":
            depth = max(depth - 1, 0)
        found.append(depth)
    return found


def line_ends_in_colon(text):
    found = []
    for line in text.split("\n"):
        found += [line.endswith(":")] * len(line) + [False]
    return found[:-1]


def indentation(text):
    found = []
    for line in text.split("\n"):
        leading = len(line) - len(line.lstrip(" \t"))
        found += [min(i + 1, leading) for i in range(len(line))] + [0]
    return found[:-1]


def capital_word(text):
    found, word = [], ""
    for character in text + " ":
        if character.isalpha():
            word += character
            continue
        capital = len(word) >= 2 and all(letter.isupper() for letter in word)
        found += [capital] * len(word) + [False]
        word = ""
    return found[:-1]


def consecutive_newlines(text):
    run, found = 0, []
    for character in text:
        run = run + 1 if character == "\n" else 0
        found.append(run)
    return found


PREDICATES = {
    "inside quotes": inside_quotes,
    "position in line": position_in_line,
    "bracket depth": bracket_depth,
    "line that ends in a colon": line_ends_in_colon,
    "indentation": indentation,
    "capital word": capital_word,
    "consecutive newlines": consecutive_newlines,
}
