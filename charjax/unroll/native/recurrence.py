"""The compiled kernels as JAX functions: a layer over time, and drawing text."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from charjax.cells.base import Carry, CellParams, DenseParams
from charjax.cells.gru import GRUParams
from charjax.cells.lstm import LSTMCarry
from charjax.unroll.native.product import packed_size, row_size
from charjax.unroll.native.product import weight_gradient as rounded_weight_gradient
from charjax.unroll.precision import weight_gradient


class Kind(NamedTuple):
    """A cell and a precision for which the library has kernels.

    Attributes:
      cell: its name there.
      params: the type of its weights.
      gates: how many gates its weights have side by side.
      num_saved: arrays that its forward pass saves beside its states.
      has_memory: whether its state is an `LSTMCarry`, not `h_BxH` alone.
      precision: of the products.
    """

    cell: str
    params: type[DenseParams] | type[GRUParams]
    gates: int
    num_saved: int
    has_memory: bool
    precision: str

    def call(self, verb: str, *shapes: tuple[int, ...], **options: Any) -> Any:
        """Returns the library's function of this name, given its results' shapes."""
        results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        if verb == "draw":
            results[0] = jax.ShapeDtypeStruct(shapes[0], jnp.int32)
        call = jax.ffi.ffi_call(f"charjax_{verb}", results, **options)
        is_bfloat16 = self.precision == "bfloat16"
        return partial(call, cell=self.cell, bfloat16=is_bfloat16)

    @property
    def has_reset_bias(self) -> bool:
        """Whether a bias is added to the recurrent product, inside a gate."""
        return self.params is GRUParams

    def states(self, carry: Carry) -> tuple[jax.Array, jax.Array]:
        """Returns `c_BxH`, which is empty without a memory, and `h_BxH`."""
        return carry if self.has_memory else (carry[:, :0], carry)

    def carry(self, c_BxH: jax.Array, h_BxH: jax.Array) -> Carry:
        """Returns these states as the cell has them."""
        return LSTMCarry(c_BxH, h_BxH) if self.has_memory else h_BxH


KINDS = {
    (cell, precision): Kind(cell, params, gates, num_saved, has_memory, precision)
    for cell, params, gates, num_saved, has_memory in (
        ("lstm", DenseParams, 4, 4, True),
        ("gru", GRUParams, 3, 4, False),
        ("rnn", DenseParams, 1, 0, False),
    )
    for precision in ("float32", "bfloat16")
}


def fits(kind: Kind, params: CellParams, carry: Carry, z_TxBxGH: Any) -> bool:
    """Returns whether arrays are such a cell's, in float32 and of matching shapes."""
    if not isinstance(params, kind.params):
        return False
    if isinstance(carry, LSTMCarry) != kind.has_memory:
        return False
    states = jax.tree.leaves(carry)
    arrays = (z_TxBxGH, *params[1:], *states)
    if z_TxBxGH.ndim != 3 or any(array.dtype != jnp.float32 for array in arrays):
        return False
    T, B, H, G = *z_TxBxGH.shape[:2], len(params.recurrent_HxGH), kind.gates
    shapes = [(T, B, G * H), (H, G * H), (G * H,)]
    shapes += [(H,)] * (len(params) - 3) + [(B, H)] * len(states)
    return T > 0 and [array.shape for array in arrays] == shapes


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def unroll(
    kind: Kind, params: CellParams, carry: Carry, z_TxBxGH: jax.Array
) -> tuple[Carry, jax.Array]:
    """Runs a layer over time, each core a share of the batch; see `UnrollKernel`."""
    return _forward(kind, params, carry, z_TxBxGH)[0]


def _forward(kind: Kind, params: CellParams, carry: Carry, z_TxBxGH: jax.Array) -> Any:
    c_BxH, h_BxH = kind.states(carry)
    T, B, H, precision = len(z_TxBxGH), *h_BxH.shape, kind.precision
    aliases = {}
    if kind.num_saved in (0, kind.gates):
        # What is saved takes the place of z, or else the outputs do.
        aliases = {0: 0 if kind.num_saved else 2}
    call = kind.call(
        "forward",
        (T, B, kind.num_saved * H),
        (T, *c_BxH.shape),
        (T, B, H),
        (kind.gates * packed_size(H, H, precision) + B * row_size(H, precision),),
        vmap_method="sequential",
        input_output_aliases=aliases,
    )
    bias_H = params.reset_bias_H if kind.has_reset_bias else jnp.zeros(0)
    saved_TxBxSH, c_TxBxH, h_TxBxH, _ = call(
        z_TxBxGH, params.recurrent_HxGH, bias_H, c_BxH, h_BxH
    )
    last = kind.carry(c_TxBxH[-1], h_TxBxH[-1])
    return (last, h_TxBxH), (params, carry, saved_TxBxSH, c_TxBxH, h_TxBxH)


