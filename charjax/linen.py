"""The recurrent stack as a Flax Linen module, to drop into an existing Flax model."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from charjax import cells, model
from charjax.cells.base import Carry
from charjax.unroll.precision import sum_type


class RecurrentStack(nn.Module):
    """Layers of any registered cell, scanned over time with charjax's fast backward.

    Attributes:
      spec: cell, sizes, dropout and precision; its embedding fields are not used.
      scheme: how weights are first drawn, `'orthogonal'` or `'uniform'`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import ModelSpec
      >>> from charjax.linen import RecurrentStack
      >>> stack = RecurrentStack(ModelSpec(cell="gru", hidden_size=8))
      >>> x_BxTxD = jnp.ones((2, 5, 3))
      >>> h_BxTxH, variables = stack.init_with_output(jax.random.key(0), x_BxTxD)
      >>> h_BxTxH[0].shape
      (2, 5, 8)
    """

    spec: model.ModelSpec
    scheme: str = "orthogonal"

    @nn.compact
    def __call__(
        self, x_BxTxD: jax.Array, carry: Carry | None = None, *, train: bool = False
    ) -> tuple[jax.Array, Any]:
        """Returns `h_BxTxH` and the state after the last step.

        Args:
          x_BxTxD: the input.
          carry: the state before the first step; zero by default.
          train: drop units, drawing from the `dropout` stream of keys.
        """
        batch_size, _, input_size = x_BxTxD.shape
        spec, draw = self.spec, model.initializers(self.scheme)
        layers = self.param(
            "layers", lambda key: model.init_layers(key, spec, input_size, draw)
        )
        if carry is None:
            cell = cells.get(spec.cell)
            # As wide as the sums of its products.
            dtype = sum_type(jnp.result_type(x_BxTxD, *jax.tree.leaves(layers)))
            zero = cell.initial_carry(batch_size, spec.hidden_size, dtype)
            carry = (zero,) * spec.num_layers
        key = self.make_rng("dropout") if train else None
        x_TxBxD = jnp.swapaxes(x_BxTxD, 0, 1)
        h_TxBxH, carry = model.run_layers(layers, spec, x_TxBxD, carry, key)
        return jnp.swapaxes(h_TxBxH, 0, 1), carry
