"""Documents, found and read one by one, as slow and simple as can be."""

import jax
import jax.numpy as jnp
import numpy as np

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
    """The sum of -log p over all characters, each document read from the zero state.

    Documents are the lanes of a batch; what is read after their ends does not count.
    """
    documents = documents_of(text, end)
    lengths = np.array([len(document) for document in documents])
    ids = np.zeros((len(documents), lengths.max() + 1), np.int32)
    for row, document in zip(ids, documents, strict=True):
        row[: len(document) + 1] = params.vocab.encode(end[-1] + document)
    logits, _ = charjax.apply(params, ids[:, :-1], execution=SCAN)
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs, ids[:, 1:, None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(np.arange(lengths.max()) < lengths[:, None], chosen, 0.0))
