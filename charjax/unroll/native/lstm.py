"""The LSTM's compiled kernel as JAX functions: over time, and drawing text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry, CellParams, DenseParams
from charjax.cells.lstm import LSTMCarry
from charjax.unroll.precision import weight_gradient


def fits(params: CellParams, carry: Carry, z_TxBxGH: jax.Array) -> bool:
    """Returns whether the arrays are an LSTM's, in float32 and of matching shapes."""
    if not isinstance(params, DenseParams) or not isinstance(carry, LSTMCarry):
        return False
    arrays = (z_TxBxGH, params.recurrent_HxGH, *carry)
    if z_TxBxGH.ndim != 3 or any(array.dtype != jnp.float32 for array in arrays):
        return False
    T, B, H = *z_TxBxGH.shape[:2], len(params.recurrent_HxGH)
    shapes = [(T, B, 4 * H), (H, 4 * H), (B, H), (B, H)]
    return T > 0 and [array.shape for array in arrays] == shapes


@jax.custom_vjp
def unroll(
    params: DenseParams, carry: LSTMCarry, z_TxBxGH: jax.Array
) -> tuple[LSTMCarry, jax.Array]:
    """Runs the LSTM over time, each core a share of the batch; see `UnrollKernel`."""
    return _forward(params, carry, z_TxBxGH)[0]


def _forward(params: DenseParams, carry: LSTMCarry, z_TxBxGH: jax.Array) -> Any:
    states_TxBxH = jax.ShapeDtypeStruct(
        (len(z_TxBxGH), *carry.h_BxH.shape), z_TxBxGH.dtype
    )
    call = jax.ffi.ffi_call(
        "charjax_lstm_forward",
        (_like(z_TxBxGH), states_TxBxH, states_TxBxH),
        vmap_method="sequential",
        input_output_aliases={0: 0},
    )
    u_HxGH = params.recurrent_HxGH
    gates_TxBxGH, c_TxBxH, h_TxBxH = call(z_TxBxGH, u_HxGH, carry.c_BxH, carry.h_BxH)
    saved = params, carry, gates_TxBxGH, c_TxBxH, h_TxBxH
    return (LSTMCarry(c_TxBxH[-1], h_TxBxH[-1]), h_TxBxH), saved


def _backward(saved: Any, cotangents: Any) -> Any:
    params, carry, gates_TxBxGH, c_TxBxH, h_TxBxH = saved
    dcarry, dh_TxBxH = cotangents
    state_BxH = _like(carry.c_BxH)
    call = jax.ffi.ffi_call(
        "charjax_lstm_backward",
        (_like(gates_TxBxGH), state_BxH, state_BxH),
        vmap_method="sequential",
        input_output_aliases={0: 0, 5: 1, 6: 2},
    )
    dz_TxBxGH, dc_BxH, dh_BxH = call(
        gates_TxBxGH,
        params.recurrent_HxGH,
        carry.c_BxH,
        c_TxBxH,
        dh_TxBxH,
        dcarry.c_BxH,
        dcarry.h_BxH,
    )
    before_TxBxH = jnp.concatenate([carry.h_BxH[None], h_TxBxH[:-1]])
    dparams = jax.tree.map(jnp.zeros_like, params)._replace(
        recurrent_HxGH=weight_gradient(before_TxBxH, dz_TxBxGH)
    )
    return dparams, LSTMCarry(dc_BxH, dh_BxH), dz_TxBxGH


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


unroll.defvjp(_forward, _backward)


class LSTMWeights(NamedTuple):
    """A model as `draw` reads it.

    Attributes:
      z_VxGH: the first layer's projected input, by character.
      packed: all layers' weights, the lowest first, in panels as wide as the machine's
        vectors.
      bias_LxGH: all layers' biases; the first layer's is in z already.
      readout_HxV: weights of the read-out.
      bias_V: its bias.
    """

    z_VxGH: jax.Array
    packed: jax.Array
    bias_LxGH: jax.Array
    readout_HxV: jax.Array
    bias_V: jax.Array


def pack(
    layers: Sequence[DenseParams],
    z_VxGH: jax.Array,
    readout_HxV: jax.Array,
    bias_V: jax.Array,
) -> LSTMWeights:
    """Returns the weights as `draw` reads them; see `DrawKernel`."""
    first, *others = layers
    weights = [first.recurrent_HxGH]
    weights += [jnp.vstack([x.input_DxGH, x.recurrent_HxGH]) for x in others]
    hidden = len(first.recurrent_HxGH)
    widest = 16 * -(-hidden // 16)  # room for whole vectors, the widest of 16 numbers
    packed = [
        jax.ffi.ffi_call(
            "charjax_lstm_pack",
            jax.ShapeDtypeStruct((len(w_KxGH) * 4 * widest,), w_KxGH.dtype),
        )(w_KxGH)
        for w_KxGH in weights
    ]
    bias_LxGH = jnp.stack([layer.bias_GH for layer in layers])
    return LSTMWeights(z_VxGH, jnp.concatenate(packed), bias_LxGH, readout_HxV, bias_V)


def draw(
    weights: LSTMWeights,
    carry: Sequence[LSTMCarry],
    logits_BxV: jax.Array,
    noise_PxBxV: jax.Array,
    count: jax.Array,
    temperature: jax.Array,
) -> tuple[tuple[LSTMCarry, ...], jax.Array, jax.Array]:
    """Draws text; see `DrawKernel`."""
    state_Lx2xBxH = jnp.stack([jnp.stack(layer) for layer in carry])
    ids_PxB = jax.ShapeDtypeStruct(noise_PxBxV.shape[:2], jnp.int32)
    call = jax.ffi.ffi_call(
        "charjax_lstm_draw",
        (ids_PxB, _like(logits_BxV), _like(state_Lx2xBxH)),
    )
    ids_PxB, logits_BxV, state_Lx2xBxH = call(
        jnp.int32(count),
        jnp.float32(temperature),
        noise_PxBxV,
        logits_BxV,
        state_Lx2xBxH,
        *weights,
    )
    return tuple(LSTMCarry(*layer) for layer in state_Lx2xBxH), logits_BxV, ids_PxB
