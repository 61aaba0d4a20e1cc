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
    """Returns the mean loss over a whole split, in nats a character that counts.

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

    Where only some characters count (see `Lanes.counts`) it is the sum over those in
    the chunk, divided by how many there are in the mean chunk.

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
    counts_BxL = lanes.counts(0, num_chunks * lanes.seq_length)
    share = 1.0 if counts_BxL is None else counts_BxL.mean()
    return np.asarray(nats_KxB, np.float64) / share


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
    lanes = lanes.part(parallel.lanes_here(B, mesh))
    parts = []
    for first in range(0, num_chunks, size):
        count = min(size, num_chunks - first)
        pad = partial(np.pad, pad_width=((0, 0), (0, (size - count) * T)))
        read = (
            lanes.window(first * T, count * T + 1),
            *(mark(first * T, count * T) for mark in (lanes.begins, lanes.counts)),
        )
        ids_BxL, *marks = parallel.join(jax.tree.map(pad, read), mesh)
        carry, nats_KxB = _read_chunks(
            params, carry, ids_BxL, marks, count,
            seq_length=T, execution=execution, mesh=mesh,
        )  # fmt: skip
        parts.append(nats_KxB)  # not waited for: the next call is prepared meanwhile
    return np.concatenate(parallel.gather(parts, mesh))[:num_chunks]


@partial(jit_forward, static_argnames=("seq_length", "execution", "mesh"))
def _read_chunks(
    params: Params,
    carry: Carry,
    ids_BxL: jax.Array,
    marks: Any,
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
    marks = jax.tree.map(jnp.transpose, marks)
    return read(params, carry, ids_BxL.T.astype(jnp.int32), marks, count)


def _read_share(
    params: Params,
    carry: Carry,
    ids_LxB: jax.Array,
    marks: Any,
    count: jax.Array,
    *,
    seq_length: int,
    execution: Execution,
) -> tuple[Carry, jax.Array]:
    max_chunks = (len(ids_LxB) - 1) // seq_length

    def read_one(i: jax.Array, loop: Any) -> Any:
        carry, nats_KxB = loop
        ids_SxB = jax.lax.dynamic_slice_in_dim(ids_LxB, i * seq_length, seq_length + 1)
        begins_TxB, counts_TxB = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, i * seq_length, seq_length), marks
        )
        out = forward(
            params, ids_SxB[:-1], carry, begins_TxB=begins_TxB, execution=execution
        )
        nats_TxB = nats(out.logits_TxBxV, ids_SxB[1:])
        nats_TxB = nats_TxB if counts_TxB is None else counts_TxB * nats_TxB
        return out.carry, nats_KxB.at[i].set(jnp.mean(nats_TxB, axis=0))

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
        counts_BxT = lanes.counts(chunk * T, T)
        log_probs_TxB = chosen[..., 0]
        if counts_BxT is not None:
            log_probs_TxB = np.where(counts_BxT.T, log_probs_TxB, 0.0)
        nats_KxB[chunk] = -log_probs_TxB.mean(axis=0)
    return nats_KxB
