"""The model, noise and execution that a configuration describes."""

import dataclasses

from charjax.config import SHAPE, Config
from charjax.model import ModelSpec, Noise
from charjax.unroll import Execution


def model_spec(config: Config) -> ModelSpec:
    """Returns the shape of the model.

    Args:
      config: a checked configuration.

    Raises:
      ConfigError: the cell is unknown, or two values do not go together.
    """
    return ModelSpec(**{name: config.model[name] for name in SHAPE})


def noise(config: Config) -> Noise:
    """Returns the noise of a training step.

    Args:
      config: a checked configuration.
    """
    fields = [field.name for field in dataclasses.fields(Noise)]
    return Noise(**{name: config.model[name] for name in fields})


def execution(config: Config) -> Execution:
    """Returns how the model runs in training.

    Args:
      config: a checked configuration.
    """
    return Execution(
        precision=config.model.dtype,
        unroll=config.model.kernel,
        segment_length=config.train.segment_length,
    )
