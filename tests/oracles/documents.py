"""Documents, found and read one by one, as slow and simple as can be."""

import jax.numpy as jnp

import charjax

SCAN = charjax.Execution(unroll="scan")  # no kernel to compile


def documents_of(text, end):
    """The documents of a text, each with its end; the last may have none."""
    found, start, place = [], 0, 0
    while place < len(text):
        here = text.startswith(end, place)
        later = any(text.startswith(end, place + k) for k in range(1, len(end)))
        place += 1
        if here and not later:
            found.append(text[start : place - 1 + len(end)])
            start = place - 1 + len(end)
    return [*found, text[start:]] if text[start:] else found


def total_nats(params, text, end):
    """The sum of -log p over all characters, each document read from the zero state."""
    total = 0.0
    for document in documents_of(text, end):
        ids = jnp.asarray(params.vocab.encode(end[-1] + document), jnp.int32)[None]
        nats, _ = charjax.loss(params, ids[:, :-1], ids[:, 1:], execution=SCAN)
        total += nats * len(document)
    return total
