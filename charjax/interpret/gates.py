"""How often the gates of a model are shut or open."""

from typing import Any, NamedTuple

import jax
import numpy as np

from charjax.interpret.activations import encode, pieces
from charjax.model.params import Params


class Saturation(NamedTuple):
    """How often a layer's gates are shut or open.

    Attributes:
      low_H: the share of characters at which each is below 0.1.
      high_H: the share at which it is above 0.9.
    """

    low_H: np.ndarray
    high_H: np.ndarray


def gate_saturation(
    params: Params, text: str | bytes
) -> tuple[dict[str, Saturation], ...]:
    """Returns how often each gate is shut (below 0.1) or open (above 0.9), by layer.

    A forget gate that is always open is a counter or a perfect memory; one that is
    always shut makes its unit a feed-forward one (section 4.2 of the paper).

    Args:
      params: the model.
      text: the text that the model reads.

    Returns:
      For each layer, the lowest first, its gates by name; none for a cell without.

    Raises:
      TextError: the text is empty or holds an unknown character.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> low, high = charjax.gate_saturation(params, "hello world")
      >>> low["forget"].high_H.shape
      (128,)
    """
    ids = encode(params, text, at_least=1)
    counts: Any = None
    for _, piece in pieces(params, ids):
        found = tuple(
            {
                name: Saturation((a_PxH < 0.1).sum(axis=0), (a_PxH > 0.9).sum(axis=0))
                for name, a_PxH in layer.gates.items()
            }
            for layer in piece
        )
        counts = found if counts is None else jax.tree.map(np.add, counts, found)
    return jax.tree.map(lambda count_H: count_H / len(ids), counts)
