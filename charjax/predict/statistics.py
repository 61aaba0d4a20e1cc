"""How large the gradients of each weight are on a text, for dynamic evaluation."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from charjax.devices import jit_forward
from charjax.errors import TextError
from charjax.model.params import Params, initial_carry
from charjax.predict.dynamic_rule import DynamicRule
from charjax.predict.learning import gradient_of
from charjax.predict.ngram import checked_ids
from charjax.unroll.execution import Execution


def gather_statistics(
    params: Params,
    ids: np.ndarray,
    *,
    begins: np.ndarray | None = None,
    chunk_length: int = DynamicRule.chunk_length,
    execution: Execution | None = None,
) -> Params:
    """Returns the root mean square of the gradient of each weight.

        r = sqrt(mean_c g_c^2)

    with g_c the gradient of the mean loss of chunk c, as `charjax.Dynamic` takes it.

    Args:
      params: the trained model.
      ids: training text as ids of `params.vocab`, along the last axis. Other axes hold
        texts that do not continue each other. Some ten thousand characters are enough,
        if they come from many places.
      begins: true where a document begins, in the shape of the ids.
      chunk_length: characters a chunk. What does not fill a chunk is left out.
      execution: how the model runs.

    Returns:
      The root mean squares, in the form of the params.

    Raises:
      TextError: ids are not of the vocabulary, or have no chunk and a character more.

    Example:
      >>> import charjax, jax
      >>> text = "hello world " * 50
      >>> vocab = charjax.Vocab.of(text)
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> stats = charjax.gather_statistics(params, vocab.encode(text))
      >>> stats.readout_bias_V.shape
      (8,)
    """
    chunk_length = DynamicRule(chunk_length=chunk_length).chunk_length
    ids_LxT = _checked(ids, len(params.vocab), chunk_length)
    begins_LxT = None if begins is None else begins.reshape(ids_LxT.shape)
    return _root_mean_squares(
        *(params, ids_LxT, begins_LxT),
        chunk_length=chunk_length,
        execution=Execution.of(execution),
    )


@partial(jit_forward, static_argnames=("chunk_length", "execution"))
def _root_mean_squares(
    params: Params,
    ids_LxT: jax.Array,
    begins_LxT: jax.Array | None,
    *,
    chunk_length: int,
    execution: Execution,
) -> Params:
    num_chunks = (ids_LxT.shape[1] - 1) // chunk_length

    def read_text(total: Params, text: Any) -> tuple[Params, None]:
        def read_chunk(i: jax.Array, loop: Any) -> Any:
            carry, total = loop
            ids_S, begins_S = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(
                    x, i * chunk_length, chunk_length + 1
                ),
                text,
            )
            begins_T = None if begins_S is None else begins_S[:-1]
            gradient, carry, _ = gradient_of(
                params, carry, ids_S[:-1], ids_S[1:], execution, begins_T
            )
            return carry, jax.tree.map(lambda t, g: t + g * g, total, gradient)

        loop = initial_carry(params, 1), total
        return jax.lax.fori_loop(0, num_chunks, read_chunk, loop)[1], None

    nothing = jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(read_text, nothing, (ids_LxT, begins_LxT))
    count = len(ids_LxT) * num_chunks
    return jax.tree.map(lambda t: jnp.sqrt(t / count), total)


def _checked(ids: np.ndarray, vocab_size: int, chunk_length: int) -> np.ndarray:
    """Returns ids as int32, with one axis of texts and one of characters."""
    ids = checked_ids(ids, vocab_size)
    if ids.size == 0 or ids.shape[-1] <= chunk_length:
        raise TextError(
            f"the text must have a chunk and a character more, {chunk_length + 1} "
            f"characters; got ids of shape {ids.shape}. Try a longer text."
        )
    return ids.reshape(-1, ids.shape[-1])
