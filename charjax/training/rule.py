"""The rule by which a configuration's steps change the state of a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax.sharding import Mesh

from charjax.config import Config
from charjax.model import Params
from charjax.training import averages
from charjax.training.averages import Averaging
from charjax.training.configured import execution, frozen, noise, penalties
from charjax.training.optimizer import make_optimizer, make_schedule
from charjax.training.step import TrainStep, make_train_step


class Rule(NamedTuple):
    """What a training step is made of, and the step.

    Attributes:
      schedule: the learning rate by step.
      optimizer: the update rule.
      averaging: which average of the weights is kept, None for none.
      train_step: the step, as `make_train_step` returns it.
    """

    schedule: Callable[[Any], Any]
    optimizer: optax.GradientTransformation
    averaging: Averaging | None
    train_step: TrainStep


def make_rule(
    config: Config,
    params: Params,
    *,
    steps_per_epoch: int,
    total_steps: int,
    schedule: optax.Schedule | None = None,
    mesh: Mesh | None = None,
) -> Rule:
    """Returns the rule of a configuration.

    Args:
      config: the checked configuration. Its numbers may be a `PerMember` of
        `charjax.sweep`, where they differ among models that are trained in one call.
      params: the model.
      steps_per_epoch: training steps that read the train split once.
      total_steps: the last step.
      schedule: the learning rate by step, in place of the configuration's.
      mesh: the devices that share the lanes, None for one.
    """
    schedule = schedule or make_schedule(
        config.optimizer, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    optimizer = make_optimizer(
        config.optimizer,
        schedule,
        seq_length=config.data.seq_length,
        is_frozen=frozen(params, config.train.freeze),
    )
    averaging = averages.averaging(config.optimizer, steps_per_epoch)
    train_step = make_train_step(
        optimizer,
        steps_per_epoch=steps_per_epoch,
        reset_rate=config.train.reset_rate,
        averaging=averaging,
        noise=noise(config, params),
        penalties=penalties(config),
        execution=execution(config),
        mesh=mesh,
    )
    return Rule(schedule, optimizer, averaging, train_step)
