"""A model's weights: their container, their first values, their number."""

import dataclasses
import math
from typing import Any

import jax

from charjax import cells
from charjax.cells import Initializers
from charjax.cells.base import Carry
from charjax.model.spec import ModelSpec, cell_of
from charjax.text.vocab import Vocab
from charjax.unroll.precision import sum_type


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Params:
    """A model: its weights as leaves, its spec and its vocabulary as static parts.

    It goes through `jax.tree.map`, `jax.grad`, `jax.vmap`, a checkpoint,
    `charjax.sample` and `charjax.score` as one object.

    Attributes:
      embedding_VxE: the characters' vectors, or None for one-hot input.
      layers: each layer's cell params, the lowest first.
      readout_HxV: weights of the read-out, or None where it is tied. With
        `spec.skip` they are those of all layers, the lowest first.
      readout_bias_V: its bias.
      spec: what the model is.
      vocab: the characters that the ids mean.
    """

    embedding_VxE: jax.Array | None
    layers: tuple[Any, ...]
    readout_HxV: jax.Array | None
    readout_bias_V: jax.Array
    spec: ModelSpec = dataclasses.field(metadata={"static": True})
    vocab: Vocab = dataclasses.field(metadata={"static": True})


def init(
    key: jax.Array,
    spec: ModelSpec,
    vocab: Vocab,
    *,
    scheme: str = "orthogonal",
    forget_bias: float = 1.0,
) -> Params:
    """Returns a model with its first weights.

    Args:
      key: a `jax.random.key`.
      spec: what the model is.
      vocab: the characters it reads and writes.
      scheme: `'orthogonal'` (recurrent weights orthogonal, the others scaled by their
        fan-in and fan-out, biases zero) or `'uniform'` (all in ±0.08, as in char-rnn).
      forget_bias: first bias of an LSTM's forget gate.

    Raises:
      ConfigError: the scheme is unknown.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
    """
    draw = cells.initializers(scheme, forget_bias)
    key_embedding, key_layers, key_readout, key_bias = jax.random.split(key, 4)
    input_size = spec.embedding_size or len(vocab)
    embedding_shape = len(vocab), spec.embedding_size
    readout_shape = spec.readout_size, len(vocab)
    return Params(
        embedding_VxE=draw.input(key_embedding, embedding_shape, 1)
        if spec.embedding_size
        else None,
        layers=init_layers(key_layers, spec, input_size, draw),
        readout_HxV=None if spec.tied else draw.input(key_readout, readout_shape, 1),
        readout_bias_V=draw.bias(key_bias, len(vocab)),
        spec=spec,
        vocab=vocab,
    )


def init_layers(
    key: jax.Array, spec: ModelSpec, input_size: int, initializers: Initializers
) -> tuple[Any, ...]:
    """Returns each layer's cell params, the lowest first."""
    cell = cell_of(spec)
    sizes = spec.input_sizes(input_size)
    return tuple(
        cell.init(jax.random.fold_in(key, i), size, spec.hidden_size, initializers)
        for i, size in enumerate(sizes)
    )


def initial_carry(params: Params, batch_size: int) -> Carry:
    """Returns the zero state of every layer for a batch of texts."""
    return zero_carries(params.spec, batch_size, sum_type(params.readout_bias_V.dtype))


def zero_carries(spec: ModelSpec, batch_size: int, dtype: Any) -> Carry:
    """Returns the zero state of every layer in a floating-point type."""
    cell = cell_of(spec)
    # Arrays of their own for each layer, so that a jit can be given their memory.
    return tuple(
        cell.initial_carry(batch_size, spec.hidden_size, dtype)
        for _ in range(spec.num_layers)
    )


def readout_weights(params: Params) -> jax.Array:
    """Returns the read-out's `weights_HxV`; where it is tied, the embedding's."""
    if params.readout_HxV is not None:
        return params.readout_HxV
    assert params.embedding_VxE is not None
    return params.embedding_VxE.T


def num_parameters(params: Params) -> dict[str, int]:
    """Returns the number of weights of each part of the model."""
    parts: dict[str, Any] = {"embedding": params.embedding_VxE}
    parts |= {f"layer {i}": layer for i, layer in enumerate(params.layers, start=1)}
    parts["read-out"] = (params.readout_HxV, params.readout_bias_V)
    sizes = {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part))
        for name, part in parts.items()
    }
    return {name: size for name, size in sizes.items() if size}
