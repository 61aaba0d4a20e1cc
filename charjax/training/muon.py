"""Muon for recurrent layers: orthogonal updates, gate by gate."""

import dataclasses
from typing import Any

import jax
import optax
import optax.contrib

from charjax import cells
from charjax.model import cell_of

# Newton-Schulz steps. Four after scaling rows do what five do after dividing by the
# Frobenius norm.
_STEPS = 4
# The root mean square of an orthogonal update, as a share of the rate. Adam's updates
# are of about that size, so both can take one rate.
_RMS = 0.2


def muon(
    schedule: optax.Schedule, b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns an optimiser that gives the matrices of layers orthogonal updates.

    For the matrix W of a gate, with gradient G,

        M' = b1 M + (1 - b1) G
        U = orthogonal(b1 M' + (1 - b1) G)
        W' = W - rate (0.2 sqrt(max(W.shape)) U + weight_decay W)

    where `orthogonal` scales the rows of a matrix (of its transpose if that has fewer),
    then keeps the directions of what comes out and makes their sizes equal (by four
    Newton-Schulz steps, so up to a third): a gate learns all directions at one speed,
    also those whose gradients are small. The row X_i is divided by the square root of
    sum_j |X_i . X_j|, after which no direction is larger than 1. The gates of a layer
    lie side by side in one array and are taken apart. All other weights get Adam's
    updates at the same rate: embedding, weights of one-hot characters, biases,
    read-out.

    Args:
      schedule: the learning rate by step.
      b1: decay of the gradient's mean.
      b2: Adam's decay of the squared gradient's mean.
      eps: added to denominators.
      weight_decay: on the matrices that get orthogonal updates.

    Returns:
      The optimiser, for weights in a `Params`.

    https://kellerjordan.github.io/posts/muon/ (Jordan et al. 2024), with the scaling of
    https://arxiv.org/abs/2512.04632 (Boissin et al. 2025)
    """
    inner = optax.contrib.muon(
        schedule,
        beta=b1,
        eps=eps,
        weight_decay=weight_decay,
        ns_steps=_STEPS,
        preconditioning="aol",
        consistent_rms=_RMS,
        adam_b1=b1,
        adam_b2=b2,
        muon_weight_dimension_numbers=_dimensions,
    )

    def init(params: Any) -> Any:
        return inner.init(_by_gate(params))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        new, state = inner.update(_by_gate(updates), state, _by_gate(params))
        return jax.tree.map(lambda u, w: u.reshape(w.shape), new, updates), state

    return optax.GradientTransformation(init, update)


def _by_gate(params: Any) -> Any:
    """Returns weights in a `Params` with the matrices of layers as `w_DxGxH`."""
    size = params.spec.hidden_size

    def split(w: jax.Array, reads_characters: bool) -> jax.Array:
        if w.ndim != 2 or w.shape[1] % size or reads_characters:
            return w
        return w.reshape(len(w), -1, size)

    first, *others = params.layers
    layers = [jax.tree.map(split, first, _reads_characters(params))]
    layers += [jax.tree.map(lambda w: split(w, False), layer) for layer in others]
    return dataclasses.replace(params, layers=tuple(layers))


def _reads_characters(params: Any) -> Any:
    """Returns which weights of the first layer have a row for each character."""
    spec = params.spec
    if spec.embedding_size:
        return jax.tree.map(lambda w: False, params.layers[0])

    def shapes(input_size: int) -> Any:
        init, draw = cell_of(spec).init, cells.initializers("uniform")
        key = jax.random.key(0)
        return jax.eval_shape(
            lambda k: init(k, input_size, spec.hidden_size, draw), key
        )

    return jax.tree.map(lambda a, b: a.shape != b.shape, shapes(1), shapes(2))


def _dimensions(params: Any) -> Any:
    """Returns which axes of an array make a matrix; None for Adam's updates."""
    return jax.tree.map(
        lambda w: optax.contrib.MuonDimensionNumbers(0, 2) if w.ndim == 3 else None,
        params,
    )
