"""The forward pass: characters in, logits, layer outputs and the next state out.

Training, scoring, sampling and interpretation all go through `forward`. A single step
is the pass with T = 1.

Characters become vectors in one place, here. The first layer's `project` needs no
carry, so its results for all V characters make a table `z_VxGH`, and a character's
input is a row of that table. With one-hot characters the table costs nothing: the
identity matrix times the weights is the weights.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry, add_bias
from charjax.cells.wrap import AnewInput, Share, starting_anew, with_masks
from charjax.errors import ConfigError, check_type
from charjax.model.noise import Keys, Noise, dropout, noisy_weights, split_key
from charjax.model.params import Params, initial_carry, readout_weights
from charjax.model.spec import ModelSpec, cell_of
from charjax.unroll import choose
from charjax.unroll.execution import Execution
from charjax.unroll.precision import matmul_in

Unroll = Callable[..., tuple[Carry, jax.Array]]


class Output(NamedTuple):
    """The results of a forward pass.

    Attributes:
      logits_TxBxV: of the character after each one read.
      layers: each layer's outputs `h_TxBxH`, the lowest first, before dropout.
      dropped_TxBxH: what the read-out reads: the last layer's outputs after dropout,
        with `spec.residual` the sum of all layers', with `spec.skip` all side by side.
      carry: each layer's state after the last character.
    """

    logits_TxBxV: jax.Array
    layers: tuple[jax.Array, ...]
    dropped_TxBxH: jax.Array
    carry: Carry


def apply(
    params: Params,
    ids_BxT: jax.Array,
    carry: Carry | None = None,
    *,
    noise: Noise | None = None,
    key: jax.Array | None = None,
    execution: Execution | None = None,
) -> tuple[jax.Array, Carry]:
    """Returns the logits of each next character, and the state after the last one.

    Args:
      params: the model.
      ids_BxT: characters as ids of `params.vocab`, any integer type.
      carry: the state before the first one; zero by default.
      noise: what only training does; none by default.
      key: a `jax.random.key` from which the noise is drawn.
      execution: how the model runs.

    Returns:
      `logits_BxTxV`, where `[:, t]` predicts the character after `ids[:, t]`, and the
      carry to pass in with the text that follows.

    Raises:
      ConfigError: there is noise without a key or that the model has no place for, or
        the carry has another number of layers.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> logits, carry = charjax.apply(params, vocab.encode("hello")[None])
      >>> logits.shape
      (1, 5, 8)
    """
    noise, execution = check_static(noise, execution)
    return _apply(params, jnp.asarray(ids_BxT), carry, key, noise, execution)


# Jitted so that a call outside a jit does not trace and compile its loops each time.
@partial(jax.jit, static_argnames=("noise", "execution"))
def _apply(
    params: Params,
    ids_BxT: jax.Array,
    carry: Carry | None,
    key: jax.Array | None,
    noise: Noise | None,
    execution: Execution | None,
) -> tuple[jax.Array, Carry]:
    out = forward(params, ids_BxT.T, carry, noise=noise, key=key, execution=execution)
    return jnp.swapaxes(out.logits_TxBxV, 0, 1), out.carry


def forward(
    params: Params,
    ids_TxB: jax.Array,
    carry: Carry | None = None,
    *,
    begins_TxB: jax.Array | None = None,
    noise: Noise | None = None,
    key: jax.Array | None = None,
    execution: Execution | None = None,
    segment: Any = None,
    share: Share | None = None,
    table_VxGH: Any = None,
    unroll: Unroll = choose.unroll,
) -> Output:
    """Returns logits, layer outputs and state, time first.

    Args:
      params: the model.
      ids_TxB: characters as ids of `params.vocab`.
      carry: the state before the first; zero by default.
      begins_TxB: true for a character that is read from the zero state; none by
        default.
      noise: what only training does; none by default.
      key: a `jax.random.key` from which the noise is drawn.
      execution: how the model runs.
      segment: which part of a chunk this is, if the key is that of the whole chunk.
      share: which texts of a batch these are; None for all.
      table_VxGH: `input_table(params)`, for callers that read one character at a time
        and compute it before their loop.
      unroll: the strategy that runs each layer over time.

    Raises:
      ConfigError: there is noise without a key or that the model has no place for, or
        the carry has another number of layers.
    """
    noise, execution = check_static(noise, execution)
    if carry is None:
        carry = initial_carry(params, ids_TxB.shape[1])
    params, noise = noisy_weights(params, noise, key)
    has_embedding = params.embedding_VxE is not None
    keys = split_key(
        noise, key, has_embedding=has_embedding, segment=segment, share=share
    )
    noise = noise or Noise()
    if table_VxGH is None and not _reads_vectors(params, noise, ids_TxB.size):
        table_VxGH = input_table(params, execution)
    matmul = matmul_in(execution.precision)
    x_TxBxD: Any = None
    if table_VxGH is None or params.spec.skip:
        x_TxBxD = jnp.take(_vectors(params), ids_TxB, axis=0)
        rate, mode = noise.embedding_dropout, noise.dropout_mode
        if keys.embedding is not None:
            x_TxBxD = dropout(x_TxBxD, keys.embedding, rate, mode, share)
    if table_VxGH is not None:
        z_TxBxGH = jax.tree.map(lambda z: jnp.take(z, ids_TxB, axis=0), table_VxGH)
    else:
        z_TxBxGH = cell_of(params.spec).project(params.layers[0], x_TxBxD, matmul)
    h_TxBxH, layers, carry = run_layers(
        *(params.layers, params.spec, x_TxBxD, z_TxBxGH, carry, noise, keys),
        *(execution, unroll, begins_TxB),
    )
    logits_TxBxV = add_bias(
        matmul(h_TxBxH, readout_weights(params)), params.readout_bias_V
    )
    return Output(logits_TxBxV, layers, h_TxBxH, carry)


def step(
    params: Params,
    ids_B: jax.Array,
    carry: Carry,
    table_VxGH: Any,
    execution: Execution | None = None,
    begins_B: jax.Array | None = None,
) -> tuple[jax.Array, Carry]:
    """Returns `logits_BxV` after one more character of each text, and the state."""
    begins_1xB = None if begins_B is None else begins_B[None]
    out = forward(
        *(params, ids_B[None], carry),
        begins_TxB=begins_1xB,
        table_VxGH=table_VxGH,
        execution=execution,
    )
    return out.logits_TxBxV[0], out.carry


def run_layers(
    layers: tuple[Any, ...],
    spec: ModelSpec,
    x_TxBxD: jax.Array | None,
    z_TxBxGH: Any,
    carry: Carry,
    noise: Noise,
    keys: Keys,
    execution: Execution,
    unroll: Unroll = choose.unroll,
    begins_TxB: jax.Array | None = None,
) -> tuple[jax.Array, tuple[jax.Array, ...], Carry]:
    """Runs the stack of layers over time.

    Args:
      layers: each layer's cell params, the lowest first.
      spec: what the layers are.
      x_TxBxD: the characters' vectors, which `spec.skip` needs.
      z_TxBxGH: the projected input of the first layer.
      carry: each layer's state before the first step.
      noise: dropout after each layer.
      keys: draw its masks, and those of zoneout.
      execution: how the layers run.
      unroll: the strategy that runs each layer over time.
      begins_TxB: as for `forward`.

    Returns:
      What the read-out reads (see `Output`), each layer's outputs before dropout, and
      each layer's state after the last step.
    """
    if len(carry) != len(layers):
        raise ConfigError(
            f"carry must have {len(layers)} layers, as the model; got {len(carry)}. "
            "Try charjax.initial_carry(params, batch_size)."
        )
    cell, matmul = cell_of(spec), matmul_in(execution.precision)
    carries, outputs, read = [], [], []
    for i, (layer, layer_carry) in enumerate(zip(layers, carry, strict=True)):
        z = z_TxBxGH
        if i > 0:
            below = [read[-1], x_TxBxD] if spec.skip else read[-1:]
            z = cell.project(layer, _side_by_side(below), matmul)
        if keys.zoneout is not None and spec.zoneout:
            key_layer = jax.random.fold_in(keys.zoneout, i)
            z = with_masks(z, layer_carry, key_layer, spec.zoneout, keys.share)
        runs = cell
        if begins_TxB is not None:
            runs, z = starting_anew(cell, spec.hidden_size), AnewInput(z, begins_TxB)
        layer_carry, h_TxBxH = unroll(runs, layer, layer_carry, z, execution)
        carries.append(layer_carry)
        outputs.append(h_TxBxH)
        if keys.layers is not None:
            key_layer = jax.random.fold_in(keys.layers, i)
            rate, mode = noise.dropout, noise.dropout_mode
            h_TxBxH = dropout(h_TxBxH, key_layer, rate, mode, keys.share)
        read.append(read[-1] + h_TxBxH if spec.residual and read else h_TxBxH)
    x_TxBxH = _side_by_side(read if spec.skip else read[-1:])
    return x_TxBxH, tuple(outputs), tuple(carries)


def input_table(params: Params, execution: Execution | None = None) -> Any:
    """Returns the first layer's projected input for each character, `z_VxGH`."""
    matmul = matmul_in(Execution.of(execution).precision)
    x_VxD, is_one_hot = _vectors(params), params.embedding_VxE is None

    def select(x: jax.Array, w: jax.Array) -> jax.Array:
        # The product with the identity is known, and V times smaller than computed.
        return w if is_one_hot and x is x_VxD and w.ndim == 2 else matmul(x, w)

    return cell_of(params.spec).project(params.layers[0], x_VxD, select)


def _vectors(params: Params) -> jax.Array:
    """Returns the vector of each character: of the embedding, or one-hot."""
    if params.embedding_VxE is not None:
        return params.embedding_VxE
    return jnp.eye(len(params.vocab), dtype=params.readout_bias_V.dtype)


def _side_by_side(x_TxBxH: Sequence[Any]) -> jax.Array:
    return x_TxBxH[0] if len(x_TxBxH) == 1 else jnp.concatenate(x_TxBxH, axis=-1)


def check_static(
    noise: Noise | None, execution: Execution | None
) -> tuple[Noise | None, Execution]:
    """Returns the static arguments, checked before a jit has to hash them.

    Raises:
      ConfigError: one is of another type.
    """
    if noise is not None:
        check_type("noise", noise, Noise, "noise=charjax.Noise(dropout=0.5)")
    return noise, Execution.of(execution)


def _reads_vectors(params: Params, noise: Noise, num_ids: int) -> bool:
    """Whether to project each character's vector instead of a table of all V.

    Dropout makes the vectors of equal characters differ, and a table of more rows than
    there are characters to read is more work.
    """
    if params.embedding_VxE is None:
        return False
    return bool(noise.embedding_dropout) or len(params.vocab) > num_ids