def _backward(kind: Kind, saved: Any, cotangents: Any) -> Any:
    params, carry, saved_TxBxSH, c_TxBxH, h_TxBxH = saved
    dcarry, dh_TxBxH = cotangents
    (c_BxH, h_BxH), (dc_BxH, dh_BxH) = kind.states(carry), kind.states(dcarry)
    T, B, H = h_TxBxH.shape
    columns, precision = kind.gates * H, kind.precision
    # The derivatives with respect to z and to the recurrent product differ where a gate
    # is in between. They take the place of what is saved, or else of that of h.
    dz_shape = T, B, kind.gates * H
    dy_shape = dz_shape if kind.has_reset_bias else (T, B, 0)
    aliases = {7: 2, 8: 3}
    if kind.num_saved in (0, kind.gates):
        aliases[0 if kind.num_saved else 6] = 0
    call = kind.call(
        "backward",
        dz_shape,
        dy_shape,
        c_BxH.shape,
        h_BxH.shape,
        (packed_size(columns, H, precision) + B * row_size(columns, precision),),
        vmap_method="sequential",
        input_output_aliases=aliases,
    )
    u_HxGH = params.recurrent_HxGH
    dz_TxBxGH, dy_TxBxGH, dc0_BxH, dh0_BxH, _ = call(
        saved_TxBxSH, u_HxGH, c_BxH, c_TxBxH, h_BxH, h_TxBxH, dh_TxBxH, dc_BxH, dh_BxH
    )
    before_TxBxH = jnp.concatenate([h_BxH[None], h_TxBxH[:-1]])
    dparams = jax.tree.map(jnp.zeros_like, params)
    if kind.has_reset_bias:
        dbias_H = jnp.sum(dy_TxBxGH[..., 2 * H :], axis=(0, 1))
        dparams = dparams._replace(reset_bias_H=dbias_H)
    else:
        dy_TxBxGH = dz_TxBxGH
    gradient = weight_gradient
    if kind.precision == "bfloat16":
        gradient = rounded_weight_gradient
    dparams = dparams._replace(recurrent_HxGH=gradient(before_TxBxH, dy_TxBxGH))
    return dparams, kind.carry(dc0_BxH, dh0_BxH), dz_TxBxGH


unroll.defvjp(_forward, _backward)


class DrawWeights(NamedTuple):
    """A model as `draw` reads it.

    Attributes:
      z_VxGH: the first layer's projected input, by character.
      packed_MxS: all layers' weights, the lowest first, in panels as wide as the
        machine's vectors.
      bias_LxGH: all layers' biases; the first layer's is in z already.
      reset_bias_LxH: those of the recurrent products, or empty.
      packed_readout_S: weights of the read-out.
      bias_V: its bias.
    """

    z_VxGH: jax.Array
    packed_MxS: jax.Array
    bias_LxGH: jax.Array
    reset_bias_LxH: jax.Array
    packed_readout_S: jax.Array
    bias_V: jax.Array


def pack(
    kind: Kind,
    layers: Sequence[Any],
    z_VxGH: jax.Array,
    readout_HxV: jax.Array,
    bias_V: jax.Array,
) -> DrawWeights:
    """Returns the weights as `draw` reads them; see `DrawKernel`."""
    first, *others = layers
    weights = [first.recurrent_HxGH]
    weights += [w for x in others for w in (x.input_DxGH, x.recurrent_HxGH)]
    biases = [
        x.reset_bias_H if kind.has_reset_bias else jnp.zeros(0, jnp.float32)
        for x in layers
    ]
    return DrawWeights(
        z_VxGH,
        jnp.stack([_pack(kind, w_HxGH) for w_HxGH in weights]),
        jnp.stack([x.bias_GH for x in layers]),
        jnp.stack(biases),
        _pack(KINDS["rnn", kind.precision], readout_HxV),
        bias_V,
    )


def _pack(kind: Kind, w_HxGN: jax.Array) -> jax.Array:
    rows, columns = w_HxGN.shape
    size = kind.gates * packed_size(rows, columns // kind.gates, kind.precision)
    return kind.call("pack", (size,))(w_HxGN)[0]


def draw(
    kind: Kind,
    weights: DrawWeights,
    carry: Sequence[Carry],
    logits_BxV: jax.Array,
    noise_PxBxV: jax.Array,
    count: jax.Array,
    temperature: jax.Array,
    cut: Sequence[Any],
) -> tuple[tuple[Carry, ...], jax.Array, jax.Array]:
    """Draws text; see `DrawKernel`."""
    state_LxSxBxH = jnp.stack([jnp.stack(jax.tree.leaves(layer)) for layer in carry])
    call = kind.call(
        "draw", noise_PxBxV.shape[:2], logits_BxV.shape, state_LxSxBxH.shape
    )
    ids_PxB, logits_BxV, state_LxSxBxH = call(
        jnp.int32(count),
        jnp.float32(temperature),
        jnp.array(cut, jnp.float32),
        noise_PxBxV,
        logits_BxV,
        state_LxSxBxH,
        *weights,
    )
    carry = tuple(kind.carry(layer[0], layer[-1]) for layer in state_LxSxBxH)
    return carry, logits_BxV, ids_PxB
