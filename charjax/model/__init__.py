"""The model as pure functions of `Params`: embedding, recurrent layers, read-out."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from charjax import cells
from charjax.cells import Initializers
from charjax.cells.base import Carry
from charjax.devices import KERNELS
from charjax.errors import ConfigError, did_you_mean
from charjax.text.vocab import Vocab
from charjax.unroll.precision import DTYPES, matmul_in, sum_type
from charjax.unroll.scan import unroll

DROPOUT_MODES = ("each_step", "locked")
INIT_SCHEMES = ("orthogonal", "uniform")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What a model is, apart from its weights.

    Attributes:
      cell: a registered cell's name.
      hidden_size: units a layer.
      num_layers: recurrent layers, one over the other.
      embedding_size: width of the learned embedding; 0 feeds one-hot characters.
      tied: the read-out uses the embedding's weights (embedding_size = hidden_size).
      dropout: share of units silenced in training, on the input of every layer but
        the first and on the output of the last.
      dropout_mode: `'each_step'` draws a mask a time step, `'locked'` one a sequence
        (https://arxiv.org/abs/1512.05287).
      embedding_dropout: the same on the embedded characters.
      dtype: precision of the products, `'float32'` or `'bfloat16'`; weights and
        states are float32 in both.
      kernel: what runs the recurrence, `'auto'`, `'scan'` or `'native'` (see
        `charjax.devices.find_kernel`); no checkpoint keeps it.

    Raises:
      ConfigError: a value is out of range, or two do not go together.
    """

    cell: str = "lstm"
    hidden_size: int = 128
    num_layers: int = 2
    embedding_size: int = 0
    tied: bool = False
    dropout: float = 0.0
    dropout_mode: str = "each_step"
    embedding_dropout: float = 0.0
    dtype: str = "float32"
    kernel: str = "auto"

    def __post_init__(self) -> None:
        cells.get(self.cell)
        _at_least("hidden_size", self.hidden_size, 1)
        _at_least("num_layers", self.num_layers, 1)
        _at_least("embedding_size", self.embedding_size, 0)
        for name in ("dropout", "embedding_dropout"):
            rate = getattr(self, name)
            if not 0 <= rate < 1:
                raise ConfigError(f"model.{name} is a share in [0, 1), not {rate}")
        check_choice("model.dropout_mode", self.dropout_mode, DROPOUT_MODES)
        check_choice("model.dtype", self.dtype, DTYPES)
        check_choice("model.kernel", self.kernel, KERNELS)
        if self.tied and self.embedding_size != self.hidden_size:
            raise ConfigError(
                "model.tied shares the embedding with the read-out, so "
                f"embedding_size ({self.embedding_size}) must equal hidden_size "
                f"({self.hidden_size})"
            )
        if self.embedding_dropout and not self.embedding_size:
            raise ConfigError(
                "model.embedding_dropout needs an embedding: set model.embedding_size"
            )


class Params(struct.PyTreeNode):
    """A model: its weights as leaves, its spec and its vocabulary as static parts.

    One object goes through `jax.tree.map`, `jax.grad`, `jax.vmap`, a checkpoint,
    `charjax.sample` and `charjax.score`.

    Attributes:
      embedding_VxE: the characters' vectors, or None for one-hot input.
      layers: each layer's cell params, the lowest first.
      readout_HxV: weights of the read-out, or None where it is tied.
      readout_bias_V: its bias.
      spec: what the model is.
      vocab: the characters that the ids stand for.
    """

    embedding_VxE: jax.Array | None
    layers: tuple[Any, ...]
    readout_HxV: jax.Array | None
    readout_bias_V: jax.Array
    spec: ModelSpec = struct.field(pytree_node=False)
    vocab: Vocab = struct.field(pytree_node=False)


def init(
    key: jax.Array,
    spec: ModelSpec,
    vocab: Vocab,
    *,
    scheme: str = "orthogonal",
    forget_bias: float = 1.0,
) -> Params:
    """Returns a model with fresh weights.

    Args:
      key: a `jax.random.key`.
      spec: what the model is.
      vocab: the characters it reads and writes.
      scheme: `'orthogonal'` (recurrent weights orthogonal, the others scaled by their
        fan-in and fan-out, biases zero) or `'uniform'` (all in ±0.08, as char-rnn).
      forget_bias: first bias of an LSTM's forget gate.

    Raises:
      ConfigError: the scheme is unknown.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
    """
    draw = initializers(scheme, forget_bias)
    key_embedding, key_layers, key_readout, key_bias = jax.random.split(key, 4)
    input_size = spec.embedding_size or len(vocab)
    embedding_shape = len(vocab), spec.embedding_size
    readout_shape = spec.hidden_size, len(vocab)
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


