"""The model as pure functions of `Params`: what it is, the forward pass, the loss."""

from charjax.model.forward import Output, apply, forward
from charjax.model.loss import ChunkLoss, chunk_loss, loss
from charjax.model.noise import Noise
from charjax.model.params import Params, init, initial_carry, num_parameters
from charjax.model.penalties import Penalties
from charjax.model.spec import ModelSpec, cell_of

__all__ = [
    "ChunkLoss",
    "ModelSpec",
    "Noise",
    "Output",
    "Params",
    "Penalties",
    "apply",
    "cell_of",
    "chunk_loss",
    "forward",
    "init",
    "initial_carry",
    "loss",
    "num_parameters",
]
