"""The loss of a predictor on a split of a text, laid out in lanes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from charjax import parallel
from charjax.cells.base import Carry
from charjax.devices import jit_forward
from charjax.errors import TextError
from charjax.model.forward import forward
from charjax.model.loss import nats
from charjax.model.params import Params, initial_carry
from charjax.predict.predictor import Predictor, predictor_of, read
from charjax.text.streams import Lanes
from charjax.unroll.execution import Execution
from charjax.unroll.precision import sum_type

_CHARACTERS = 1 << 16  # read in one call of a compiled function, over all lanes


def evaluate(
    model: Params | Predictor,
    lanes: Lanes,
    *,
    execution: Execution | None = None,
    mesh: Mesh | None = None,
) -> float:
    """Returns the mean loss over a whole split, in nats a character.

    The state starts from zero and is carried from chunk to chunk in every lane, without
    dropout. Sums over a chunk are float32, sums over chunks float64.

    Args:
      model: a model, or any other predictor.
      lanes: the split (see `charjax.text.streams`).
      execution: how a model runs.
      mesh: devices that share the lanes of a model (see `charjax.parallel`); None for
        one.

    Raises:
      TextError: the split has no chunk.

    Example:
      >>> import charjax, jax
      >>> from charjax.text.streams import split_corpus
      >>> text = "hello world " * 50
      >>> vocab = charjax.Vocab.of(text)
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> split = split_corpus(vocab.encode(text), batch_size=4, seq_length=10,
      ...                      train_frac=0.8, val_frac=0.2).val
      >>> loss = charjax.evaluate(params, split)
    """
    return float(np.mean(chunk_losses(model, lanes, execution=execution, mesh=mesh)))


def chunk_losses(
    model: Params | Predictor,
    lanes: Lanes,
    *,
    most_chunks: int | None = None,
    execution: Execution | None = None,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Returns `nats_KxB`, the mean loss of each chunk of each lane, as float64.

    Args:
      model: a model, or any other predictor.
      lanes: the split.
      most_chunks: read only this many chunks of each lane; all by default.
      execution: how a model runs.
      mesh: as for `evaluate`.

    Raises:
      TextError: the split has no chunk.
    """
    num_chunks = lanes.num_chunks
    if most_chunks is not None:
        num_chunks = min(num_chunks, most_chunks)
    if num_chunks == 0:
        raise TextError(
            "the split to evaluate must have a chunk; got none. Try a longer text."
        )
    if isinstance(model, Params):
        nats_KxB = _of_model(model, lanes, num_chunks, Execution.of(execution), mesh)
    else:
        nats_KxB = _of_any(predictor_of(model, execution), lanes, num_chunks)
    return np.asarray(nats_KxB, np.float64)


def _of_model(
    params: Params,
    lanes: Lanes,
    num_chunks: int,
    execution: Execution,
    mesh: Mesh | None,
) -> np.ndarray:
    """Reads several chunks in one call, the last call in part: one compilation."""
    B, T = lanes.batch_size, lanes.seq_length
    size = max(1, _CHARACTERS // (B * T))
    params = parallel.spread(params, mesh, parallel.WHOLE)
    carry = parallel.spread(initial_carry(params, B), mesh, parallel.LANES)
    parts = []
    for first in range(0, num_chunks, size):
        count = min(size, num_chunks - first)
        window_BxL = lanes.window(first * T, count * T + 1)
        begins_BxL = lanes.begins(first * T, count * T)
        if begins_BxL is not None:
            begins_BxL = np.pad(begins_BxL, ((0, 0), (0, (size - count) * T)))
        ids_BxL = np.zeros((B, size * T + 1), window_BxL.dtype)
        ids_BxL[:, : count * T + 1] = window_BxL
        carry, nats_KxB = _read_chunks(
            params, carry, ids_BxL, begins_BxL, count,
            seq_length=T, execution=execution, mesh=mesh,
        )  # fmt: skip
        parts.append(nats_KxB)  # not waited for: the next call is prepared meanwhile
    return np.concatenate(parts)[:num_chunks]


@partial(jit_forward, static_argnames=("seq_length", "execution", "mesh"))
def _read_chunks(
    params: Params,
    carry: Carry,
    ids_BxL: jax.Array,
    begins_BxL: jax.Array | None,
    count: int,
    *,
    seq_length: int,
    execution: Execution,
    mesh: Mesh | None,
) -> tuple[Carry, jax.Array]:
    """Returns the state after the first `count` chunks, and `nats_KxB` of each."""
    whole, lanes, time_by_lanes = parallel.WHOLE, parallel.LANES, parallel.TIME_BY_LANES
    read = parallel.on_shares(
        partial(_read_share, seq_length=seq_length, execution=execution),
        mesh,
        in_specs=(whole, lanes, time_by_lanes, time_by_lanes, whole),
        out_specs=(lanes, time_by_lanes),
    )
    begins_LxB = None if begins_BxL is None else begins_BxL.T
    return read(params, carry, ids_BxL.T.astype(jnp.int32), begins_LxB, count)


def _read_share(
    params: Params,
    carry: Carry,
    ids_LxB: jax.Array,
    begins_LxB: jax.Array | None,
    count: jax.Array,
    *,
    seq_length: int,
    execution: Execution,
) -> tuple[Carry, jax.Array]:
    max_chunks = (len(ids_LxB) - 1) // seq_length

    def read_one(i: jax.Array, loop: Any) -> Any:
        carry, nats_KxB = loop
        ids_SxB = jax.lax.dynamic_slice_in_dim(ids_LxB, i * seq_length, seq_length + 1)
        begins_TxB = None
        if begins_LxB is not None:
            begins_TxB = jax.lax.dynamic_slice_in_dim(
                begins_LxB, i * seq_length, seq_length
            )
        out = forward(
            params, ids_SxB[:-1], carry, begins_TxB=begins_TxB, execution=execution
        )
        nats_B = jnp.mean(nats(out.logits_TxBxV, ids_SxB[1:]), axis=0)
        return out.carry, nats_KxB.at[i].set(nats_B)

    dtype = sum_type(params.readout_bias_V.dtype)
    nats_KxB = jnp.zeros((max_chunks, ids_LxB.shape[1]), dtype)
    return jax.lax.fori_loop(0, count, read_one, (carry, nats_KxB))


def _of_any(predictor: Predictor, lanes: Lanes, num_chunks: int) -> np.ndarray:
    T = lanes.seq_length
    state = predictor.start(lanes.batch_size)
    nats_KxB = np.empty((num_chunks, lanes.batch_size))
    for chunk in range(num_chunks):
        ids_SxB = lanes.window(chunk * T, T + 1).T
        begins_BxT = lanes.begins(chunk * T, T)
        begins_TxB = None if begins_BxT is None else begins_BxT.T
        state, log_probs_TxBxV = read(predictor, state, ids_SxB[:-1], begins_TxB)
        targets_TxBx1 = ids_SxB[1:, :, None].astype(np.int64)
        chosen = np.take_along_axis(np.asarray(log_probs_TxBxV), targets_TxBx1, axis=-1)
        nats_KxB[chunk] = -chosen[..., 0].mean(axis=0)
    return nats_KxB