def initializers(scheme: str, forget_bias: float = 1.0) -> Initializers:
    """Returns how weights are first drawn, by the scheme's name (see `init`)."""
    check_choice("model.init", scheme, INIT_SCHEMES)
    if scheme == "uniform":

        def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, minval=-0.08, maxval=0.08)

        def weights(key: jax.Array, shape: tuple[int, int], gates: int) -> jax.Array:
            return uniform(key, (shape[0], gates * shape[1]))

        return Initializers(
            weights, weights, lambda key, size: uniform(key, (size,)), forget_bias
        )

    def by_gate(draw: Any) -> Any:
        def weights(key: jax.Array, shape: tuple[int, int], gates: int) -> jax.Array:
            keys = jax.random.split(key, gates)
            return jnp.concatenate([draw(k, shape) for k in keys], axis=1)

        return weights

    return Initializers(
        by_gate(jax.nn.initializers.glorot_uniform()),
        by_gate(jax.nn.initializers.orthogonal()),
        lambda key, size: jnp.zeros(size),
        forget_bias,
    )


def initial_carry(params: Params, batch_size: int) -> Carry:
    """Returns the zero state of every layer, for so many texts side by side."""
    cell = cells.get(params.spec.cell)
    dtype = sum_type(params.readout_bias_V.dtype)
    return tuple(
        cell.initial_carry(batch_size, params.spec.hidden_size, dtype)
        for _ in params.layers
    )


def apply(
    params: Params,
    ids_BxT: jax.Array,
    carry: Carry | None = None,
    *,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Carry]:
    """Returns the logits of each next character, and the state after the last one.

    Args:
      params: the model.
      ids_BxT: characters as ids of `params.vocab`, any integer type.
      carry: the state before the first one; zero by default.
      key: draws dropout masks; without it nothing is dropped.

    Returns:
      `logits_BxTxV`, where `[:, t]` speaks of the character after `ids[:, t]`, and the
      carry to hand in with the text that follows.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> logits, carry = charjax.apply(params, vocab.encode("hello")[None])
      >>> logits.shape
      (1, 5, 8)
    """
    ids_TxB = jnp.asarray(ids_BxT).T
    logits_TxBxV, carry = logits(params, ids_TxB, carry, key)
    return jnp.swapaxes(logits_TxBxV, 0, 1), carry


def loss(
    params: Params,
    x_BxT: jax.Array,
    y_BxT: jax.Array,
    carry: Carry | None = None,
    *,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Carry]:
    """Returns the mean loss in nats a character, and the state after the last one.

    Args:
      params: the model.
      x_BxT: characters as ids.
      y_BxT: the character after each.
      carry: the state before the first; zero by default.
      key: draws dropout masks; without it nothing is dropped.
    """
    logits_TxBxV, carry = logits(params, jnp.asarray(x_BxT).T, carry, key)
    return mean_nats(logits_TxBxV, jnp.asarray(y_BxT).T), carry


def mean_nats(logits_TxBxV: jax.Array, y_TxB: jax.Array) -> jax.Array:
    """Returns the mean of `-log softmax(logits)[y]`."""
    log_norm = jax.nn.logsumexp(logits_TxBxV, axis=-1)
    y_TxBx1 = y_TxB[..., None].astype(jnp.int32)
    chosen = jnp.take_along_axis(logits_TxBxV, y_TxBx1, axis=-1)
    return jnp.mean(log_norm - chosen[..., 0])


def logits(
    params: Params, ids_TxB: jax.Array, carry: Carry | None, key: jax.Array | None
) -> tuple[jax.Array, Carry]:
    """Returns `apply`'s results time-major, as the recurrence makes them."""
    spec = params.spec
    if carry is None:
        carry = initial_carry(params, ids_TxB.shape[1])
    x = ids_TxB
    if params.embedding_VxE is not None:
        x = jnp.take(params.embedding_VxE, x, axis=0)
        if key is not None:
            key, key_embedding = jax.random.split(key)
            rate = spec.embedding_dropout
            x = _dropout(x, key_embedding, rate, spec.dropout_mode)
    h_TxBxH, carry = run_layers(params.layers, spec, x, carry, key)
    return read_out(params, h_TxBxH), carry


