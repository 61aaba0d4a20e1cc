"""What only training does to a model: dropout of units, characters and weights."""

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.wrap import Share, bernoulli
from charjax.errors import ConfigError, check_choice
from charjax.fields import FIELDS
from charjax.model.params import Params, readout_weights
from charjax.model.spec import ModelSpec, cell_of
from charjax.unroll.scan import recurrent_weights

# Outputs are masked by fold_in(key, layer), all else by keys that no layer reaches.
_CHARACTERS, _WEIGHTS, _ZONEOUT = 2**32 - 1, 2**32 - 2, 2**32 - 3


@dataclasses.dataclass(frozen=True)
class Noise:
    """The random changes of a training step. Static, like an `Execution`.

    What is not dropped is scaled up to keep the mean.

    Attributes:
      dropout: share of units set to zero, on the input of every layer but the first
        and on the output of the last.
      dropout_mode: `'each_step'` draws a mask for each time step, `'locked'` one for
        each sequence (https://arxiv.org/abs/1512.05287).
      embedding_dropout: share of units set to zero in the embedded characters.
      character_dropout: share of characters whose vector is zero, wherever they occur
        in the batch (the embedding dropout of https://arxiv.org/abs/1512.05287 and
        AWD-LSTM). A tied read-out keeps all vectors.
      weight_dropout: share of recurrent weights set to zero, the same ones at every
        step of every text (the DropConnect of AWD-LSTM,
        https://arxiv.org/abs/1708.02182). The recurrent weights are the matrices that
        a cell's `step` passes to `matmul` unchanged.

    Raises:
      ConfigError: a value is unknown or out of range.

    Example:
      >>> import charjax, jax
      >>> vocab = charjax.Vocab.of("hello world")
      >>> params = charjax.init(jax.random.key(0), charjax.ModelSpec(), vocab)
      >>> ids_BxT = vocab.encode("hello")[None]
      >>> noise, key = charjax.Noise(dropout=0.5), jax.random.key(1)
      >>> logits, carry = charjax.apply(params, ids_BxT, noise=noise, key=key)
    """

    dropout: float = 0.0
    dropout_mode: str = "each_step"
    embedding_dropout: float = 0.0
    character_dropout: float = 0.0
    weight_dropout: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rate, name = getattr(self, field.name), f"model.{field.name}"
            rule = FIELDS[name].rule
            assert rule is not None
            if rule.choices:
                check_choice(name, rate, rule.choices)
            elif not (isinstance(rate, numbers.Real) and rule.accepts(rate)):
                raise ConfigError(
                    f"{name} must be {rule.words}; got {rate!r:.100}. Try 0.5."
                )


def check_noise(params: Params, noise: Noise) -> None:
    """Raises a ConfigError if a model lacks a part that the noise changes."""
    for name in ("embedding_dropout", "character_dropout"):
        rate = getattr(noise, name)
        if rate and params.embedding_VxE is None:
            raise ConfigError(
                f"model.{name} must be 0 without an embedding; got {rate}. Try "
                "model.embedding_size=64."
            )
    if noise.weight_dropout:
        _recurrent_leaves(params.layers, params.spec, _input_size(params), noise)


def noisy_weights(
    params: Params, noise: Noise | None, key: jax.Array | None
) -> tuple[Params, Noise | None]:
    """Returns a model with a chunk's masks on its weights, and the rest of the noise.

    Args:
      params: the model.
      noise: what to draw; None for nothing.
      key: draws the masks.

    Raises:
      ConfigError: the noise has no key, or changes a part that the model lacks.
    """
    if noise is None:
        return params, None
    if key is None:
        raise ConfigError("noise must come with a key. Try key=jax.random.key(0).")
    check_noise(params, noise)
    layers = noisy_layers(params.layers, params.spec, _input_size(params), noise, key)
    params = dataclasses.replace(params, layers=layers)
    if noise.character_dropout:
        embedding_VxE: Any = params.embedding_VxE
        key_characters = jax.random.fold_in(key, _CHARACTERS)
        rate, mask_shape = noise.character_dropout, (len(embedding_VxE), 1)
        params = dataclasses.replace(
            params,
            embedding_VxE=_drop(embedding_VxE, key_characters, rate, mask_shape),
            readout_HxV=readout_weights(params),
        )
    return params, dataclasses.replace(noise, character_dropout=0.0, weight_dropout=0.0)


