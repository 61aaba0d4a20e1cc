"""The recurrent stack as a Flax Linen module, for use in an existing Flax model."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from charjax import cells
from charjax.cells.base import Carry
from charjax.model.forward import run_layers
from charjax.model.noise import Noise, noisy_layers, split_key
from charjax.model.params import init_layers, zero_carries
from charjax.model.spec import ModelSpec, cell_of
from charjax.unroll.execution import Execution
from charjax.unroll.precision import matmul_in, sum_type


class RecurrentStack(nn.Module):
    """Layers of any registered cell, unrolled over time with charjax's fast backward.

    Attributes:
      spec: cell and sizes; its fields on embedding and read-out are not used.
      noise: what training does to outputs and recurrent weights.
      execution: how the layers run.
      scheme: how weights are first drawn, `'orthogonal'` or `'uniform'`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from charjax import ModelSpec
      >>> from charjax.linen import RecurrentStack
      >>> stack = RecurrentStack(ModelSpec(cell="gru", hidden_size=8))
      >>> x_BxTxD = jnp.ones((2, 5, 3))
      >>> (h_BxTxH, carry), variables = stack.init_with_output(
      ...     jax.random.key(0), x_BxTxD
      ... )
      >>> h_BxTxH.shape
      (2, 5, 8)
    """

    spec: ModelSpec
    noise: Noise = Noise()
    execution: Execution = Execution()
    scheme: str = "orthogonal"

    @nn.compact
    def __call__(
        self, x_BxTxD: jax.Array, carry: Carry | None = None, *, train: bool = False
    ) -> tuple[jax.Array, Any]:
        """Returns `h_BxTxH` and the state after the last step.

        Args:
          x_BxTxD: the input.
          carry: the state before the first step; zero by default.
          train: apply the noise, drawn from the `dropout` stream of keys.
        """
        batch_size, _, input_size = x_BxTxD.shape
        spec, initializers = self.spec, cells.initializers(self.scheme)
        layers = self.param(
            "layers", lambda key: init_layers(key, spec, input_size, initializers)
        )
        if carry is None:
            # As wide as the sums of its products.
            dtype = sum_type(jnp.result_type(x_BxTxD, *jax.tree.leaves(layers)))
            carry = zero_carries(spec, batch_size, dtype)
        key = self.make_rng("dropout") if train else None
        if key is not None:
            layers = noisy_layers(layers, spec, input_size, self.noise, key)
        project = cell_of(spec).project
        x_TxBxD = jnp.swapaxes(x_BxTxD, 0, 1)
        z_TxBxGH = project(layers[0], x_TxBxD, matmul_in(self.execution.precision))
        h_TxBxH, _, carry = run_layers(
            layers,
            spec,
            x_TxBxD,
            z_TxBxGH,
            carry,
            self.noise,
            split_key(self.noise, key),
            self.execution,
        )
        return jnp.swapaxes(h_TxBxH, 0, 1), carry
