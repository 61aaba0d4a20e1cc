"""Compiled kernels for CPU, built on the machine where there is a C++ compiler.

`jax.lax.scan` over a small product leaves a CPU half idle: it packs the weights anew
in every step, and its threads meet in every step. A kernel runs a share of the batch
through all time steps on each core instead. One takes the place of the scan in
`charjax.unroll.scan.unroll`, and is differentiable in reverse mode, once; another that
of the loop in `charjax.predict.sample`. The numbers are the same up to rounding. What
they cannot do (another cell, precision or device) JAX does.

`build` compiles the library for this CPU when it is first needed.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells import lstm
from charjax.cells.base import Carry, Cell, CellParams, DenseParams, dense_project
from charjax.cells.lstm import LSTMCarry
from charjax.unroll.native.build import BuildError, open_library
from charjax.unroll.precision import weight_gradient


class Kernel(NamedTuple):
    """What is compiled for a cell.

    Attributes:
      fits: `(params, carry, z_TxBxGH) -> bool`, whether `unroll` can take these: arrays
        of the cell's own kind, alike in their batch, with one step or more.
      unroll: `(params, carry, z_TxBxGH) -> (carry, h)`, as `unroll.scan.unroll`.
      pack: `(layers, z_VxGH, readout_HxV, bias_V) -> weights`, a model's weights in
        the order in which `draw` reads them; z is the first layer's projected input
        for each character.
      draw: `(weights, carry, logits_BxV, noise_PxBxV, count, temperature)
        -> (carry, logits_BxV, ids_PxB)`, the first `count` characters of each text as
        in `charjax.predict.sample`, and the state and logits after them.
    """

    fits: Callable[[CellParams, Carry, jax.Array], bool]
    unroll: Callable[[CellParams, Carry, jax.Array], tuple[Carry, jax.Array]]
    pack: Callable[[Sequence[CellParams], jax.Array, jax.Array, jax.Array], Any]
    draw: Callable[..., tuple[Carry, jax.Array, jax.Array]]


_TARGETS = {
    "charjax_lstm_forward": "CharjaxLstmForward",
    "charjax_lstm_backward": "CharjaxLstmBackward",
    "charjax_lstm_pack": "CharjaxLstmPack",
    "charjax_lstm_draw": "CharjaxLstmDraw",
}


@functools.cache
def problem() -> str | None:
    """Makes the compiled library ready for use; returns why it cannot be used, or None.

    It is built where it is not in the cache. This is tried once a process.
    """
    try:
        library = open_library()
        for target, symbol in _TARGETS.items():
            handler = jax.ffi.pycapsule(getattr(library, symbol))
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except BuildError as error:
        return str(error)
    except (ValueError, AttributeError, RuntimeError) as error:
        return f"the compiled library cannot be used: {error}"
    return None


def fits_lstm(params: CellParams, carry: Carry, z_TxBxGH: jax.Array) -> bool:
    """Returns what `Kernel.fits` says, for an LSTM."""
    if not isinstance(params, DenseParams) or not isinstance(carry, LSTMCarry):
        return False
    arrays = (z_TxBxGH, params.recurrent_HxGH, *carry)
    if z_TxBxGH.ndim != 3 or any(array.dtype != jnp.float32 for array in arrays):
        return False
    T, B, H = *z_TxBxGH.shape[:2], len(params.recurrent_HxGH)
    shapes = [(T, B, 4 * H), (H, 4 * H), (B, H), (B, H)]
    return T > 0 and [array.shape for array in arrays] == shapes


@jax.custom_vjp
def unroll_lstm(
    params: DenseParams, carry: LSTMCarry, z_TxBxGH: jax.Array
) -> tuple[LSTMCarry, jax.Array]:
    """Returns what `Kernel.unroll` says, for an LSTM."""
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


unroll_lstm.defvjp(_forward, _backward)


class LSTMWeights(NamedTuple):
    """A model as `draw_lstm` reads it.

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


def pack_lstm(
    layers: Sequence[DenseParams],
    z_VxGH: jax.Array,
    readout_HxV: jax.Array,
    bias_V: jax.Array,
) -> LSTMWeights:
    """Returns what `Kernel.pack` says, for LSTMs."""
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


def draw_lstm(
    weights: LSTMWeights,
    carry: Sequence[LSTMCarry],
    logits_BxV: jax.Array,
    noise_PxBxV: jax.Array,
    count: jax.Array,
    temperature: jax.Array,
) -> tuple[tuple[LSTMCarry, ...], jax.Array, jax.Array]:
    """Returns what `Kernel.draw` says, for LSTMs."""
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


# By what a cell computes, so that one with other first weights has it too.
_KERNELS: dict[Any, Kernel] = {
    (dense_project, lstm.step): Kernel(fits_lstm, unroll_lstm, pack_lstm, draw_lstm)
}


def kernel_of(cell: Cell) -> Kernel | None:
    """Returns what is compiled for a cell, if anything is."""
    return _KERNELS.get((cell.project, cell.step))