def init_layers(
    key: jax.Array, spec: ModelSpec, input_size: int, initializers: Initializers
) -> tuple[Any, ...]:
    """Returns each layer's cell params, the lowest first."""
    cell = cells.get(spec.cell)
    sizes = [input_size] + [spec.hidden_size] * (spec.num_layers - 1)
    return tuple(
        cell.init(jax.random.fold_in(key, i), size, spec.hidden_size, initializers)
        for i, size in enumerate(sizes)
    )


def run_layers(
    layers: tuple[Any, ...],
    spec: ModelSpec,
    x_TxBxD: jax.Array,
    carry: Carry,
    key: jax.Array | None,
) -> tuple[jax.Array, Carry]:
    """Returns the last layer's `h_TxBxH`, and every layer's state after it.

    Args:
      layers: each layer's cell params.
      spec: what the layers are.
      x_TxBxD: the input, or ids for one-hot input.
      carry: each layer's state before the first step.
      key: draws dropout masks; without it nothing is dropped.
    """
    if len(carry) != len(layers):
        raise ConfigError(
            f"carry holds {len(carry)} layers where the model has {len(layers)}"
        )
    cell, matmul = cells.get(spec.cell), matmul_in(spec.dtype)
    x: Any = x_TxBxD
    carries = []
    for i, (layer, layer_carry) in enumerate(zip(layers, carry, strict=True)):
        z_TxBxGH = cell.project(layer, x, matmul)
        unrolled: Any = unroll(
            cell, spec.dtype, layer, layer_carry, z_TxBxGH, kernel=spec.kernel
        )
        layer_carry, x = unrolled
        carries.append(layer_carry)
        if key is not None:
            layer_key = jax.random.fold_in(key, i)
            x = _dropout(x, layer_key, spec.dropout, spec.dropout_mode)
    return x, tuple(carries)


def read_out(params: Params, h: jax.Array) -> jax.Array:
    """Returns the logits `h W + b` for outputs of the last layer, any leading axes."""
    weights_HxV = readout_weights(params)
    return matmul_in(params.spec.dtype)(h, weights_HxV) + params.readout_bias_V


def readout_weights(params: Params) -> jax.Array:
    """Returns the read-out's `weights_HxV`; where it is tied, the embedding's."""
    if params.readout_HxV is not None:
        return params.readout_HxV
    assert params.embedding_VxE is not None
    return params.embedding_VxE.T


def first_inputs(params: Params) -> Any:
    """Returns the first layer's projected input for each character, `z_VxGH`."""
    x = params.embedding_VxE
    if x is None:
        x = jnp.arange(len(params.vocab))
    project = cells.get(params.spec.cell).project
    return project(params.layers[0], x, matmul_in(params.spec.dtype))


def step(params: Params, ids_B: jax.Array, carry: Carry) -> tuple[jax.Array, Carry]:
    """Returns `logits_BxV` after one more character of each text, and the state."""
    cell, matmul = cells.get(params.spec.cell), matmul_in(params.spec.dtype)
    x = ids_B
    if params.embedding_VxE is not None:
        x = jnp.take(params.embedding_VxE, x, axis=0)
    carries = []
    for layer, layer_carry in zip(params.layers, carry, strict=True):
        z_BxGH = cell.project(layer, x, matmul)
        layer_carry, x = cell.step(layer, layer_carry, z_BxGH, matmul)
        carries.append(layer_carry)
    return read_out(params, x), tuple(carries)


def num_parameters(params: Params) -> dict[str, int]:
    """Returns how many weights each part of the model has."""
    parts: dict[str, Any] = {"embedding": params.embedding_VxE}
    parts |= {f"layer {i}": layer for i, layer in enumerate(params.layers, start=1)}
    parts["read-out"] = (params.readout_HxV, params.readout_bias_V)
    sizes = {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part))
        for name, part in parts.items()
    }
    return {name: size for name, size in sizes.items() if size}


def _dropout(x_TxBxH: jax.Array, key: jax.Array, rate: float, mode: str) -> jax.Array:
    """Silences a share of the units and scales the others up to keep the mean."""
    shape = x_TxBxH.shape if mode == "each_step" else (1, *x_TxBxH.shape[1:])
    if rate == 0:
        return x_TxBxH
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(keep, x_TxBxH / (1 - rate), 0)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"model.{name} must be at least {least}, not {value}")


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises a ConfigError with the nearest name where a value is no choice."""
    if value not in choices:
        raise ConfigError(
            f"{field} is one of {', '.join(choices)}, not {value!r}."
            f"{did_you_mean(value, choices)}"
        )
