"""The state of a run: what it holds, where it lies, and what is saved of it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from charjax import checkpoint, parallel
from charjax.cells.base import Carry
from charjax.checkpoint import Verified
from charjax.model import Params, initial_carry
from charjax.training.averages import Averages, Averaging


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class TrainState:
    """The whole state of a run: with the text it determines all further steps.

    A checkpoint holds every field, by iterating over them.

    Attributes:
      step: steps taken, int32; with the text it gives the position in the data.
      params: the model.
      opt_state: the optimiser's memory.
      carry: the recurrent state after the last chunk.
      key: the run's one base key; step n draws from `fold_in(key, n)`.
      averages: of the weights; None without them.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    carry: Carry
    key: jax.Array
    averages: Averages | None

    @property
    def model(self) -> Params:
        """The weights to predict with: the averages, or those of the last step."""
        return self.params if self.averages is None else self.averages.weights


def create_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    batch_size: int,
    averaging: Averaging | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
      params: the model.
      optimizer: the update rule.
      key: the base key of all random draws.
      batch_size: B, the number of lanes.
      averaging: which average of the weights is kept; none by default.
    """
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=optimizer.init(params),  # pyright: ignore[reportArgumentType]
        carry=initial_carry(params, batch_size),
        key=key,
        averages=averaging and averaging.begin(params),
    )


def spread(state: TrainState, mesh: Mesh | None) -> TrainState:
    """Returns a state as it lies on the devices that share the lanes."""
    carry = parallel.spread(state.carry, mesh, parallel.LANES)
    state = parallel.spread(
        dataclasses.replace(state, carry=None), mesh, parallel.WHOLE
    )
    return dataclasses.replace(state, carry=carry)


def saved_parts(state: TrainState) -> tuple[Params, dict[str, Any]]:
    """Returns the model that a checkpoint holds, and all else by name.

    They do not depend on how many devices share the lanes.
    """
    fields = dataclasses.fields(state := _exchanged(state))
    others = {f.name: getattr(state, f.name) for f in fields if f.name != "params"}
    return state.params, others


def _exchanged(state: TrainState) -> TrainState:
    """Returns the state with averaged weights and weights in each other's place.

    The weights to predict with are the model of a checkpoint.
    """
    if state.averages is None:
        return state
    averages = dataclasses.replace(state.averages, weights=state.params)
    return dataclasses.replace(state, params=state.averages.weights, averages=averages)


def restore_state(saved: Path | Verified, template: TrainState) -> TrainState:
    """Returns the state that a checkpoint holds, on the current default device.

    Args:
      saved: the checkpoint.
      template: a state of the same fields and shapes.
    """
    params, others = checkpoint.restore(saved, *saved_parts(template))
    return _exchanged(dataclasses.replace(template, params=params, **others))