def noisy_layers(
    layers: tuple[Any, ...],
    spec: ModelSpec,
    input_size: int,
    noise: Noise,
    key: jax.Array,
) -> tuple[Any, ...]:
    """Returns each layer's cell params with a mask on the recurrent weights.

    Raises:
      ConfigError: the cell has no recurrent weights.
    """
    if not noise.weight_dropout:
        return layers
    key_weights, noisy = jax.random.fold_in(key, _WEIGHTS), []
    recurrent = _recurrent_leaves(layers, spec, input_size, noise)
    for i, layer in enumerate(layers):
        weights, treedef = jax.tree.flatten(layer)
        key_layer = jax.random.fold_in(key_weights, i)
        for leaf in recurrent[i]:
            key_leaf, w = jax.random.fold_in(key_layer, leaf), weights[leaf]
            weights[leaf] = _drop(w, key_leaf, noise.weight_dropout, w.shape)
        noisy.append(jax.tree.unflatten(treedef, weights))
    return tuple(noisy)


def _recurrent_leaves(
    layers: tuple[Any, ...], spec: ModelSpec, input_size: int, noise: Noise
) -> list[frozenset[int]]:
    """Returns which weights of each layer weight dropout changes."""
    sizes = spec.input_sizes(input_size)
    found = [
        recurrent_weights(cell_of(spec), layer, size, spec.hidden_size)
        for layer, size in zip(layers, sizes, strict=True)
    ]
    if not all(found):
        raise ConfigError(
            "model.weight_dropout must be 0 for a cell whose step multiplies by no "
            f"matrix of its own; got {noise.weight_dropout} with {spec.cell!r}. Try "
            "model.dropout."
        )
    return found


def _input_size(params: Params) -> int:
    return params.spec.embedding_size or len(params.vocab)


class Keys(NamedTuple):
    """The keys of the masks that a forward pass draws; None where it draws none.

    Attributes:
      embedding: of the mask on embedded characters.
      layers: of those on the layers' outputs.
      zoneout: of those on the layers' states.
      share: which texts of a batch they mask; None for all.
    """

    embedding: jax.Array | None = None
    layers: jax.Array | None = None
    zoneout: jax.Array | None = None
    share: Share | None = None


def split_key(
    noise: Noise | None,
    key: jax.Array | None,
    *,
    has_embedding: bool = False,
    segment: Any = None,
    share: Share | None = None,
) -> Keys:
    """Returns the keys of a forward pass; none without noise.

    Args:
      noise: what is drawn.
      key: of the whole chunk.
      has_embedding: whether the model has one.
      segment: which part of the chunk is read, if it is not read as a whole.
      share: which texts of a batch are read; None for all.
    """
    if noise is None or key is None:
        return Keys()
    key_steps = key if segment is None else jax.random.fold_in(key, segment)
    key_zoneout = jax.random.fold_in(key_steps, _ZONEOUT)
    # A locked mask is one for the whole chunk; others differ by segment.
    key = key if noise.dropout_mode == "locked" else key_steps
    if not has_embedding:
        return Keys(None, key, key_zoneout, share)
    key_layers, key_embedding = jax.random.split(key)
    return Keys(key_embedding, key_layers, key_zoneout, share)


def dropout(
    x_TxBxH: jax.Array,
    key: jax.Array,
    rate: float,
    mode: str,
    share: Share | None = None,
) -> jax.Array:
    """Sets a share of the units to zero and scales the others up to keep the mean."""
    if not rate:
        return x_TxBxH
    shape = x_TxBxH.shape if mode == "each_step" else (1, *x_TxBxH.shape[1:])
    return _kept(x_TxBxH, bernoulli(key, 1 - rate, shape, share), rate)


def _drop(
    x: jax.Array, key: jax.Array, rate: float, mask_shape: tuple[int, ...]
) -> jax.Array:
    return _kept(x, bernoulli(key, 1 - rate, mask_shape), rate)


def _kept(x: jax.Array, keep: jax.Array, rate: float) -> jax.Array:
    # XLA multiplies by the reciprocal of a constant. Written out, so that a rate that
    # is an input, as in `charjax.sweep.stacked`, gives the same bits.
    return jnp.where(keep, x * (1 / jnp.asarray(1 - rate, x.dtype)), 0)
